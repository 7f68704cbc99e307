"""Rejection sampling: which of a task's attempts become training data. Pure.

Successes are kept. A task without one gives its best attempt by strict partial score, if that is good enough: the card's
rule (reward >= 1.0, else the best partial >= 0.6). An attempt with a malformed call never qualifies: its record names the
unknown tool that tau2 answered for, not what the policy wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

MIN_PARTIAL = 0.6


def select(records: Iterable[dict[str, Any]], min_partial: float = MIN_PARTIAL, per_task: int | None = None) -> list[dict[str, Any]]:
    """The records to train on, in order; at most `per_task` successes a task. Infrastructure failures never qualify."""
    by_task: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for record in records:
        if record["reward"] is not None and not any(turn["malformed"] for turn in record.get("turns", ())):
            by_task[record["domain"], record["task_id"]].append(record)
    kept = []
    for attempts in by_task.values():
        won = [r for r in attempts if r["reward"] >= 1.0 - 1e-6]
        if won:
            kept += won[:per_task]
            continue
        best = max(attempts, key=lambda r: r["partial"])
        if best["partial"] >= min_partial:
            kept.append(best)
    return kept
