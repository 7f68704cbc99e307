"""What a check finds, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table


class Status(StrEnum):
    """`warn`: the run can work all the same; `fail`: it cannot."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    """What was looked at: `disk`, `port 30000`, `node 10.0.0.2`."""
    status: Status
    text: str
    """What is there, or what is wrong."""
    fix: str = ""
    """How to mend it; empty where there is nothing to mend."""


def ok(what: str, text: str) -> Finding:
    return Finding(what, Status.OK, text)


def warn(what: str, text: str, fix: str) -> Finding:
    return Finding(what, Status.WARN, text, fix)


def fail(what: str, text: str, fix: str) -> Finding:
    return Finding(what, Status.FAIL, text, fix)


def failed(findings: Sequence[Finding]) -> bool:
    """Whether any of them did."""
    return any(f.status is Status.FAIL for f in findings)


def show(findings: Sequence[Finding], console: Console) -> None:
    """A table on a terminal, one line per finding in a log."""
    if not console.is_terminal:
        for f in findings:
            console.print(as_line(f), soft_wrap=True, highlight=False, markup=False)
        return
    colors = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
    table = Table(box=None, pad_edge=False)
    for column in ("", "", "found", "to mend it"):
        table.add_column(column, overflow="fold")
    for f in findings:
        table.add_row(f"[{colors[f.status]}]{f.status}[/]", f.what, f.text, f.fix)
    console.print(table)


def as_line(finding: Finding) -> str:
    """`fail  disk: 3 GiB free at /; make room`."""
    return f"{finding.status:<4}  {finding.what}: {finding.text}" + (f"; {finding.fix}" if finding.fix else "")


def as_json(findings: Sequence[Finding]) -> str:
    """{"failed": bool, "findings": [{what, status, text, fix}, …]}."""
    return json.dumps(
        {"failed": failed(findings), "findings": [asdict(f) for f in findings]}, indent=1, ensure_ascii=False
    )
