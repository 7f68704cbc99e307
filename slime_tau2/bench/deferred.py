"""A module that is imported when one of its functions is called.

tau2 imports litellm in one module, `utils.llm_utils`, and nothing that this package takes of tau2 calls a model:
agents, users and judges are asked by clients of our own. litellm was half of the CPU of a process that reads a
tokenizer and tau2, and 128 MiB of its memory.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands in `sys.modules` for a module that is not imported yet.

    Its functions are there at once; to call one imports the module and calls its own. Any other name imports it too, so
    nobody sees a difference but in time.

    Args:
        name: of the module.
        source: its text; read, not run, for the names of its functions.
        load: imports the module, in place of this one, and returns it; called each time.
    """

    def __init__(self, name: str, source: str, load: Callable[[], ModuleType]):
        super().__init__(name)
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        self._functions = frozenset(node.name for node in ast.parse(source).body if isinstance(node, functions))
        self._load = load

    def __getattr__(self, name: str) -> Any:
        if name in self._functions:
            return self._deferred(name)
        if name.startswith("__"):  # the import system's questions
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._load(), name)

    def _deferred(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            return getattr(self._load(), name)(*args, **options)

        call.__name__ = call.__qualname__ = name
        call.__module__ = self.__name__
        return call
