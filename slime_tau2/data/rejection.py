"""Rejection sampling: which attempts become training data, and why the others do not. Pure.

Successes are kept. A task without one gives its best attempt by strict partial score, if that is good enough: the card's
rule (reward >= 1.0, else the best partial >= 0.6). An attempt with a malformed call never qualifies: its record names the
unknown tool that tau2 answered for, not what the policy wrote. A conversation that repeats another of its task counts once.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from slime_tau2.types import is_success

MIN_PARTIAL = 0.6


@dataclass
class Selection:
    """The records to train on, in order, and what became of all: {what: how many}."""

    records: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def select(
    records: Iterable[dict[str, Any]],
    min_partial: float = MIN_PARTIAL,
    best: int | None = None,
    forbidden: Collection[tuple[str, str]] = (),
) -> Selection:
    """Select from records of attempts (lines of attempts.jsonl).

    Args:
        min_partial: least partial score of a task's best attempt where none succeeded.
        best: at most so many successes a task, those with the fewest tool errors and then steps first; None keeps all.
        forbidden: (domain, task id) that must not be trained on: the test split.
    """
    counts = dict.fromkeys(
        ("attempts", "of test tasks", "ended by infrastructure", "malformed", "duplicates", "tasks", "tasks with a success",
         "tasks kept by partial score", "kept"), 0
    )  # fmt: skip
    by_task: dict[tuple[str, str], list[dict]] = defaultdict(list)
    seen: set[str] = set()
    for record in records:
        counts["attempts"] += 1
        key, said = (record["domain"], record["task_id"]), conversation_key(record)
        if key in forbidden:
            counts["of test tasks"] += 1
        elif record["reward"] is None:
            counts["ended by infrastructure"] += 1
        elif any(turn["malformed"] for turn in record.get("turns", ())):
            counts["malformed"] += 1
        elif said in seen:
            counts["duplicates"] += 1
        else:
            seen.add(said)
            by_task[key].append(record)
    out = Selection(counts=counts)
    for attempts in by_task.values():
        counts["tasks"] += 1
        won = [r for r in attempts if is_success(r["reward"])]
        if won:
            counts["tasks with a success"] += 1
            out.records += won if best is None else sorted(won, key=lambda r: (r.get("tool_errors", 0), r.get("steps", 0)))[:best]
            continue
        top = max(attempts, key=lambda r: r["partial"] or 0.0)  # an imported record has none
        if (top["partial"] or 0.0) >= min_partial:
            counts["tasks kept by partial score"] += 1
            out.records.append(top)
    counts["kept"] = len(out.records)
    return out


def conversation_key(row: dict[str, Any]) -> str:
    """Equal for equal conversations at the same task: what was said and called, not when or by which id."""
    metadata = row.get("metadata") or row
    said = [
        (
            m["role"],
            m.get("content"),
            [(c.get("function", c)["name"], c.get("function", c)["arguments"]) for c in m.get("tool_calls") or []],
        )
        for m in row.get("messages", ())
        if m["role"] != "system"
    ]
    if not said:
        return f"{id(row)}"
    return hashlib.sha256(json.dumps([metadata.get("domain"), metadata.get("task_id"), said], sort_keys=True).encode()).hexdigest()
