"""What went wrong in a failed attempt, read from its record: tau2's checks, the calls that were made, how it ended. Pure
but for the table.

One kind an attempt, the first that fits in the order of `KINDS`. They sort failures for a reader; they judge nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from slime_tau2.types import is_success

KINDS = {
    "parse errors": "malformed calls or empty turns ended it, or half of its calls were malformed",
    "too many errors": "tau2's limit on error results",
    "ran out": "of steps, or of tokens",
    "user error suspected": "the user confirmed and hung up before the agent could write",
    "forbidden write": "a write that is not among the solution's changed the database",
    "wrong argument": "the right write, with other arguments",
    "missing write": "a write of the solution was never tried, or refused",
    "wrong amount told": "the writes are right; something that must be said was not",
    "not fixed": "the user's device is not in the wanted state",
    "other": "none of these, by the checks",
}


@dataclass(frozen=True)
class Failure:
    """One failed attempt: its kind, and what in it says so."""

    kind: str
    detail: str
    domain: str
    task_id: str
    attempt: int


def table(failures: Sequence[Failure]) -> Table:
    """Kinds with their counts, the most frequent first, and one example each."""
    out = Table(title=f"{len(failures)} failed attempts", title_justify="left")
    for column in ("what went wrong", "attempts", "tasks", "an example"):
        out.add_column(column, justify="right" if column in ("attempts", "tasks") else "left")
    for kind, count in Counter(f.kind for f in failures).most_common():
        part = [f for f in failures if f.kind == kind]
        example = f"{part[0].task_id}, attempt {part[0].attempt}: {part[0].detail}"
        out.add_row(f"{kind}: {KINDS[kind]}", str(count), str(len({f.task_id for f in part})), escape(example[:160]))
    return out


def classify(record: Mapping[str, Any], writes: AbstractSet[str]) -> Failure | None:
    """The failure of one record of `attempts.jsonl`; None for a success, or what infrastructure ended.

    Args:
        writes: names of the domain's tools that write.
    """
    if record["reward"] is None or is_success(record["reward"]):
        return None
    kind, detail = _kind(record, writes)
    return Failure(kind, detail, record["domain"], record["task_id"], record["attempt"])


def _kind(record: Mapping[str, Any], writes: AbstractSet[str]) -> tuple[str, str]:
    ended, turns = record["termination"], record["turns"]
    malformed, calls = sum(t["malformed"] for t in turns), sum(t["calls"] for t in turns)
    if ended == "agent_error" or (malformed and (ended == "too_many_errors" or 2 * malformed >= calls)):
        return "parse errors", "an empty turn" if ended == "agent_error" else f"{malformed} of {calls} calls malformed"
    if ended == "too_many_errors":
        return "too many errors", f"{record['tool_errors']} error results"
    if ended in ("max_steps", "length", "context_overflow"):
        return "ran out", f"{ended} after {record['steps']} steps"
    if record.get("user_stopped_early"):
        return "user error suspected", str(record["messages"][-1].get("content"))
    return _by_checks(record, writes)


def _by_checks(record: Mapping[str, Any], writes: AbstractSet[str]) -> tuple[str, str]:
    info = record["reward_info"] or {}
    gold = [c["action"] for c in info.get("action_checks") or [] if c["action"]["name"] in writes]
    made = _successful_calls(record["messages"], writes)
    missed = [a for a in gold if not _done(a, made)]
    wrong = [call for call in made if not any(_same(call, a) for a in gold)]
    if wrong and not (info.get("db_check") or {}).get("db_match", True):
        for call in wrong:
            if any(call["name"] == a["name"] for a in missed):
                return "wrong argument", _text(call)
        return "forbidden write", _text(wrong[0])
    if missed:
        return "missing write", _text(missed[0])
    unsaid = [c["info"] for c in info.get("communicate_checks") or [] if not c["met"]]
    if unsaid:
        return "wrong amount told", f"never said {unsaid[0]!r}"
    unmet = [c["env_assertion"]["func_name"] for c in info.get("env_assertions") or [] if not c["met"]]
    if unmet:
        return "not fixed", unmet[0]
    return "other", ""


def _successful_calls(messages: Sequence[Mapping[str, Any]], writes: AbstractSet[str]) -> list[dict[str, Any]]:
    failed = {m["id"] for m in messages if m["role"] == "tool" and m.get("error")}
    calls = [c for m in messages if m["role"] != "tool" for c in m.get("tool_calls") or []]
    return [c for c in calls if c["name"] in writes and c["id"] not in failed]


def _done(action: Mapping[str, Any], made: Sequence[Mapping[str, Any]]) -> bool:
    return any(_same(call, action) for call in made)


def _same(call: Mapping[str, Any], action: Mapping[str, Any]) -> bool:
    if call["name"] != action["name"]:
        return False
    keys = action.get("compare_args")
    if keys is None:
        return call["arguments"] == action["arguments"]
    return all(call["arguments"].get(k) == action["arguments"].get(k) for k in keys)


def _text(call: Mapping[str, Any]) -> str:
    return f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})"
