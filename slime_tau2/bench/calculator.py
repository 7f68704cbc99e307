"""tau2's `calculate` tool evaluates what a model writes: every toolkit's goes through `guards` first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from slime_tau2 import guards
from slime_tau2.bench.tau2 import ToolKitBase


def _guarded(function: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    @functools.wraps(function)
    def calculate(self: Any, expression: str) -> str:
        if guards.refuses(expression):
            raise ValueError(guards.REFUSAL)
        return function(self, expression)

    calculate.__guarded__ = True  # type: ignore[attr-defined]
    return calculate


def guard(toolkit: type) -> None:
    """Wrap `calculate` where a toolkit class or one above it defines it. Idempotent; every environment's class passes
    here.
    """
    for cls in toolkit.__mro__:
        own = vars(cls).get("calculate")
        if own is not None and not hasattr(own, "__guarded__"):
            cls.calculate = _guarded(own)  # type: ignore[attr-defined]


def _guard_all(classes: Iterable[type]) -> None:
    for cls in classes:
        guard(cls)
        _guard_all(cls.__subclasses__())


_guard_all([ToolKitBase])
