"""Strict partial scores: how far an episode got, such that nothing but doing the task raises it.

tau2's own `action_match` compares only the arguments that a call happens to carry, so an agent that calls each tool
with `{}` gets every point. Here a gold action counts once, only for a call whose arguments equal the gold call's (on
`compare_args` where given), and only if the result is no error (unless the gold call itself errs). Writes weigh more
than reads. An env assertion counts only if it did not hold from the start. Database equality is no component: telecom's
gold replay does not even reach it.

Pure: plain values in, plain values out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WEIGHTS = {"action": 0.5, "communicate": 0.15, "env_assertion": 0.35}
"""Weights of the components. `Traits.card_weights` has the same figures by default, and is not these: it is the model
card's formula, which does not change when ours does."""
WRITE_WEIGHT = 2.0
READ_WEIGHT = 1.0
"""Weights of gold actions within their component."""


def same_arguments(made: Mapping[str, Any], gold: Mapping[str, Any], compare: Collection[str] | None) -> bool:
    """Whether a call's arguments are the gold call's.

    Args:
        compare: names of the arguments that count; None for all. As in tau2, an argument of `compare` that neither call
            has makes no difference, and one that only one of them has does, even if its value is None.
    """
    if compare is None:
        return made == gold
    return {k: v for k, v in made.items() if k in compare} == {k: v for k, v in gold.items() if k in compare}


@dataclass(frozen=True)
class Call:
    """One call that was made, with whether its result was an error."""

    name: str
    requestor: str
    arguments: dict[str, Any]
    error: bool


@dataclass(frozen=True, kw_only=True)
class GoldAction:
    """One gold call.

    Attributes:
        requestor: who makes the call, "user" or "assistant".
        compare: names of the arguments that count; None for all.
        is_write: whether tau2 types the tool as one that writes.
        errs: whether the gold call itself returns an error.
    """

    name: str
    requestor: str
    arguments: dict[str, Any]
    compare: tuple[str, ...] | None = None
    is_write: bool = True
    errs: bool = False

    def matches(self, call: Call) -> bool:
        """Whether `call` does what the gold call does, and comes out alike."""
        if (call.name, call.requestor, call.error) != (self.name, self.requestor, self.errs):
            return False
        return same_arguments(call.arguments, self.arguments, self.compare)

    @property
    def weight(self) -> float:
        """The action's share of the component `action`, relative to the other actions."""
        return WRITE_WEIGHT if self.is_write else READ_WEIGHT


@dataclass
class StrictScorer:
    """Incremental scorer of one episode: feed it calls and texts as they come, ask for `components()` at any time.

    Attributes:
        gold: the task's gold actions.
        told: what the user must be told.
        assertions: how many env assertions the task has.
    """

    gold: Sequence[GoldAction]
    told: Sequence[str]
    assertions: int
    _open: list[GoldAction] = field(init=False)
    _untold: set[str] = field(init=False)
    _total: float = field(init=False)
    _left: float = field(init=False)
    _to_tell: int = field(init=False)
    _met: int = field(init=False, default=0)
    _met_before: int = field(init=False, default=0)
    _value: float | None = field(init=False, default=None)  # since something was last fed

    def __post_init__(self) -> None:
        self._open = list(self.gold)
        self._untold = set(self.told)
        self._total = self._left = _weight(self.gold)
        self._to_tell = len(self._untold)

    def start(self, met: int) -> None:
        """Say how many env assertions hold before the agent has done anything: these earn nothing."""
        self._met = met
        self._met_before = met
        self._value = None

    def add_call(self, call: Call) -> bool:
        """Count a call for the first open gold action that it matches; returns whether there is one."""
        for n, gold in enumerate(self._open):
            if gold.matches(call):
                del self._open[n]
                self._left = _weight(self._open)
                self._value = None
                return True
        return False

    def wants(self, call: Call) -> bool:
        """Whether an open gold action matches a call. Counts nothing."""
        return any(gold.matches(call) for gold in self._open)

    def wants_tool(self, name: str, requestor: str) -> bool:
        """Whether an open gold action calls a tool, with whatever arguments."""
        return any((gold.name, gold.requestor) == (name, requestor) for gold in self._open)

    def add_text(self, text: str) -> None:
        """Count a text that reached the user (tau2's rule: case is ignored, commas are dropped from the text only)."""
        plain = text.lower().replace(",", "")
        self._untold = {info for info in self._untold if info.lower() not in plain}
        self._value = None

    def set_assertions_met(self, met: int) -> None:
        """Say how many env assertions hold now."""
        if met != self._met:
            self._met, self._value = met, None

    def components(self) -> dict[str, float]:
        """{component: fraction in [0, 1]} of the components that the task has."""
        scores: dict[str, float] = {}
        if self.gold:
            scores["action"] = (self._total - self._left) / self._total
        if self.told:
            scores["communicate"] = 1 - len(self._untold) / self._to_tell
        if self.assertions > self._met_before:
            scores["env_assertion"] = max(0, self._met - self._met_before) / (self.assertions - self._met_before)
        return scores

    def value(self) -> float:
        """The partial score, in [0, 1]."""
        if self._value is None:  # it is asked for several times per turn
            self._value = weighted(self.components(), WEIGHTS)
        return self._value


def _weight(actions: Sequence[GoldAction]) -> float:
    return sum(action.weight for action in actions)


def weighted(components: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Weighted mean of the components present, weights renormalised; 0.0 when there are none."""
    total = sum(weights[k] for k in components)
    return sum(weights[k] * v for k, v in components.items()) / total if total else 0.0
