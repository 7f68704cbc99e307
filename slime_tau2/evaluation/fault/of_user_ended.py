"""What the user simulator left undone: an act that it was asked for, or what was to come where it stopped too early."""

from __future__ import annotations

from collections.abc import Iterator

from slime_tau2 import bench
from slime_tau2.episode import user_errors
from slime_tau2.evaluation import failures
from slime_tau2.evaluation.fault import testimony
from slime_tau2.evaluation.fault.conversation import Conversation, compared
from slime_tau2.evaluation.fault.kinds import NOT_DONE, STOPPED, Finding
from slime_tau2.record import CallRecord
from slime_tau2.terminations import Termination


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
            or (not testimony.refuses(answer) and talk.gives(answer))
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
