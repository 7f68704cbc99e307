"""Verdicts as a table, and as what `verified.jsonl` holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.table import Table

from slime_tau2.tasksets import writing
from slime_tau2.verification.checks import CHECKS, KINDS, Finding
from slime_tau2.verification.verify import Verdict

LONGEST = 400
"""Characters of `why`, at most."""


def table(verdicts: Sequence[Verdict], checks: Collection[int], accepted: Collection[str] = ()) -> Table:
    """What was found: each kind of finding with the number of tasks that have it, and the first of them."""
    refused = sum(bool(verdict.refusals(accepted)) for verdict in verdicts)
    out = Table(
        title=f"{len(verdicts)} tasks, {len(verdicts) - refused} passed, {refused} refused", title_justify="left"
    )
    for column in ("check", "finding", "tasks", "", "example"):
        out.add_column(column, justify="right" if column == "tasks" else "left", overflow="fold")
    for number in sorted(checks):
        rows = [(kind, *_with(verdicts, kind)) for kind, what in KINDS.items() if what.check == number]
        rows = [row for row in rows if row[1]]
        for place, (kind, count, example) in enumerate(rows):
            weight = "refuses" if KINDS[kind].refuses and kind not in accepted else "note"
            out.add_row(_title(number, place), f"{kind}: {KINDS[kind].says}", str(count), weight, example)
        if not rows:
            out.add_row(_title(number, 0), "nothing", "0", "", "")
    return out


def _title(number: int, place: int) -> str:
    return "" if place else f"{number} {CHECKS[number]}"


def _with(verdicts: Sequence[Verdict], kind: str) -> tuple[int, str]:
    """How many tasks have a kind of finding, and the first of them."""
    having = [(verdict.task, finding.text) for verdict in verdicts for finding in _first(verdict, kind)]
    return len(having), f"{having[0][0]}: {having[0][1]}" if having else ""


def _first(verdict: Verdict, kind: str) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.kind == kind][:1]


def rows(verdicts: Iterable[Verdict], accepted: Collection[str] = ()) -> list[writing.Verdict]:
    """The verdicts as a task set keeps them.

    Args:
        accepted: kinds that refuse nothing.
    """
    return [_row(verdict, accepted) for verdict in verdicts]


def _row(verdict: Verdict, accepted: Collection[str]) -> writing.Verdict:
    refusals = verdict.refusals(accepted)
    why = "; ".join(f"{finding.kind}: {finding.text}" for finding in refusals)
    findings: list[Any] = [
        {"check": KINDS[finding.kind].check, "kind": finding.kind, "text": finding.text} for finding in verdict.findings
    ]
    details: dict[str, Any] = {
        "findings": findings,
        "free": {str(number): list(names) for number, names in verdict.free.items()},
        "order_only": {str(number): list(names) for number, names in verdict.order_only.items()},
        "order_fixed": {str(number): list(names) for number, names in verdict.order_fixed.items()},
        "evaluated": verdict.evaluated,
    }
    short = why if len(why) <= LONGEST else f"{why[: LONGEST - 1]}…"
    return writing.Verdict(task=verdict.task, passed=not refusals, why=short, details=details)
