"""Who was at fault in failed conversations: agent, user simulator or reference, where a check can prove it.

Never a change of a score. A conversation in which nothing is proven is not told apart; neither is one whose only faults
were put right before they mattered. The checks are in `fault_checks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.episode.worlds import World
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import failures, fault_checks
from slime_tau2.evaluation.fault_checks import KINDS, Conversation, Finding
from slime_tau2.record import AttemptRecord
from slime_tau2.types import is_success
from slime_tau2.verification import valueflow
from slime_tau2.verification.valueflow import Known

PARTIES = ("agent", "user", "reference")
UNTOLD = "not told apart"
SEVERAL = "several"
Key = tuple[str, str, int]
"""(domain, task id, attempt)"""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is proven of one failed conversation.

    Attributes:
        examined: whether its task is here, so that it could be looked at.
        findings: what was found, faults that were put right too.
    """

    domain: str
    task_id: str
    attempt: int
    examined: bool
    findings: tuple[Finding, ...]

    @property
    def key(self) -> Key:
        """Which attempt it is."""
        return self.domain, self.task_id, self.attempt

    @property
    def standing(self) -> list[Finding]:
        """The findings that nobody put right."""
        return [finding for finding in self.findings if finding.mended is None]

    @property
    def whose(self) -> str:
        """`agent`, `user`, `reference`, `several` of them, or `not told apart`."""
        parties = {finding.party for finding in self.standing}
        return UNTOLD if not parties else SEVERAL if len(parties) > 1 else parties.pop()


class Judge:
    """Looks at failed conversations, and keeps what it loads of their domains."""

    def __init__(self) -> None:
        self._courts: dict[str, _Court | None] = {}

    def judge(self, record: AttemptRecord) -> Judged | None:
        """What is proven of a conversation; None for a success, or what infrastructure ended."""
        if record["reward"] is None or is_success(record["reward"]):
            return None
        domain = record["domain"]
        if domain not in self._courts:
            self._courts[domain] = _court(domain)
        court = self._courts[domain]
        task = None if court is None else court.task(record)
        if court is None or task is None:
            unread = failures.classify(record, court.writes if court else frozenset())
            findings = _unreadable(record, unread)
        else:
            findings = court.findings(record, task)
        return Judged(
            domain=domain,
            task_id=record["task_id"],
            attempt=record["attempt"],
            examined=task is not None,
            findings=tuple(findings),
        )

    def judge_all(self, records: Iterable[AttemptRecord]) -> list[Judged]:
        """What is proven of each failed conversation among records."""
        return [judged for judged in map(self.judge, records) if judged is not None]


class _Court:
    """What is known of one domain or task set."""

    def __init__(self, world: World):
        self.world = world
        self.writes = frozenset(world.writes)
        self.choices = valueflow.choices(world)
        self.policy = Known(world.policy)

    def task(self, record: AttemptRecord) -> bench.Task | None:
        """The task of a record; None where it is not the one that the record was scored on."""
        if record["tasks_sha256"] != self.world.tasks_sha256:
            return None
        return self.world.tasks.get(record["task_id"])

    def findings(self, record: AttemptRecord, task: bench.Task) -> list[Finding]:
        """Whatever a check finds, the reference's faults first."""
        talk = Conversation(record, task, self.world)
        return [
            *fault_checks.only_the_order(talk, self.writes),
            *fault_checks.said_otherwise(talk, self.choices, self.policy),
            *fault_checks.left_out(talk),
            *fault_checks.not_done(talk),
            *fault_checks.stopped_early(talk),
            *fault_checks.made_up(talk, self.choices, self.policy),
            *fault_checks.other_than_told(talk),
            *_unreadable(record, failures.classify(record, self.writes)),
        ]


def _court(domain: str) -> _Court | None:
    try:
        return _Court(worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL))
    except (BenchDataError, ConfigError):  # a run of another machine's domain is still worth reading
        return None


def _unreadable(record: AttemptRecord, failure: failures.Failure | None) -> list[Finding]:
    """That the agent's own calls could not be read."""
    if failure is None or failure.kind != "parse errors":
        return []
    last = max((n for n, m in enumerate(record["messages"]) if m["role"] == "assistant"), default=None)
    return [
        Finding(
            kind=fault_checks.UNREADABLE,
            message=last,
            words=f"the agent's turns: {failure.detail}",
            held=f"it ended as {record['termination']}",
        )
    ]


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


def shares(judged: Sequence[Judged]) -> dict[str, int]:
    """{whose fault: failed conversations}, all of `Judged.whose`."""
    counts = Counter(j.whose for j in judged)
    return {whose: counts[whose] for whose in (*PARTIES, SEVERAL, UNTOLD)}


def table(judged: Sequence[Judged]) -> Table:
    """Kinds with their counts and one example each; below, whose fault the failed conversations were."""
    out = Table(title=_title(judged), title_justify="left")
    for column in ("at fault", "what is proven", "conversations", "put right", "an example"):
        out.add_column(column, justify="right" if column in ("conversations", "put right") else "left")
    for row in _rows(judged):
        party, what = KINDS[row.kind]
        example = _example(*row.stands[0]) if row.stands else ""
        mended = str(row.mended) if row.mended else ""
        out.add_row(party, f"{row.kind}: {what}", str(len(row.stands)), mended, escape(example))
    return out


def _title(judged: Sequence[Judged]) -> str:
    told = sum(j.whose != UNTOLD for j in judged)
    counts = ", ".join(f"{whose} {n}" for whose, n in shares(judged).items() if n)
    unseen = sum(not j.examined for j in judged)
    note = f"; {unseen} could not be examined: their tasks are not those of this machine" if unseen else ""
    share = f" ({100 * told / len(judged):.0f} %)" if judged else ""
    return f"who was at fault: proven in {told} of {len(judged)} failed conversations{share}: {counts or 'none'}{note}"


def _example(judged: Judged, finding: Finding) -> str:
    task = judged.task_id if len(judged.task_id) <= 40 else judged.task_id[:39] + "…"
    return f"{finding.text[:240]} ({task}, attempt {judged.attempt})"


def page_rows(by_run: Sequence[Sequence[Judged]]) -> list[list[str]]:
    """Rows of a kind of fault, its conversations in each run, and an example from the last run that has one."""
    rows = [{row.kind: row for row in _rows(judged)} for judged in by_run]
    out = []
    for kind, (party, what) in KINDS.items():
        parts = [found[kind].stands if kind in found else [] for found in rows]
        if any(parts):
            example = _example(*next(part[0] for part in reversed(parts) if part))
            out.append([f"{party}: {what}", *(str(len(part)) if part else "–" for part in parts), example])
    untold = [shares(judged)[UNTOLD] for judged in by_run]
    if any(by_run):
        out.append([UNTOLD, *map(str, untold), ""])
    return out


def to_json(judged: Sequence[Judged]) -> dict[str, Any]:
    """What report.json holds: counts, and every finding with its evidence."""
    return {
        "failed": len(judged),
        "examined": sum(j.examined for j in judged),
        "whose": shares(judged),
        "kinds": {row.kind: {"stands": len(row.stands), "put_right": row.mended} for row in _rows(judged)},
        "findings": [_finding(j, finding) for j in judged for finding in j.findings],
    }


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
