"""What is proven of a run's failed conversations: lines for the terminal, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_tau2.evaluation.fault.judge import UNTOLD, Judged, shares
from slime_tau2.evaluation.fault.kinds import KINDS, Finding


@dataclass(frozen=True)
class _Row:
    """One kind in a run."""

    kind: str
    stands: list[tuple[Judged, Finding]]
    mended: int


def _rows(judged: Sequence[Judged]) -> list[_Row]:
    rows = []
    for kind in KINDS:
        stands = [(j, next(f for f in j.standing if f.kind == kind)) for j in judged if _has(j.standing, kind)]
        mended = sum(_has(j.findings, kind) and not _has(j.standing, kind) for j in judged)
        if stands or mended:
            rows.append(_Row(kind, stands, mended))
    return rows


def _has(findings: Iterable[Finding], kind: str) -> bool:
    return any(finding.kind == kind for finding in findings)


def lines(judged: Sequence[Judged]) -> list[str]:
    """Whose fault the failed conversations were, then each kind with its count and one example."""
    out = [summary(judged)]
    for row in _rows(judged):
        party, what = KINDS[row.kind]
        mended = f" ({row.mended} more were put right)" if row.mended else ""
        out.append(f"  {party:9} {len(row.stands):4}  {row.kind}: {what}{mended}")
        if row.stands:
            out.append(f"{'':17}e.g. {_example(*row.stands[0])}")
    return out


def summary(judged: Sequence[Judged]) -> str:
    """In how many failed conversations a fault is proven, and whose, in one line."""
    told = sum(j.whose != UNTOLD for j in judged)
    parts = ", ".join(f"{whose} {n}" for whose, n in shares(judged).items() if n)
    unseen = sum(not j.examined for j in judged)
    note = f"; {unseen} could not be examined: their tasks are not those of this machine" if unseen else ""
    share = f" ({100 * told / len(judged):.0f} %)" if judged else ""
    return f"who was at fault: proven in {told} of {len(judged)} failed conversations{share}: {parts or 'none'}{note}"


def _example(judged: Judged, finding: Finding) -> str:
    task = judged.task_id if len(judged.task_id) <= 40 else judged.task_id[:39] + "…"
    return f"{finding.text[:240]} ({task}, attempt {judged.attempt})"


def counts(judged: Sequence[Judged]) -> dict[str, Any]:
    """How many failed conversations there are, were examined, and have which fault."""
    return {
        "failed": len(judged),
        "examined": sum(j.examined for j in judged),
        "whose": shares(judged),
        "kinds": {row.kind: {"stands": len(row.stands), "put_right": row.mended} for row in _rows(judged)},
    }


def to_json(judged: Sequence[Judged]) -> dict[str, Any]:
    """The counts, and every finding with its evidence."""
    return {**counts(judged), "findings": [_finding(j, finding) for j in judged for finding in j.findings]}


def _finding(judged: Judged, finding: Finding) -> Mapping[str, Any]:
    return {
        "domain": judged.domain,
        "task_id": judged.task_id,
        "attempt": judged.attempt,
        "party": finding.party,
        "kind": finding.kind,
        "message": finding.message,
        "words": finding.words,
        "held": finding.held,
        "put_right": finding.mended,
    }
