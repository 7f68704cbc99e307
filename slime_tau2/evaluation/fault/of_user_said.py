"""What the user simulator said that its scenario does not hold, and what came of it.

A value counts as the scenario's, or as heard, in whatever way people write it. So doubt accuses nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slime_tau2.evaluation import failures
from slime_tau2.evaluation.failures import MadeCall
from slime_tau2.evaluation.fault import testimony
from slime_tau2.evaluation.fault.conversation import Conversation
from slime_tau2.evaluation.fault.kinds import SAID, Finding
from slime_tau2.record import CallRecord
from slime_tau2.verification.valueflow import Known
from slime_tau2.verification.variations import leaves, name_of


def said_otherwise(talk: Conversation) -> Iterator[Finding]:
    """A value that the scenario does not hold came from the user, who had not heard it, into a call of the agent's."""
    found: dict[tuple[int, str], list[tuple[MadeCall, str, list[Any]]]] = {}
    for call in talk.made:
        if failures.whose(call.call) != "the agent's" or not talk.looks_or_writes(call.call):
            continue
        if any(failures.same_call(call.call, gold) for gold in talk.gold):
            continue
        for path, value in leaves(call.call["arguments"]):
            place = name_of(path)
            wanted = talk.wanted(call.call, place, talk.gold)
            instead = [w for w in wanted if talk.story.has(w)] or talk.untold_like(value)
            if value in wanted or talk.story.has(value) or not _may_accuse(talk, call.call, value, instead):
                continue
            source = talk.who_said(value, call.message)
            if source is not None and not may_be_heard(talk.heard(source[0]), value):
                found.setdefault((source[0], str(value)), []).append((call, place, instead))
    for (message, value), uses in found.items():
        yield _said(talk, message, value, uses)
    yield from _chose_otherwise(talk)


def may_be_heard(heard: Known, value: Any) -> bool:
    """Whether a user may have a value from what it has heard: the value, or the day before or after one."""
    return heard.has(value) or heard.near(str(value))


def _may_accuse(talk: Conversation, call: CallRecord, value: Any, instead: list[Any]) -> bool:
    """Whether a value in a call says enough to accuse who said it."""
    if value is None or isinstance(value, bool):
        return False
    if not testimony.is_hard(value) or str(value).lower() in talk.choices or talk.policy.has(value):
        # a word that means much else, too: only where the scenario says another in its place
        return bool(instead) and str(value).lower() not in ("yes", "no")
    return bool(instead) or talk.is_write(call)


def _said(talk: Conversation, message: int, value: str, uses: Sequence[tuple[MadeCall, str, list[Any]]]) -> Finding:
    instead = [wanted for _, _, wanteds in uses for wanted in wanteds]
    first = uses[0][0]
    wrote = any(talk.is_write(call.call) and not call.error for call, _, _ in uses)
    mended = None if wrote else _later(talk, message, instead)
    held = f"the scenario has {instead[0]}" if instead else "the scenario has no such value"
    return Finding(
        kind=SAID,
        message=message,
        words=f"the user says {value}",
        held=f"{held}; used in {_where(first)}",
        mended=mended,
    )


def _where(call: MadeCall) -> str:
    return f"message {call.message}: {failures.called(call.call)}"


def _later(talk: Conversation, message: int, instead: Sequence[Any]) -> int | None:
    """The message after one in which the user says what it should have said, or the agent uses it."""
    said = [n for n, words in talk.user_says() if n > message and any(testimony.says(words, w) for w in instead)]
    used = [
        call.message
        for call in talk.made
        if call.message > message and any(value in instead for _, value in leaves(call.call["arguments"]))
    ]
    return min([*said, *used], default=None)


def _chose_otherwise(talk: Conversation) -> Iterator[Finding]:
    """The agent chose another thing than the solution, because the user named another property of it."""
    things = things_in([*talk.agents_results(), *talk.gold_results])
    seen: set[tuple[int, str]] = set()
    for call in talk.made:
        if not talk.is_write(call.call) or any(failures.same_call(call.call, gold) for gold in talk.gold):
            continue
        mine: dict[str, set[str]] = {}
        for path, value in leaves(call.call["arguments"]):
            mine.setdefault(name_of(path), set()).add(str(value))
        for place, chosen in mine.items():
            wanted = {str(value) for value in talk.wanted(call.call, place)}
            for one in sorted(chosen - wanted):
                for other in sorted(wanted - chosen):
                    for said, held in differences(things.get(one, {}), things.get(other, {})):
                        source = talk.who_said(said, call.message)
                        if source is None or talk.story.has(said) or not talk.is_told(held):
                            continue
                        if talk.heard(source[0]).has(said) or (source[0], said) in seen:
                            continue
                        seen.add((source[0], said))
                        yield Finding(
                            kind=SAID,
                            message=source[0],
                            words=f"the user says {said}",
                            held=f"the scenario has {held}; used in {_where(call)}",
                        )


def things_in(results: Sequence[str]) -> dict[str, dict[str, str]]:
    """{id: its properties in words} of all that results describe."""
    found: dict[str, dict[str, str]] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            ids = [v for k, v in value.items() if str(k).endswith("_id") and isinstance(v, str)]
            words = {
                name_of(path): leaf
                for path, leaf in leaves(value)
                if isinstance(leaf, str) and not str(path[-1]).endswith("_id")
            }
            for one in ids[-1:]:  # an item names its product first
                found.setdefault(one, words)
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    for result in results:
        try:
            walk(json.loads(result))
        except ValueError:
            continue
    return found


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(its value in the one, in the other) of each property in which two things of a kind differ."""
    if set(one) == set(other):
        yield from ((one[name], other[name]) for name in one if one[name] != other[name])
