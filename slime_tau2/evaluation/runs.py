"""A run as it lies on the disk: its plan, its records, and how far the one covers the other.

Every reader of results begins here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slime_tau2 import bench
from slime_tau2.data import records
from slime_tau2.episode import worlds
from slime_tau2.errors import BenchDataError, ConfigError, EvaluationStopped
from slime_tau2.evaluation import coverage, estimators, plan
from slime_tau2.evaluation.coverage import Coverage
from slime_tau2.evaluation.plan import RunPlan, TaskKey, TaskSet
from slime_tau2.record import AttemptRecord
from slime_tau2.types import is_success


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """One directory of `slime-tau2 eval`."""

    name: str
    """The directory's name, or as much of its path as tells it from others."""
    directory: Path
    plan: RunPlan
    records: list[AttemptRecord]
    """One per attempt, by domain, task and attempt."""
    coverage: Coverage
    """How much of the plan the records are."""

    @property
    def title(self) -> str:
        """The run's name, and where it is not whole, how much of it is there."""
        return self.name if self.coverage.whole else f"{self.name} (PARTIAL: {self.coverage})"

    @property
    def successes(self) -> dict[TaskKey, list[bool]]:
        """{task: success of each scored attempt} for every task of the plan, also one without a score."""
        return successes(self.plan.keys, self.records)

    @property
    def rates(self) -> dict[TaskKey, float]:
        """pass^1 of each task that has a score."""
        return estimators.success_rates(self.successes)


def load(directory: Path) -> EvaluatedRun:
    """Read a run, whole or not.

    Raises:
        ConfigError: it is not a run's directory, a file of it is broken, or it holds no scored attempt.
    """
    run_plan, rows = plan.read(directory), records.so_far(directory / records.FILE)
    if not rows:
        raise ConfigError(f"{directory} holds no attempt; run its `slime-tau2 eval` command again")
    try:
        covered = coverage.of(run_plan, rows)
    except ConfigError as error:
        raise ConfigError(f"{directory}: {error}") from error
    if not covered.scored:
        raise ConfigError(
            f"{directory}: infrastructure ended all {len(rows)} attempts; mend it and run the same command again"
        )
    return EvaluatedRun(name=directory.name, directory=directory, plan=run_plan, records=rows, coverage=covered)


def load_all(directories: Sequence[Path]) -> list[EvaluatedRun]:
    """Runs by names that tell them apart: the directory's, or as much of its path as that takes."""
    loaded = [load(d) for d in directories]
    if len({r.directory.resolve() for r in loaded}) < len(loaded):
        raise ConfigError("a run is named twice")
    depth, names = 1, [r.name for r in loaded]
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(r.directory.resolve().parts[-depth:]) for r in loaded]
    return [replace(r, name=name) for r, name in zip(loaded, names)]


def require_whole(run: EvaluatedRun, partial: bool, what: str) -> None:
    """Refuse half a run where a number is published.

    Raises:
        ConfigError: the run is not whole, or not a whole split, and nobody said `partial`.
    """
    parts = [s for s in run.plan.sets if not s.whole or not _as_installed(s)]
    if partial or (run.coverage.whole and not parts):
        return
    why = str(run.coverage) if not run.coverage.whole else f"{run.plan.name} is no whole split"
    again = "the same eval command runs what is missing" if not run.coverage.whole else "evaluate the split"
    raise ConfigError(f"{run.directory}: {why}; {again}, or {what} a part with --partial, which says so in its title")


def _as_installed(tasks: TaskSet) -> bool:
    """Whether a set that says it is a split is the installed tau2's, where that has the same task file."""
    try:
        world = worlds.load(tasks.domain, retrieval=bench.LEAST_RETRIEVAL)
    except (BenchDataError, ConfigError):
        return True  # a run of another machine's domain, or of a task set that is gone
    if world.tasks_sha256 != tasks.tasks_sha256:
        return True
    return tasks.split in world.splits and set(world.task_ids(tasks.split)) == set(tasks.tasks)


def finished(directory: Path, sets: Sequence[TaskSet], attempts: int) -> tuple[RunPlan, list[AttemptRecord]] | None:
    """Plan and records of a run that has a score for each of just these attempts; None where some are missing."""
    if not (directory / plan.FILE).exists():
        return None
    before, rows = plan.read(directory), records.so_far(directory / records.FILE)
    same = before.sets == tuple(sets) and before.attempts == attempts
    return (before, rows) if same and coverage.of(before, rows).whole else None


def require_scores(covered: Coverage, rows: Sequence[AttemptRecord], directory: Path) -> None:
    """Raises EvaluationStopped where attempts have no score: whoever scripts this must not go on as if they had."""
    if not covered.whole:
        failed = next((r for r in rows if r["reward"] is None), None)
        cause = f", e.g. {failed['domain']} {failed['task_id']}: {failed['detail']}" if failed else ""
        raise EvaluationStopped(
            f"{directory} is not whole: {covered}{cause}; the same command runs what has no score again"
        )


def successes(keys: Sequence[TaskKey], rows: Sequence[AttemptRecord]) -> dict[TaskKey, list[bool]]:
    """{task: success of each scored attempt}; [] where a task has none."""
    out: dict[TaskKey, list[bool]] = {key: [] for key in keys}
    for r in rows:
        if r["reward"] is not None:
            out.setdefault((r["domain"], r["task_id"]), []).append(is_success(r["reward"]))
    return out
