"""Which message met or missed each of tau2's checks, so that a reader can go there.

The message that made a call, or said what had to be said; for a call that was missed the one that tried it, refused or
with other arguments. The databases and the assertions are looked at when all is over. Where they are met, that is by
the last write, or by the turn that last added to the partial score; where they are not, a write that the solution does
not hold shows it, else the end.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from slime_tau2.evaluation import failures
from slime_tau2.evaluation.failures import Evidence, MadeCall
from slime_tau2.record import AttemptRecord, CallRecord
from slime_tau2.viewer.talk import Check


def checks(record: AttemptRecord, writes: AbstractSet[str]) -> list[Check]:
    """Each of tau2's checks with its message, those that the reward does not count too.

    Args:
        writes: names of the domain's tools that write.
    """
    info = record["reward_info"]
    if info is None:
        return []
    basis = set(info.get("reward_basis") or ())
    evidence = Evidence.of(record, writes)
    database = info.get("db_check")
    out: list[Check] = []

    def add(met: bool, kind: str, what: str, source: str, at: int | None) -> None:
        out.append({"met": met, "kind": kind, "what": what, "counts": source in basis, "at": at})

    if database:
        met = database["db_match"]
        add(met, "database", "in the state that the solution leaves", "DB", _writing(record, evidence, met))
    for action in info.get("action_checks") or []:
        call, met = action["action"], bool(action.get("action_match"))
        add(met, f"{failures.whose(call)} action", failures.called(call), "ACTION", _calling(evidence, call))
    for assertion in info.get("env_assertions") or []:
        met = assertion["met"]
        add(met, "assertion", failures.wanted(assertion["env_assertion"]), "ENV_ASSERTION", _holding(record, met))
    for saying in info.get("communicate_checks") or []:
        add(saying["met"], "told", saying["info"], "COMMUNICATE", _saying(record, saying["info"]))
    for judgement in info.get("nl_assertions") or []:
        add(judgement["met"], "judged", judgement.get("nl_assertion", ""), "NL_ASSERTION", None)
    return out


def turns_at(record: AttemptRecord) -> list[int]:
    """The index of the message of each turn that was sent: the agent's earlier messages were not sampled."""
    own = [n for n, m in enumerate(record["messages"]) if m["role"] == "assistant"]
    return own[len(own) - sum(turn["sent"] for turn in record["turns"]) :]


def _writing(record: AttemptRecord, evidence: Evidence, met: bool) -> int | None:
    """The last write; where the state is another one, the first write that the solution does not hold, else the end."""
    done = [made.message for made in evidence.own if evidence.is_write(made.call) and not made.error]
    strange = [
        made.message
        for made in evidence.own
        if evidence.is_write(made.call) and not made.error and not evidence.is_gold(made.call)
    ]
    if met:
        return done[-1] if done else None
    return strange[0] if strange else _end(record)


def _holding(record: AttemptRecord, met: bool) -> int | None:
    """Where the partial score last rose, or the end."""
    if not met:
        return _end(record)
    rose = [at for at, turn in zip(turns_at(record), record["turns"]) if turn["gain"] > 0]
    return rose[-1] if rose else None


def _end(record: AttemptRecord) -> int | None:
    return len(record["messages"]) - 1 if record["messages"] else None


def _calling(evidence: Evidence, action: CallRecord) -> int | None:
    """The call itself, made if it was made, else refused, else the one with the fewest other arguments."""
    same = [made for made in evidence.calls if failures.same_call(made.call, action)]
    alike = [
        made
        for made in evidence.calls
        if made.call["name"] == action["name"] and failures.whose(made.call) == failures.whose(action)
    ]
    best: list[MadeCall] = [made for made in same if not made.error] or same
    if not best and alike:
        best = [max(alike, key=lambda made: _agreeing(made.call, action))]
    return best[0].message if best else None


def _agreeing(call: CallRecord, action: CallRecord) -> int:
    """How many of the solution's arguments a call has."""
    return sum(call["arguments"].get(name) == value for name, value in action["arguments"].items())


def _saying(record: AttemptRecord, info: str) -> int | None:
    """The agent's message that says it, as tau2 looks for it; else the last in which it could have been said."""
    spoken = [
        (n, (m.get("content") or "").lower().replace(",", ""))
        for n, m in enumerate(record["messages"])
        if m["role"] == "assistant" and m.get("content")
    ]
    said = next((n for n, words in spoken if info.lower() in words), None)
    return said if said is not None else spoken[-1][0] if spoken else None
