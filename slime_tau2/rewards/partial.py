"""Strict partial scores: how far an episode got, such that nothing but doing the task raises it.

tau2's own `action_match` compares only the arguments that a call happens to carry, so an agent that calls each tool
with `{}` gets every point. Here a gold action counts once, only for a call whose arguments equal the gold call's (on
`compare_args` where given), and only if the result is no error (unless the gold call itself errs). Writes weigh more
than reads. An env assertion counts only if it did not hold from the start. Database equality is no component: telecom's
gold replay does not even reach it.

Pure: plain values in, plain values out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WEIGHTS = {"action": 0.5, "communicate": 0.15, "env_assertion": 0.35}
WRITE_WEIGHT, READ_WEIGHT = 2.0, 1.0


@dataclass(frozen=True)
class GoldAction:
    """One gold call. `compare` names the arguments that count (None: all); `errs`: the gold call itself returns an
    error.
    """

    name: str
    requestor: str
    arguments: dict[str, Any]
    compare: tuple[str, ...] | None = None
    is_write: bool = True
    errs: bool = False

    def matches(self, call: Call) -> bool:
        if (call.name, call.requestor) != (self.name, self.requestor) or call.error != self.errs:
            return False
        if self.compare is None:
            return call.arguments == self.arguments
        return all(k in call.arguments and call.arguments[k] == self.arguments.get(k) for k in self.compare)


@dataclass(frozen=True)
class Call:
    """One call that was made, with whether its result was an error."""

    name: str
    requestor: str
    arguments: dict[str, Any]
    error: bool


@dataclass
class StrictScorer:
    """Incremental scorer of one episode: feed it calls and texts as they come, ask for `components()` at any time."""

    gold: Sequence[GoldAction]
    told: Sequence[str]
    assertions: int
    _open: list[GoldAction] = field(init=False)
    _untold: set[str] = field(init=False)
    _met: int = field(init=False, default=0)
    _met_before: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._open, self._untold = list(self.gold), set(self.told)

    def start(self, met: int) -> None:
        """How many env assertions hold before the agent has done anything: they are nobody's merit."""
        self._met = self._met_before = met

    def add_call(self, call: Call) -> None:
        for n, gold in enumerate(self._open):
            if gold.matches(call):
                del self._open[n]
                return

    def add_text(self, text: str) -> None:
        """A text that reached the user (tau2's rule: case is ignored, commas are dropped from the text only)."""
        said = text.lower().replace(",", "")
        self._untold = {info for info in self._untold if info.lower() not in said}

    def set_assertions_met(self, met: int) -> None:
        self._met = met

    def components(self) -> dict[str, float]:
        """{component: fraction in [0, 1]} of the components that the task has."""
        scores: dict[str, float] = {}
        if self.gold:
            total = sum(_weight(g) for g in self.gold)
            scores["action"] = (total - sum(_weight(g) for g in self._open)) / total
        if self.told:
            scores["communicate"] = 1 - len(self._untold) / len(set(self.told))
        if self.assertions > self._met_before:
            scores["env_assertion"] = max(0, self._met - self._met_before) / (self.assertions - self._met_before)
        return scores

    def value(self) -> float:
        return weighted(self.components(), WEIGHTS)


def _weight(gold: GoldAction) -> float:
    return WRITE_WEIGHT if gold.is_write else READ_WEIGHT


def weighted(components: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Weighted mean of the components present, weights renormalised; 0.0 when there are none."""
    total = sum(weights[k] for k in components)
    return sum(weights[k] * v for k, v in components.items()) / total if total else 0.0
