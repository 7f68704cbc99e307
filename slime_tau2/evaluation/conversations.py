"""Conversations as the report's viewer (`viewer.js`) reads them: rows for its list, bodies in compressed chunks."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any, TypedDict

from slime_tau2.evaluation import failures, scores
from slime_tau2.evaluation.fault.kinds import Finding
from slime_tau2.record import AttemptRecord, MessageRecord, RewardInfoRecord

CHUNK = 40
"""Conversations compressed together: opening one unpacks so many."""


Row = tuple[str, str, str, int, float | None, float | None, str, int]
"""(run, family, task, attempt, reward, partial, termination, turns) of a conversation."""


class Mark(TypedDict):
    """What the viewer shows beside a turn of the agent."""

    partial: float
    gain: float
    malformed: int
    tokens: list[tuple[str, float]]
    """(text, log-prob) of each sampled token; [] where none are known."""


class Message(TypedDict):
    """A message as the viewer shows it."""

    role: str
    by: str
    """Who spoke, or made the call that a tool answers; `unsent`: a turn that tau2 never read."""
    text: str
    calls: list[tuple[str, dict[str, Any]]]
    """(tool, arguments)."""
    error: bool
    turn: Mark | None


Check = tuple[bool, str, str, bool]
"""(met, kind, what, whether the reward counts it) of one of tau2's checks."""


Fault = tuple[str, str, int | None]
"""(whose, what is proven, index of the message that shows it) of a fault."""


class Body(TypedDict):
    """One conversation as the viewer shows it."""

    detail: str
    messages: list[Message]
    checks: list[Check]
    faults: list[Fault]


def row(run: str, record: AttemptRecord) -> Row:
    """The line of a conversation in the viewer's list."""
    partial = record["partial"]
    return (
        run,
        scores.family((record["domain"], record["task_id"])),
        record["task_id"],
        record["attempt"],
        record["reward"],
        None if partial is None else round(partial, 2),
        record["termination"],
        len(record["turns"]),
    )


def pack(bodies: Sequence[Body]) -> list[str]:
    """Bodies in chunks of CHUNK, each gzip in base64."""
    chunks = [bodies[n : n + CHUNK] for n in range(0, len(bodies), CHUNK)]
    return [base64.b64encode(gzip.compress(json.dumps(c, ensure_ascii=False).encode(), 6)).decode() for c in chunks]


def body(record: AttemptRecord, findings: Sequence[Finding] = ()) -> Body:
    """One conversation as the viewer reads it.

    Args:
        findings: what is proven of whose fault it was, if it failed.
    """
    turns = record["turns"]
    marks = _marks(record)
    sent = sum(turn["sent"] for turn in turns)
    agents = [n for n, m in enumerate(record["messages"]) if m["role"] == "assistant"]
    mark_of = dict(zip(agents[len(agents) - sent :], marks))  # the agent's earlier messages were not sampled
    messages = [_message(message, mark_of.get(n)) for n, message in enumerate(record["messages"])]
    if sent < len(turns):
        messages.append(
            {
                "role": "assistant",
                "by": "unsent",
                "text": turns[-1]["text"],
                "calls": [],
                "error": False,
                "turn": marks[-1],
            }
        )
    return {
        "detail": record["detail"],
        "messages": messages,
        "checks": _checks(record["reward_info"]),
        "faults": [(f.party, f"{f.kind}: {f.text}", f.message) for f in findings],
    }


def _marks(record: AttemptRecord) -> list[Mark]:
    """The marks of the agent's turns, in order."""
    tokens = iter(record.get("turn_tokens") or [])
    return [
        {
            "partial": turn["partial"],
            "gain": turn["gain"],
            "malformed": turn["malformed"],
            "tokens": next(tokens, []) if turn["end"] > turn["start"] else [],
        }
        for turn in record["turns"]
    ]


def _message(message: MessageRecord, turn: Mark | None) -> Message:
    role = message["role"]
    return {
        "role": role,
        "by": message.get("requestor", "assistant") if role == "tool" else role,
        "text": message.get("content") or "",
        "calls": [(call["name"], call["arguments"]) for call in message.get("tool_calls") or []],
        "error": bool(message.get("error")),
        "turn": turn,
    }


def _checks(info: RewardInfoRecord | None) -> list[Check]:
    """Each of tau2's checks, those that the reward does not count too."""
    if info is None:
        return []
    basis = set(info.get("reward_basis") or ())
    database = info.get("db_check")
    out: list[Check] = []

    def add(met: bool, kind: str, what: str, source: str) -> None:
        out.append((met, kind, what, source in basis))

    if database:
        add(database["db_match"], "database", "in the state that the solution leaves", "DB")
    for action in info.get("action_checks") or []:
        call = action["action"]
        add(bool(action.get("action_match")), f"{failures.whose(call)} action", failures.called(call), "ACTION")
    for assertion in info.get("env_assertions") or []:
        add(assertion["met"], "assertion", failures.wanted(assertion["env_assertion"]), "ENV_ASSERTION")
    for saying in info.get("communicate_checks") or []:
        add(saying["met"], "told", saying["info"], "COMMUNICATE")
    for judgement in info.get("nl_assertions") or []:
        add(judgement["met"], "judged", judgement.get("nl_assertion", ""), "NL_ASSERTION")
    return out
