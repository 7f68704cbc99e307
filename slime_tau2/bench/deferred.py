"""A module that is imported when one of its functions is called.

tau2 imports litellm in one module, `utils.llm_utils`, and nothing that this package takes of tau2 calls a model:
agents, users and judges are asked by clients of our own. With litellm a process that reads a tokenizer and tau2 takes
1.8 times the CPU and 100 MiB more (`python tests/bench/process_start.py`).
"""

from __future__ import annotations

import ast
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def deferred(name: str, source: str) -> Iterator[None]:
    """Have the modules that are imported meanwhile take functions of the module `name` without importing it.

    To call such a function imports the module and calls its own of that name. Whoever takes anything else of it imports
    it at once. Afterwards it is imported as any other. Nothing happens where it is imported already.

    Args:
        source: its text; read, not run, for the names of its functions.
    """
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _Deferred(name, source)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


class _Deferred(ModuleType):
    """Stands in `sys.modules` for a module that is not imported yet."""

    def __init__(self, name: str, source: str):
        super().__init__(name)
        self._asynchronous = _functions(source)

    def __getattr__(self, name: str) -> Any:
        if name in self._asynchronous:
            return _function(self.__name__, name, asynchronous=self._asynchronous[name])
        if name.startswith("__"):  # the import system's questions
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@functools.cache
def _functions(source: str) -> dict[str, bool]:
    """{function of a module: whether it is asynchronous}."""
    return {
        node.name: isinstance(node, ast.AsyncFunctionDef)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _function(module: str, name: str, *, asynchronous: bool) -> Callable[..., Any]:
    """A function that imports the module when it is called, and then calls the module's own."""

    def own() -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function

    def call(*args: Any, **options: Any) -> Any:
        return own()(*args, **options)

    async def call_asynchronous(*args: Any, **options: Any) -> Any:
        return await own()(*args, **options)

    function = call_asynchronous if asynchronous else call
    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    return function
