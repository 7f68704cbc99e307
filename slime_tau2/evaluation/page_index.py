"""What the script of a report page needs at once: runs with their scores, tasks, and a line for each conversation.

Columns, not rows, so that thousands of lines stay small. Whatever a reader chooses (runs, domains), the script adds up
from these lines; scores with intervals come ready.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2.evaluation import failures, page_tasks, scores
from slime_tau2.evaluation.costs import Price
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.fault.judge import UNTOLD
from slime_tau2.evaluation.fault.kinds import KINDS as FAULTS
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.shown import ShownRun
from slime_tau2.record import AttemptRecord

TAIL = 34
"""Characters of a task's id in a list: its end, which tells it from others."""
Line = tuple[int, AttemptRecord]
"""(place of the run, record) of a conversation."""


def by_task(shown: Sequence[ShownRun]) -> dict[TaskKey, list[Line]]:
    """{task: its conversations, run by run}, tasks in the order of the plans."""
    out: dict[TaskKey, list[Line]] = {key: [] for run in shown for key in run.tasks}
    for place, run in enumerate(shown):
        for record in run.records:
            out.setdefault((record["domain"], record["task_id"]), []).append((place, record))
    return {key: lines for key, lines in out.items() if lines}


def index(
    shown: Sequence[ShownRun],
    lines: Mapping[TaskKey, Sequence[Line]],
    blocks: Sequence[int],
    prices: Mapping[str, Price] | None,
) -> dict[str, Any]:
    """The data of the page's first block.

    Args:
        lines: of `by_task`.
        blocks: how many of their conversations, in order, each block of conversations holds.
    """
    domains = list(dict.fromkeys(domain for domain, _ in lines))
    metrics = [m for m in dict.fromkeys(m for run in shown for m in run.scores[scores.OVERALL]) if m != "pass^1"]
    groups = domains if len(domains) > 1 else sorted({scores.family(key) for key in lines})
    tables = [_scores(run, domains) for run in shown]
    return {
        "runs": [
            {
                "name": run.name,
                "attempts": run.attempts,
                "scores": {row: {m: _estimate(e) for m, e in cells.items()} for row, cells in table.items()},
            }
            for run, table in zip(shown, tables)
        ],
        "metrics": metrics,
        "rows": list(dict.fromkeys(row for table in tables for row in table)),
        "overall": [scores.OVERALL, scores.MACRO],
        "groups": groups,
        "failures": failures.KINDS,
        "faults": {kind: f"{party}: {what}" for kind, (party, what) in FAULTS.items()},
        "untold": UNTOLD,
        "priced": prices is not None,
        "tasks": [_task(key, found[0][1], len(domains) > 1) for key, found in lines.items()],
        "talks": _talks(shown, lines, blocks, prices),
    }


def _scores(run: ShownRun, domains: Sequence[str]) -> scores.Scores:
    """A run's rows beside those of other runs: of one domain among several it has that domain's, and is not overall."""
    own = list(dict.fromkeys(domain for domain, _ in run.tasks))
    if set(own) == set(domains):
        return run.scores
    table = {row: cells for row, cells in run.scores.items() if row not in (scores.OVERALL, scores.MACRO)}
    return {own[0]: run.scores[scores.OVERALL], **table} if len(own) == 1 else table


def _estimate(estimate: Estimate) -> list[Any]:
    """[per cent, low, high, what to say of it]."""
    notes = []
    if estimate.method == "wilson":
        notes.append("Wilson's interval: all tasks are alike, where resampling sees no variance")
    if estimate.tasks < estimate.of:
        notes.append(f"{estimate.tasks} of {estimate.of} tasks")
    numbers = (
        [round(100 * x, 1) for x in (estimate.value, estimate.low, estimate.high)] if estimate.tasks else [None] * 3
    )
    return [*numbers, "; ".join(notes)]


def _task(key: TaskKey, record: AttemptRecord, several: bool) -> dict[str, str]:
    domain, task_id = key
    tail = task_id if len(task_id) <= TAIL else "…" + task_id[1 - TAIL :]
    return {
        "domain": domain,
        "id": task_id,
        "group": domain if several else scores.family(key),
        "tail": tail,
        "request": page_tasks.request(record),
    }


def _talks(
    shown: Sequence[ShownRun],
    lines: Mapping[TaskKey, Sequence[Line]],
    blocks: Sequence[int],
    prices: Mapping[str, Price] | None,
) -> dict[str, list[Any]]:
    """{column: a value for each conversation}."""
    rows = [
        {"task": task, **_line(shown[run], run, record, prices)}
        for task, found in enumerate(lines.values())
        for run, record in found
    ]
    places = [(block, place) for block, count in enumerate(blocks) for place in range(count)]
    for row, (block, place) in zip(rows, places, strict=True):
        row |= {"block": block, "place": place}
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else {})}


def _line(shown: ShownRun, run: int, record: AttemptRecord, prices: Mapping[str, Price] | None) -> dict[str, Any]:
    key = record["domain"], record["task_id"], record["attempt"]
    failure, judged, turns = shown.failure_of.get(key), shown.judged_of.get(key), record["turns"]
    spent = record["usage"].get("policy")
    return {
        "run": run,
        "attempt": record["attempt"],
        "reward": record["reward"],
        "partial": None if record["partial"] is None else round(record["partial"], 2),
        "ended": record["termination"],
        "turns": len(turns),
        "calls": sum(turn["calls"] for turn in turns),
        "tool_errors": record["tool_errors"],
        "malformed": sum(turn["malformed"] for turn in turns),
        "tokens": record["response_tokens"],
        "sent": spent["prompt"] if spent else None,
        "sampled": spent["completion"] if spent else None,
        "user_s": round(record["user_s"], 2),
        "early": int(record["user_stopped_early"]),
        "failure": failure.kind if failure else "",
        "faults": sorted({finding.kind for finding in judged.standing}) if judged else [],
        "cost": _rounded(shown.cost(record, prices)),
    }


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 6)
