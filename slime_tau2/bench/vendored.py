"""The import of one module of the vendored copy, which imports the wheel that it came in: past that wheel's `__init__`,
which imports an agent framework under pytest.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

from slime_tau2.vintage import locations

WHEEL = "eval_protocol"


class PastItsWheel(MetaPathFinder):
    """Finds the module `name`, for `sys.meta_path`."""

    def __init__(self, name: str):
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == self.name else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        if WHEEL in sys.modules:
            super().exec_module(module)
            return
        bare = types.ModuleType(WHEEL)
        bare.__path__ = [str(p) for p in locations(WHEEL)]
        sys.modules[WHEEL] = bare
        try:
            super().exec_module(module)
        finally:
            for name in [m for m in list(sys.modules) if m.split(".")[0] == WHEEL]:
                sys.modules.pop(name, None)  # whoever wants the real package still gets it
