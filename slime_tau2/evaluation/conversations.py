"""Conversations as the report's viewer reads them: a row each for its list, their messages and checks in compressed
chunks.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2.evaluation import failures, scores

CHUNK = 40
"""Conversations compressed together: opening one unpacks so many."""


def row(run: str, record: dict[str, Any]) -> list[Any]:
    """[run, family, task, attempt, reward, partial, termination, turns] of a conversation."""
    r, partial = record, None if record["partial"] is None else round(record["partial"], 2)
    return [
        run,
        scores.family((r["domain"], r["task_id"])),
        r["task_id"],
        r["attempt"],
        r["reward"],
        partial,
        r["termination"],
        len(r["turns"]),
    ]


def pack(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Bodies in chunks of CHUNK, each gzip in base64."""
    chunks = [bodies[n : n + CHUNK] for n in range(0, len(bodies), CHUNK)]
    return [base64.b64encode(gzip.compress(json.dumps(c, ensure_ascii=False).encode(), 6)).decode() for c in chunks]


def body(record: Mapping[str, Any]) -> dict[str, Any]:
    """One conversation as the viewer reads it: messages, each agent message with its turn's scores and tokens, and the
    checks.
    """
    turns, tokens = record["turns"], iter(record.get("turn_tokens") or [])
    marks = [
        {
            "partial": t["partial"],
            "gain": t["gain"],
            "malformed": t["malformed"],
            "tokens": next(tokens, []) if t["end"] > t["start"] else [],
        }
        for t in turns
    ]
    sent = sum(t["sent"] for t in turns)
    spoken = [n for n, m in enumerate(record["messages"]) if m["role"] == "assistant"]
    own = dict(zip(spoken[len(spoken) - sent :], marks))
    messages = []
    for n, m in enumerate(record["messages"]):
        calls = [[c["name"], c["arguments"]] for c in m.get("tool_calls") or []]
        by = m.get("requestor", "assistant") if m["role"] == "tool" else m["role"]
        messages.append(
            {
                "role": m["role"],
                "by": by,
                "text": m.get("content") or "",
                "calls": calls,
                "error": bool(m.get("error")),
                "turn": own.get(n),
            }
        )
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
    return {"detail": record["detail"], "messages": messages, "checks": _checks(record.get("reward_info") or {})}


def _checks(info: Mapping[str, Any]) -> list[list[Any]]:
    """[met, kind, what, whether the reward counts it] of each of tau2's checks."""
    basis = set(info.get("reward_basis") or ())
    found: list[tuple[bool, str, str, str]] = []
    if info.get("db_check"):
        found.append((info["db_check"]["db_match"], "database", "in the state that the solution leaves", "DB"))
    for c in info.get("action_checks") or []:
        found.append(
            (c["action_match"], f"{failures.whose(c['action'])} action", failures.called(c["action"]), "ACTION")
        )
    for c in info.get("env_assertions") or []:
        found.append((c["met"], "assertion", failures.wanted(c["env_assertion"]), "ENV_ASSERTION"))
    for c in info.get("communicate_checks") or []:
        found.append((c["met"], "told", c["info"], "COMMUNICATE"))
    for c in info.get("nl_assertions") or []:
        found.append((c["met"], "judged", c.get("nl_assertion", ""), "NL_ASSERTION"))
    return [[bool(met), kind, what, source in basis] for met, kind, what, source in found]
