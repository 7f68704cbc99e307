"""What a task is before it is tau2's: what the user wants and knows, what the agent has to do, and why the policy
says so.

A family looks at a `case.Case` and hands back a `Wish`. One or more wishes of one user are a `Draft`. `stories` puts a
draft into words, and `build` makes tau2's task of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from slime_tau2.errors import FactoryError
from slime_tau2.factory.rules import Finding

if TYPE_CHECKING:
    from slime_tau2 import bench

Outcome = Literal["done", "refused", "transferred"]


TRANSFER = "transfer_to_human_agents"
"""tau2's tool by which the agent hands the user over to a person, in every domain."""
ACCEPTS_A_PERSON = (
    "If you are handed over to a person, that is fine with you.",
    "You want this to be taken care of, by a person if need be.",
    "If the agent cannot do it, you agree to talk to somebody who can.",
)
"""Instructions of a user who may be handed over."""


class Told(StrEnum):
    """When the user says a fact."""

    AT_ONCE = "at once"
    ASKED = "when asked"
    FORGOTTEN = "not remembered"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One gold call.

    Attributes:
        requestor: "assistant", or "user" for a tool of the user's own.
        write: whether the call changes a database.
        free: arguments that the reward does not depend on, such as the summary of a transfer.
        any_order: list arguments whose order the user does not care about while the end state may depend on it. Lists
            named together keep their items paired.
        in_order: list arguments of several items whose order the user says.
        errs: the call is meant to fail, and the agent to go on from there.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    requestor: Literal["assistant", "user"] = "assistant"
    write: bool = False
    free: tuple[str, ...] = ()
    any_order: tuple[str, ...] = ()
    in_order: tuple[str, ...] = ()
    errs: bool = False

    def canonical(self) -> str:
        """The call as text: what it does, but for its free arguments and its lists' order."""
        kept = {name: value for name, value in self.arguments.items() if name not in self.free}
        lists = [name for name in self.any_order if name in kept]
        if lists:
            paired = zip(*(kept.pop(name) for name in lists), strict=True)
            pairs = sorted(paired, key=lambda items: json.dumps(items, sort_keys=True))
            kept[" ".join(lists)] = pairs
        return f"{self.requestor} {self.name} {json.dumps(kept, sort_keys=True)}"


def read(name: str, **arguments: Any) -> Call:
    """A gold call that only looks."""
    return Call(name=name, arguments=arguments)


def write(name: str, *, any_order: tuple[str, ...] = (), in_order: tuple[str, ...] = (), **arguments: Any) -> Call:
    """A gold call of the agent that changes a database."""
    return Call(name=name, arguments=arguments, write=True, any_order=any_order, in_order=in_order)


def hand_over(summary: str) -> Call:
    """The gold call of a transfer to a person; what the summary says is free."""
    return Call(name=TRANSFER, arguments={"summary": summary}, free=("summary",))


