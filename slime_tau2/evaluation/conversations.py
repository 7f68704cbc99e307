"""Records of attempts as the conversation view of a page reads them (`viewer.talk`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from slime_tau2.evaluation import check_places, costs
from slime_tau2.evaluation.costs import Tokens
from slime_tau2.evaluation.fault.kinds import Finding
from slime_tau2.record import AttemptRecord, CallGainRecord, MessageRecord, TurnRecord
from slime_tau2.viewer.talk import Call, Difference, Fault, Mark, Message, Talk


def talk(
    record: AttemptRecord,
    *,
    writes: AbstractSet[str] = frozenset(),
    findings: Sequence[Finding] = (),
    facts: Sequence[tuple[str, str]] = (),
) -> Talk:
    """One conversation.

    Args:
        writes: names of the domain's tools that write.
        findings: what is proven of whose fault it was, if it failed.
        facts: what else is to be said of it.
    """
    faults: list[Fault] = [{"party": f.party, "what": _fault(f), "at": f.message} for f in findings]
    out: Talk = {
        "messages": _messages(record),
        "checks": check_places.checks(record, writes),
        "faults": faults,
        "facts": [*_ending(record), *facts, *_spent(record)],
    }
    difference = _difference(record)
    if difference is not None:
        out["database"] = difference
    return out


def _fault(finding: Finding) -> str:
    after = "" if finding.mended is None else f"; put right in message {finding.mended}"
    return f"{finding.kind}: {finding.words}; {finding.held}{after}"


def _messages(record: AttemptRecord) -> list[Message]:
    turns, marks = record["turns"], _marks(record)
    sent = sum(turn["sent"] for turn in turns)
    turn_of = dict(zip(check_places.turns_at(record), zip(turns, marks)))
    thoughts = {thought["message"]: thought["text"] for thought in record["reasoning"] if thought["role"] != "judge"}
    out = []
    calls = _call_gains(record, turn_of)
    for n, recorded in enumerate(record["messages"]):
        message = _message(recorded, calls.get(n, []))
        if n in turn_of:
            message["turn"] = turn_of[n][1]
        if n in thoughts:
            message["thought"] = thoughts[n]
        out.append(message)
    if sent < len(turns):
        out.append(
            {
                "role": "assistant",
                "by": "unsent",
                "text": turns[-1]["text"],
                "calls": [],
                "error": False,
                "turn": marks[-1],
            }
        )
    return out


def _marks(record: AttemptRecord) -> list[Mark]:
    """The marks of the agent's turns, in order."""
    tokens = iter(record.get("turn_tokens") or [])
    out = []
    for turn in record["turns"]:
        mark = Mark(index=turn["index"], partial=turn["partial"], gain=turn["gain"], malformed=turn["malformed"])
        spoken = next(tokens, []) if turn["end"] > turn["start"] else []
        if spoken:
            mark["tokens"] = {"text": [text for text, _ in spoken], "sampler": [log_prob for _, log_prob in spoken]}
        if turn["finish_reason"] != "stop":
            mark["notes"] = [f"ended by {turn['finish_reason']}"]
        out.append(mark)
    return out


def _call_gains(
    record: AttemptRecord, turn_of: Mapping[int, tuple[TurnRecord, Mark]]
) -> dict[int, list[CallGainRecord]]:
    """{index of a message: what each of its calls did}, of the agent's turns whose every call is known."""
    out = {}
    for n, (turn, _) in turn_of.items():
        made = record["messages"][n].get("tool_calls") or []
        if len(turn["by_call"]) == len(made):
            out[n] = turn["by_call"]
    return out


def _message(message: MessageRecord, gains: Sequence[CallGainRecord]) -> Message:
    role = message["role"]
    calls = []
    for place, made in enumerate(message.get("tool_calls") or []):
        call = Call(name=made["name"], arguments=made["arguments"])
        if place < len(gains):
            call["gain"], call["wrong"] = gains[place]["gain"], gains[place]["wrong"]
        calls.append(call)
    return {
        "role": role,
        "by": message.get("requestor", "assistant") if role == "tool" else role,
        "text": message.get("content") or "",
        "calls": calls,
        "error": bool(message.get("error")),
    }


def _difference(record: AttemptRecord) -> Difference | None:
    told = record.get("database_difference")
    if told is None:
        return None
    return {
        "total": told["total"],
        "counts": "DB" in record["reward_basis"],
        "places": [
            {
                "where": " ".join(filter(None, [f"{p['whose']}'s {p['table']}", p["key"], p["path"]])),
                "found": p["found"],
                "wanted": p["wanted"],
            }
            for p in told["places"]
        ],
    }


def _ending(record: AttemptRecord) -> list[tuple[str, str]]:
    ended = record["termination"] + (f": {record['detail']}" if record["detail"] else "")
    parts = ", ".join(f"{name} {value:.2f}" for name, value in record["components"].items())
    partial = record["partial"]
    return [
        ("ended", ended),
        *([] if partial is None else [("partial score", f"{partial:.2f}" + (f" ({parts})" if parts else ""))]),
    ]


def _spent(record: AttemptRecord) -> list[tuple[str, str]]:
    """Seconds and tokens."""
    out = []
    if record["wall_s"]:
        waits = f" ({record['policy_s']:.1f} for the policy, {record['user_s']:.1f} for the user)"
        out.append(("seconds", f"{record['wall_s']:.1f}{waits}"))
    if record["response_tokens"]:
        out.append(("response", f"{record['response_tokens']:,} tokens, {record['sampled_tokens']:,} of them sampled"))
    spent: dict[str, Tokens] = costs.used([record])
    return [*out, *((f"{role}'s tokens", str(tokens)) for role, tokens in spent.items())]
