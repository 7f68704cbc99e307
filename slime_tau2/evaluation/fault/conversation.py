"""A failed conversation beside its task: who said, did and knew what, and what the solution has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.evaluation import failures
from slime_tau2.evaluation.fault import testimony
from slime_tau2.factory import rulings
from slime_tau2.factory.rules import Finding as Ruled
from slime_tau2.record import AttemptRecord, CallRecord
from slime_tau2.verification import declared, valueflow
from slime_tau2.verification.declared import Declared
from slime_tau2.verification.plays import Made, Play, Scene
from slime_tau2.verification.valueflow import Known
from slime_tau2.verification.variations import TOKEN, leaves, name_of, shape


class Conversation:
    """A failed conversation with its task.

    Args:
        choices: what the schemas of the world's tools enumerate, in small letters.
        policy: the agent's policy.

    Attributes:
        story: what the task tells its user.
        gold: the solution's calls.
        made: the calls that the attempt itself made.
        missed: the solution's calls that were not made, or failed.
        strange: successful writes of the attempt that the solution does not have.
    """

    def __init__(
        self, record: AttemptRecord, task: bench.Task, world: World, *, choices: frozenset[str], policy: Known
    ):
        self.record, self.task, self.world = record, task, world
        self.choices, self.policy = choices, policy
        self.messages = record["messages"]
        self.story_text = valueflow.told(task)
        self.story = Known(self.story_text)
        criteria = task.evaluation_criteria
        self.gold = [_call(action) for action in (criteria.actions if criteria else None) or []]
        calls = failures.calls_of(record)
        self.made = [call for call in calls if not call.before]
        self.missed, self.beyond = failures.difference(self.gold, [call for call in calls if not call.error])
        self.strange = [call for call in self.beyond if self.is_write(call.call) and not call.before]

    @cached_property
    def scene(self) -> Scene:
        return Scene(self.world.stage(self.task), self.task)

    @cached_property
    def gold_play(self) -> Play:
        """The solution, played."""
        return self.scene.play([made(call) for call in self.gold])

    @cached_property
    def gold_results(self) -> list[str]:
        """What each of the solution's calls returns."""
        results = [m.content or "" for m in self.gold_play.messages if isinstance(m, bench.ToolMessage)]
        return results[len(results) - len(self.gold) :] if self.gold else []

    @cached_property
    def declared(self) -> Declared | None:
        """What the task says of itself, if a factory made it."""
        return declared.of(self.task)

    @cached_property
    def owner(self) -> str | None:
        """Whom the task is about: as it declares, or the one whom the solution's calls name; None if that is open."""
        if self.declared is not None:
            return self.declared.owner
        named = {
            str(value)
            for call in self.gold
            for name, value in call["arguments"].items()
            if name in ("user_id", "customer_id")
        }
        return None if len(named) > 1 else next(iter(named), "")

    def said_in_order(self, gold: CallRecord) -> tuple[str, ...]:
        """The lists of one of the solution's calls whose order the scenario says, by the task's own word."""
        number = next((n for n, call in enumerate(self.gold) if call is gold), -1)
        return tuple(self.declared.in_order.get(str(number), ())) if self.declared else ()

    @cached_property
    def gold_rulings(self) -> dict[int, list[Ruled]]:
        """{number of a write of the solution: what the domain's rules say of it}."""
        return rulings_of(self, self.gold)

    def is_write(self, call: CallRecord) -> bool:
        return call["name"] in self.world.writes

    def looks_or_writes(self, call: CallRecord) -> bool:
        """Whether a call does more than compute, think or hand over."""
        kinds = next(iter(self.world.stages.values())).grader.tool_types
        return self.is_write(call) or kinds.get(call["name"]) == bench.ToolType.READ

    def user_says(self) -> Iterator[tuple[int, str]]:
        """(index, words) of each message that the user speaks, the history's too."""
        for n, message in enumerate(self.messages):
            if message["role"] == "user" and not message.get("tool_calls"):
                yield n, testimony.spoken(message.get("content") or "")

    def agent_says(self) -> Iterator[tuple[int, str]]:
        """(index, words) of each message that the agent speaks."""
        for n, message in enumerate(self.messages):
            if message["role"] == "assistant" and message.get("content"):
                yield n, message["content"] or ""

    def who_said(self, value: Any, before: int) -> tuple[int, str] | None:
        """The user's last message before another that says a value whole."""
        said = [(n, words) for n, words in self.user_says() if n < before and testimony.says(words, value)]
        return said[-1] if said else None

    def heard(self, before: int) -> Known:
        """What the user has heard before a message: the agent's words, and what its own tools returned."""
        texts = [words for n, words in self.agent_says() if n < before]
        own = [m for m in self.messages[:before] if m["role"] == "tool" and m.get("requestor") == "user"]
        return Known(*texts, *((message.get("content") or "") for message in own))

    def agents_results(self, before: int | None = None) -> list[str]:
        """What the agent's calls returned before a message."""
        calls = [c for c in self.made if failures.whose(c.call) == "the agent's"]
        return [c.result for c in calls if before is None or c.message < before]

    def is_told(self, value: Any) -> bool:
        """Whether the scenario says a value whole."""
        return testimony.says(self.story_text, value)

    def gives(self, words: str) -> bool:
        """Whether words give what the scenario holds."""
        codes = testimony.codes(testimony.spoken(words))
        return any(map(self.is_told, codes)) or testimony.shares(words, self.story_text)

    def untold_like(self, value: Any) -> list[str]:
        """The codes of the scenario that look like a value and that the user never says."""
        if not isinstance(value, str) or not testimony.is_hard(value):
            return []
        alike = [token for token in TOKEN.findall(self.story_text) if shape(token) == shape(value)]
        return [token for token in alike if not any(testimony.says(words, token) for _, words in self.user_says())]

    def wanted(self, call: CallRecord, place: str, known: Sequence[CallRecord] | None = None) -> list[Any]:
        """What the solution's calls of the same tool and side have in an argument's place.

        Args:
            known: of which calls; the missed ones if None.
        """
        alike = [
            gold
            for gold in (self.missed if known is None else known)
            if gold["name"] == call["name"] and failures.whose(gold) == failures.whose(call)
        ]
        return [value for gold in alike for path, value in compared(gold) if name_of(path) == place]


def compared(call: CallRecord) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path, scalar) of a call's arguments, as far as they count."""
    names = call.get("compare_args")
    return leaves({k: v for k, v in call["arguments"].items() if names is None or k in names})


def _call(action: bench.Action) -> CallRecord:
    return CallRecord(
        name=action.name,
        arguments=action.arguments,
        requestor=action.requestor,
        compare_args=action.compare_args,
    )


def made(call: CallRecord) -> Made:
    return Made(call["name"], call["arguments"], "user" if call.get("requestor") == "user" else "assistant")


def rulings_of(talk: Conversation, calls: Sequence[CallRecord]) -> dict[int, list[Ruled]]:
    """{number of a write: what the domain's rules say of it}; nothing where they cannot be asked."""
    if talk.owner is None or not rulings.supported(talk.world.domain):
        return {}
    try:
        return rulings.of(talk.world, talk.task, [made(call) for call in calls], owner=talk.owner)
    except Exception:  # rules are written for tasks of the factory, and here they meet whatever an agent does
        return {}


def broken(rules: Sequence[Ruled]) -> list[str]:
    return [ruled.rule for ruled in rules if not ruled.holds]
