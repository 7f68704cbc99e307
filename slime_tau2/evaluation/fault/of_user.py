"""What the user simulator did wrong: it said what the scenario does not hold, kept back what it does, left what it was
asked to do undone, or stopped too early.

Each check finds nothing unless the record itself shows the fault: which message, the words, and what the scenario has
in their place. A value counts as the scenario's, or as heard, in whatever way people write it; it counts as said only
where it is said whole. So doubt accuses nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import user_errors
from slime_tau2.evaluation import failures
from slime_tau2.evaluation.failures import MadeCall
from slime_tau2.evaluation.fault import testimony
from slime_tau2.evaluation.fault.conversation import Conversation, compared
from slime_tau2.evaluation.fault.kinds import LEFT_OUT, NOT_DONE, SAID, STOPPED, Finding
from slime_tau2.record import CallRecord
from slime_tau2.terminations import Termination
from slime_tau2.verification import valueflow
from slime_tau2.verification.valueflow import Known
from slime_tau2.verification.variations import TOKEN, leaves, name_of, shape


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


def left_out(talk: Conversation) -> Iterator[Finding]:
    """A value that a missed call of the solution needs stands in the scenario, and the user never said it."""
    known = Known(*talk.agents_results(), *(words for _, words in talk.agent_says()))
    used = {str(value) for call in talk.made for _, value in leaves(call.call["arguments"])}
    said = Known(*(words for _, words in talk.user_says()))
    results = set(talk.agents_results())
    seen: set[str] = set()
    for gold in talk.missed:
        if failures.whose(gold) != "the agent's" or _is_served(talk, gold, results):
            continue
        for path, value in compared(gold):
            small = isinstance(value, (int, float)) and not isinstance(value, bool)
            if str(value) in seen or not talk.is_told(value) or not (small or testimony.is_hard(value)):
                continue
            if said.has(value) or known.has(value) or str(value) in used:
                continue
            finding = _asked_in_vain(talk, gold, path, value) or _not_opened_with(talk, value)
            if finding is not None and finding.kind == LEFT_OUT and _said_another(talk, value):
                continue
            if finding is not None:
                seen.add(str(value))
                yield finding


def _said_another(talk: Conversation, value: Any) -> bool:
    """Whether the user said a value of the same kind that the scenario does not hold: it did not leave it out."""
    return any(_others_like(talk, words, value) for _, words in talk.user_says())


def _is_served(talk: Conversation, gold: CallRecord, results: set[str]) -> bool:
    """Whether what a missed read returns was returned by another call."""
    if talk.is_write(gold):
        return False
    place = next((n for n, call in enumerate(talk.gold) if call is gold), None)
    return place is not None and place < len(talk.gold_results) and talk.gold_results[place] in results


def _asked_in_vain(talk: Conversation, gold: CallRecord, path: Sequence[str | int], value: Any) -> Finding | None:
    """The agent asked for the value, and what the user answered is neither it nor another of its kind."""
    argument = next((part for part in reversed(path) if isinstance(part, str)), "")
    for asked, words in talk.agent_says():
        if not testimony.asks_for(words, argument, value, gold["name"]):
            continue
        answer = next(((n, told) for n, told in talk.user_says() if n > asked), None)
        if answer is None or answer[0] != asked + 1 or _answers(answer[1], value):
            continue
        if answer[0] == len(talk.messages) - 1 and talk.record["termination"] == Termination.USER_STOP:
            continue  # it stopped instead
        if testimony.answers_another(words, answer[1], argument):
            continue
        if testimony.speaks_to(words, answer[1]) and _gives(talk, answer[1]):
            continue  # it answers out of the scenario, and the value may be of another wish
        return Finding(
            kind=LEFT_OUT,
            message=answer[0],
            words=f"asked for it in message {asked}, the user says {answer[1][:120]!r}",
            held=f"the scenario has {value}, which {gold['name']} needs",
        )
    return None


def _answers(words: str, value: Any) -> bool:
    """Whether words may be an answer to the question for a value: they hold a code, or a number where one is asked."""
    return testimony.counts(words) if isinstance(value, (int, float)) else bool(testimony.codes(words))


def _like(words: str, value: Any) -> list[str]:
    """The codes and dates in words that look like a value."""
    if valueflow.ISO.fullmatch(str(value)):
        return Known(words).days(int(str(value)[:4]))
    kind = shape(str(value))
    return [token for token in TOKEN.findall(words) if kind in (shape(token), shape(f"#{token}"))]


def _others_like(talk: Conversation, words: str, value: Any) -> list[str]:
    """Of these, those that are none of the scenario's."""
    return [token for token in _like(words, value) if not talk.story.has(token)]


