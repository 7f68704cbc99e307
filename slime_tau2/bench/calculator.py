"""tau2's tool `calculate` evaluates what a model writes; here `guards` looks at it first, in every toolkit."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    """Wrap `calculate` where a toolkit class or one above it defines it. Idempotent.

    Toolkits that are imported after `guard_all` pass here when `episode.environments` builds their environment.
    """
    for cls in toolkit.__mro__:
        calculate = vars(cls).get("calculate")
        if calculate is not None and not hasattr(calculate, "__guarded__"):
            cls.calculate = _guarded(calculate)  # type: ignore[attr-defined]


def guard_all(toolkit: type = ToolKitBase) -> None:
    """Guard a toolkit class and every class below it that exists."""
    guard(toolkit)
    subclasses: list[type] = toolkit.__subclasses__()
    for cls in subclasses:
        guard_all(cls)
