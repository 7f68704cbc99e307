"""What the agent did wrong: a write against the policy, one with a made-up value or another than the user had told it,
or nothing that could be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from slime_tau2.evaluation import failures
from slime_tau2.evaluation.failures import MadeCall
from slime_tau2.evaluation.fault import testimony
from slime_tau2.evaluation.fault.conversation import Conversation, broken, compared, rulings_of
from slime_tau2.evaluation.fault.kinds import MADE_UP, OTHER_VALUE, RULE_BROKEN, UNREADABLE, Finding
from slime_tau2.record import AttemptRecord
from slime_tau2.verification import valueflow
from slime_tau2.verification.valueflow import Known
from slime_tau2.verification.variations import name_of


def rule_broken(talk: Conversation) -> Iterator[Finding]:
    """A write of the agent's that the solution does not have breaks a rule.

    The solution's own writes must break none, or the rules do not understand the task; where it has none, the task must
    say whom it is about.
    """
    if not talk.strange or any(not rules or broken(rules) for rules in talk.gold_rulings.values()):
        return
    if not talk.gold_rulings and not talk.owner:
        return
    found = rulings_of(talk, [call.call for call in talk.made])
    for number, rules in sorted(found.items()):
        call = talk.made[number]
        if failures.whose(call.call) == "the agent's" and any(call is one for one in talk.strange):
            if against := broken(rules):
                yield Finding(
                    kind=RULE_BROKEN,
                    message=call.message,
                    words=f"the agent calls {failures.called(call.call)}",
                    held=f"which breaks {', '.join(against)}",
                )
                return


def made_up(talk: Conversation) -> Iterator[Finding]:
    """A write has a value in it that the agent had from nobody, in place of the solution's."""
    for call in talk.made:
        if failures.whose(call.call) != "the agent's" or not talk.is_write(call.call):
            continue
        if any(failures.same_call(call.call, gold) for gold in talk.gold):
            continue
        ungrounded = list(ungrounded_values(talk, call))
        for place, value in ungrounded:
            instead = talk.wanted(call.call, place)
            if value in instead:
                continue
            if not instead and (call.error or not testimony.is_hard(value)):
                continue
            held = f"the solution has {instead[0]}" if instead else "the solution has no such write"
            yield Finding(
                kind=MADE_UP,
                message=call.message,
                words=f"the agent writes {place} {value!r}, which nobody said and no tool returned",
                held=f"{held}: {failures.called(call.call)}",
            )
            break


def ungrounded_values(talk: Conversation, call: MadeCall) -> Iterator[tuple[str, str]]:
    """(place, value) of the texts in a call that the agent has neither read nor been told. Not numbers and dates, which
    it may have computed, nor texts of several words, which it may have put in words of its own.
    """
    said = [words for n, words in talk.user_says() if n < call.message]
    known = Known(*said, *talk.agents_results(call.message), talk.task.ticket or "")
    for path, value in compared(call.call):
        if not isinstance(value, str) or " " in value.strip() or valueflow.ISO.fullmatch(value) or len(value) < 3:
            continue
        if known.has(value) or talk.policy.has(value) or value.lower() in talk.choices:
            continue
        yield name_of(path), value


def other_than_told(talk: Conversation) -> Iterator[Finding]:
    """The user said the value that the solution writes; the agent wrote one that the user never said, or tried to."""
    said = Known(*(words for _, words in talk.user_says()))
    tried = [call for call in talk.made if talk.is_write(call.call) and failures.whose(call.call) == "the agent's"]
    tried = [call for call in tried if not any(failures.same_call(call.call, gold) for gold in talk.gold)]
    for call in tried:
        name = call.call["name"]
        meant = [gold for gold in talk.missed if gold["name"] == name]
        if len(meant) != 1 or sum(other.call["name"] == name for other in tried) != 1:
            continue
        for path, value in compared(call.call):
            wanted = [v for p, v in compared(meant[0]) if p == path]
            if len(wanted) != 1 or any(isinstance(part, int) for part in path):
                continue  # the items of two lists need not be meant for each other
            right = wanted[0]
            if value == right or isinstance(right, bool) or not (talk.is_told(right) and isinstance(right, str)):
                continue
            source = talk.who_said(right, call.message)
            if source is None or said.has(value):
                continue
            yield Finding(
                kind=OTHER_VALUE,
                message=call.message,
                words=f"the agent writes {name_of(path)} {value!r}",
                held=f"the user had said {right!r} in message {source[0]}, as the solution has it",
            )
            break


def unreadable(record: AttemptRecord, failure: failures.Failure | None) -> list[Finding]:
    """That the agent's own calls could not be read."""
    if failure is None or failure.kind != "parse errors":
        return []
    last = max((n for n, m in enumerate(record["messages"]) if m["role"] == "assistant"), default=None)
    return [
        Finding(
            kind=UNREADABLE,
            message=last,
            words=f"the agent's turns: {failure.detail}",
            held=f"it ended as {record['termination']}",
        )
    ]