def _not_opened_with(talk: Conversation, value: Any) -> Finding | None:
    """The user wants it before all else; or it never came up, and the user said that it wanted nothing more."""
    instructions = talk.task.user_scenario.instructions
    if isinstance(instructions, str):
        return None
    wishes = [part for part in testimony.sentences(instructions.reason_for_call) if testimony.says(part, value)]
    plain = [part for part in wishes if " if " not in f" {part.lower()}" and not part.startswith("You are ")]
    spoken = list(talk.user_says())
    if not plain or not spoken or not testimony.is_hard(value):
        return None
    opening = next(testimony.sentences(instructions.reason_for_call))
    if testimony.says(opening, value):
        n, words = spoken[0]
    elif talk.record["termination"] == Termination.USER_STOP and len(spoken) > 1:
        n, words = spoken[-1]
        before = talk.messages[n - 1]
        if before["role"] != "assistant" or not testimony.closes(before.get("content") or ""):
            return None
        if not any(talk.is_write(gold) and gold not in talk.missed for gold in talk.gold):
            return None  # nothing went as the scenario has it
    else:
        return None
    others = _others_like(talk, words, value)
    if others and not talk.heard(n).has(others[0]):
        return Finding(
            kind=SAID,
            message=n,
            words=f"the user says {others[0]}: {words[:120]!r}",
            held=f"the scenario has {value}, which never comes up: {plain[0]!r}",
        )
    if len(_like(words, value)) >= len(_like(plain[0], value)):
        return None  # it said another of the scenario's in its place
    return Finding(
        kind=LEFT_OUT,
        message=n,
        words=f"the user says {words[:120]!r} and never tells it",
        held=f"the scenario has {value}: {plain[0]!r}",
    )


def not_done(talk: Conversation) -> Iterator[Finding]:
    """The agent asked for an act of the user's that the solution has, and the user only spoke."""
    for gold in talk.missed:
        if failures.whose(gold) == "the agent's" or not talk.is_write(gold):
            continue
        for asked, words in talk.agent_says():
            sentence = next((s for s in testimony.sentences(words) if testimony.asks_to_do(s, gold)), None)
            answer = talk.messages[asked + 1] if asked + 1 < len(talk.messages) else None
            if sentence is None or answer is None or answer["role"] != "user":
                continue
            if not any(n > asked for n, _ in talk.user_says()):
                continue  # it was cut off while it acted
            acts = [c for c in talk.made if c.message > asked and failures.whose(c.call) != "the agent's"]
            if any(failures.same_call(act.call, gold) for act in acts):
                continue  # tried, and refused or undone later
            if any(act.message == asked + 1 for act in acts) and not gold["arguments"]:
                continue  # it did something else: perhaps what was asked first
            yield Finding(
                kind=NOT_DONE,
                message=asked + 1,
                words=f"asked in message {asked} ({sentence[:120]!r}), the user never does it",
                held=f"the solution has {failures.called(gold)}",
            )
            break


def stopped_early(talk: Conversation) -> Iterator[Finding]:
    """The user ended the conversation where the agent waited for it, with writes of the solution to come."""
    to_come = [call for call in talk.missed if talk.is_write(call) or failures.TRANSFER in call["name"]]
    if talk.record["termination"] != Termination.USER_STOP or not to_come or talk.strange or len(talk.messages) < 2:
        return
    asked, last = talk.messages[-2], talk.messages[-1]
    if last["role"] != "user" or asked["role"] != "assistant" or asked.get("tool_calls") or last.get("tool_calls"):
        return
    answer, question = last.get("content") or "", asked.get("content") or ""
    waiting = testimony.open_requests(question)
    awaited = next((call for call in to_come if _concerns(talk, question, call)), None)
    if awaited is None or not waiting:
        return
    if bench.STOP in answer:
        if not (
            user_errors.stopped_after_confirming(talk.messages)
            or testimony.only_takes_leave(answer)
            or (not testimony.refuses(answer) and _gives(talk, answer))
        ):
            return
    elif bench.TRANSFER not in answer or testimony.mentions_person(question):
        return
    yield Finding(
        kind=STOPPED,
        message=len(talk.messages) - 1,
        words=f"the user answers {answer[:120]!r}",
        held=f"the agent waits: {waiting[-1][:160]!r}; to come: {failures.called(awaited)}",
    )


def _concerns(talk: Conversation, question: str, call: CallRecord) -> bool:
    """Whether what the agent waits for is needed for a call of the solution."""
    for gold in talk.missed:
        for path, value in compared(gold):
            argument = next((part for part in reversed(path) if isinstance(part, str)), "")
            if talk.is_told(value) and testimony.asks_for(question, argument, value, gold["name"]):
                return True
    if failures.whose(call) != "the agent's":
        return any(testimony.asks_to_do(sentence, call) for sentence in testimony.sentences(question))
    if any(testimony.is_hard(value) and testimony.says(question, value) for _, value in compared(call)):
        return True
    return testimony.speaks_of(question, call["name"]) or testimony.touches(question, call)


def _gives(talk: Conversation, words: str) -> bool:
    """Whether words give what the scenario holds."""
    return any(map(talk.is_told, testimony.codes(testimony.spoken(words)))) or testimony.shares(words, talk.story_text)