@dataclass(frozen=True)
class Fact:
    """One thing that the user may know.

    Attributes:
        name: what it is, such as "your email address", to be put into "You cannot recall …" and "Tell … only when you
            are asked".
        words: a sentence that says it to the user model: "Your order number is #W123."
        told: when the user says it. A forgotten fact's words are never written.
    """

    name: str
    words: str
    told: Told = Told.ASKED


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One thing that the user wants, and what has to come of it.

    Attributes:
        reason: what the user wants, in the second person, with what is told at once: "You want to cancel …".
        about: the wish in a few words, for tasks of several: "the cancellation", as in "As for the cancellation: …".
        calls: the gold calls in order, reads and writes.
        findings: the rules that the wish touches. All hold if the outcome is "done", else at least one does not.
        outcome: what a right agent makes of the wish.
        facts: what the user knows about it beside the reason.
        instructions: how the user goes on: changes of mind, what else would do, what to do when refused. Whole
            sentences in the second person.
        tells: what the user must be told, as text that has to appear in the agent's words (tau2's communicate_info).
        topic: what tells a wish without calls and tells from others of its family in the draft's key.
        entities: ids of all records that the wish touches.
        setup: calls of the environment's functions before the conversation (telecom's faults).
        data: tau2's InitializationData of the task, in domains whose databases are filled by it.
        notes: what the domain's own user has to know of the wish, for `Factory.notes`.
        assertions: what must hold at the end, where the reward's basis has assertions.
        tried: rules that stand in the way of what the user would rather have, or asks for at first; some do not hold.
        after: the user brings it up only when all earlier wishes are dealt with, because they decide what comes of it.
        sensitive: ids of what decides the wish and other wishes may change, such as a gift card's balance. If another
            wish has one of them among its entities, the user brings up one wish at a time.
        family: which family made it; the factory writes it.
    """

    reason: str
    about: str = ""
    calls: tuple[Call, ...] = ()
    findings: tuple[Finding, ...] = ()
    outcome: Outcome = "done"
    facts: tuple[Fact, ...] = ()
    instructions: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    topic: str = ""
    entities: frozenset[str] = frozenset()
    setup: tuple[bench.EnvFunctionCall, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    assertions: tuple[bench.EnvAssertion, ...] = ()
    tried: tuple[Finding, ...] = ()
    after: bool = False
    sensitive: frozenset[str] = frozenset()
    family: str = ""

    def writes(self) -> list[Call]:
        """The gold calls that change a database."""
        return [call for call in self.calls if call.write]

    def hidden(self) -> int:
        """How many facts the user does not tell at once."""
        return sum(fact.told is not Told.AT_ONCE for fact in self.facts)

    def broken(self) -> list[str]:
        """Names of the rules that do not hold."""
        return [finding.rule for finding in self.findings if not finding.holds]

    def check(self) -> None:
        """Compare outcome, findings and calls.

        Raises:
            FactoryError: they contradict each other.
        """
        if (self.outcome == "done") == bool(self.broken()):
            raise FactoryError(
                f"{self.family}: the outcome is {self.outcome!r}, rules that do not hold: {self.broken()}"
            )
        if self.outcome != "done" and self.writes():
            raise FactoryError(f"{self.family}: a wish that is {self.outcome} has writes")


@dataclass(frozen=True)
class Identity:
    """How the agent finds out who the user is: what the user knows of itself, the gold calls, the rules touched."""

    facts: tuple[Fact, ...]
    calls: tuple[Call, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A whole task before it is tau2's.

    Attributes:
        owner: whom the task is about; a held-out split has other owners.
        one_by_one: the outcome depends on the order of the wishes, so that the user brings up one at a time.
        scene: calls of the environment's functions that come before the wishes' set-up.
        guards: what must hold at the end beside the wishes' assertions.
        data: tau2's InitializationData that the wishes find.
    """

    domain: str
    owner: str
    identity: Identity
    wishes: tuple[Wish, ...]
    one_by_one: bool = False
    scene: tuple[bench.EnvFunctionCall, ...] = ()
    guards: tuple[bench.EnvAssertion, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def assertions(self) -> list[bench.EnvAssertion]:
        """All that must hold at the end."""
        checks = [*(assertion for wish in self.wishes for assertion in wish.assertions), *self.guards]
        return [check for number, check in enumerate(checks) if check not in checks[:number]]

    def setup(self) -> list[bench.EnvFunctionCall]:
        """All calls of the environment's functions before the conversation."""
        return [*self.scene, *(call for wish in self.wishes for call in wish.setup)]

    def calls(self) -> list[Call]:
        """All gold calls in order; what was read once is not read again."""
        calls: list[Call] = []
        seen: set[str] = set()
        for call in (*self.identity.calls, *(call for wish in self.wishes for call in wish.calls)):
            if call.write or call.canonical() not in seen:
                calls.append(call)
            seen.add(call.canonical())
        return calls

    def writes(self) -> list[Call]:
        """The gold calls that change a database, in order."""
        return [call for call in self.calls() if call.write]

    def findings(self) -> list[Finding]:
        """What was found of each rule that the task touches, by what the user tries in vain too."""
        findings = [finding for wish in self.wishes for finding in (*wish.findings, *wish.tried)]
        return [*self.identity.findings, *findings]

    def entities(self) -> frozenset[str]:
        """Ids of all records that the task touches."""
        return frozenset({self.owner}).union(*(wish.entities for wish in self.wishes))

    def facts(self) -> list[Fact]:
        """All that the user knows, or has forgotten."""
        return [*self.identity.facts, *(fact for wish in self.wishes for fact in wish.facts)]

    def tells(self) -> list[str]:
        """What the user must be told, without repetition."""
        return list(dict.fromkeys(info for wish in self.wishes for info in wish.tells))

    @property
    def outcome(self) -> Outcome:
        """ "done" if any wish is; else "transferred" if any wish is; else "refused"."""
        outcomes = {wish.outcome for wish in self.wishes}
        for outcome in ("done", "transferred"):
            if outcome in outcomes:
                return outcome
        return "refused"

    @property
    def families(self) -> tuple[str, ...]:
        """The wishes' families in order."""
        return tuple(wish.family for wish in self.wishes)

    @cached_property
    def key(self) -> str:
        """What the task comes down to, whatever its words: no two tasks of a set have the same.

        It is whom the task is about, what has to be done, and what has to be told; where that is nothing, what is
        refused.
        """
        done = [call.canonical() for call in self.calls() if call.write or call.name == TRANSFER]
        comes_to = sorted(done) + sorted(self.tells()) or sorted([w.topic or w.family for w in self.wishes])
        data = [self.data, *(wish.data for wish in self.wishes)]
        return json.dumps([self.domain, self.owner, comes_to, [part for part in data if part]], sort_keys=True)

    @property
    def difficulty(self) -> int:
        """Writes and facts that the user does not tell at once."""
        hidden = sum(fact.told is not Told.AT_ONCE for fact in self.facts())
        return len(self.writes()) + hidden
