"""What the user simulator kept back: a value of its scenario that the solution needs.

A value counts as said only where it is said whole, and nobody is accused who was not asked, or said another in its
place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from slime_tau2.evaluation import failures
from slime_tau2.evaluation.fault import testimony
from slime_tau2.evaluation.fault.conversation import Conversation, compared
from slime_tau2.evaluation.fault.kinds import LEFT_OUT, SAID, Finding
from slime_tau2.record import CallRecord
from slime_tau2.terminations import Termination
from slime_tau2.verification import valueflow
from slime_tau2.verification.valueflow import Known
from slime_tau2.verification.variations import TOKEN, leaves, shape


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
        if testimony.speaks_to(words, answer[1]) and talk.gives(answer[1]):
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
