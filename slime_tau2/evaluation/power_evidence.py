"""What `slime-tau2 plan` plans from: attempts of a baseline, and perhaps of a second policy, on the same tasks.

They come from runs of `slime-tau2 eval`, here, or from a study (`experiments.study_plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Protocol

from slime_tau2.episode import splits, worlds
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import compare, costs, runs, variance
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.power import LEAST_TASKS, Coupling
from slime_tau2.evaluation.power_tables import PLANNED, Answers
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.variance import Cells

SPLITS = (splits.TEST, splits.HELD_OUT, splits.WHOLE, splits.BASE)
"""Splits that an evaluation may be large enough with."""
Successes = dict[TaskKey, list[bool]]


class After(Protocol):
    """What is told after the tables."""

    def __call__(self, answers: Answers, /) -> list[str]:
        """Where a set comes from that is large enough, and what the plan costs."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The attempts, on the tasks that all models have."""

    name: str
    """The baseline's."""
    domains: list[str]
    """Domains that the tasks are of."""
    attempts: int
    """Attempts at each task."""
    a: Cells
    """The baseline's attempts."""
    b: Cells | None = None
    """The second policy's; None without one."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """{task set to ask about: its tasks}."""
    after: After
    """The last lines of the plan."""

    @property
    def rate(self) -> float:
        """The baseline's pass^1."""
        return float(self.a.rates.mean())

    @property
    def tasks(self) -> int:
        """How many there are."""
        return int(self.a.rates.shape[1])

    @property
    def coupling(self) -> Coupling | None:
        """What the second policy shows; None without one, or where one side's tasks are all alike."""
        return None if self.b is None else Coupling.of(self.a, self.b)


@dataclass(frozen=True, kw_only=True)
class Named:
    """Runs of `slime-tau2 eval` that are named."""

    baseline: Sequence[Path]
    """Runs of the policy to be beaten: one, or one per seed of its training."""
    against: Sequence[Path] = ()
    """Runs of a second policy on the same tasks, for what a baseline cannot say; one, or one per seed."""
    domain: str | None = None
    """Only this domain of the runs."""
    task_sets: Sequence[str] = ()
    """Task sets, or domains, to ask about beside the baseline's own."""
    prices: Path | None = None


def of_runs(named: Named, made: Mapping[str, float]) -> Evidence:
    """Read runs and see that a plan can be made from them.

    Args:
        made: {domain that `slime-tau2 make-tasks` makes tasks of: share of a set that is held out}.

    Raises:
        ConfigError: runs that cannot be planned from.
    """
    everything = runs.load_all([*named.baseline, *named.against])
    seeds = len(named.baseline)
    if named.against and seeds not in (1, len(named.against)):
        raise ConfigError(
            f"{seeds} runs of --baseline and {len(named.against)} of --against: pair them by seed, in order, or "
            "name one baseline"
        )
    for run in everything:
        _check(run)
    kept = [_kept(run, named.domain) for run in everything]
    shared = set.intersection(*(set(s) for s in kept))
    if len(shared) < LEAST_TASKS:
        common = " in common" if len(kept) > 1 else ""
        raise ConfigError(
            f"{', '.join(str(r.directory) for r in everything)}: {len(shared)} tasks{common} say too little of what "
            f"differs from task to task; evaluate at least {LEAST_TASKS}"
        )
    if differing := compare.unlike(everything, shared):
        raise ConfigError(f"the runs were not scored alike ({'; '.join(differing)}); evaluate them in the same way")
    a, *b = variance.cells(kept[:seeds], kept[seeds:]) if named.against else variance.cells(kept)
    domains, run = sorted({domain for domain, _ in shared}), everything[0]
    prices = None if named.prices is None else costs.read_prices(named.prices)
    return Evidence(
        name=run.name,
        domains=domains,
        attempts=run.plan.attempts,
        a=a,
        b=b[0] if b else None,
        sizes={"the baseline's": len(shared), **_splits(run, domains), **further(named.task_sets)},
        after=lambda answers: [*_made_lines(run, domains, answers, made), *_cost_lines(run, domains, answers, prices)],
    )


def _check(run: EvaluatedRun) -> None:
    if not run.coverage.whole:
        raise ConfigError(f"{run.directory} is not whole: {run.coverage}; the same eval command runs what is missing")
    if run.plan.attempts < 2:
        raise ConfigError(
            f"{run.directory} has one attempt at each task, so that nobody can tell what differs from task to task "
            "from what differs from attempt to attempt; the same eval command with --attempts 4 runs three more"
        )


def _kept(run: EvaluatedRun, domain: str | None) -> Successes:
    if domain is not None and domain not in run.plan.domains:
        raise ConfigError(f"--domain {domain}: {run.directory} has {', '.join(run.plan.domains)}")
    return {key: s for key, s in run.successes.items() if domain in (None, key[0])}


def _splits(run: EvaluatedRun, domains: Sequence[str]) -> dict[str, int]:
    """{split of a run's domains: its tasks}."""
    places = {s.domain: s.task_set_directory or s.domain for s in run.plan.sets}
    try:
        known = [worlds.task_splits(places[domain]) for domain in domains]
    except (BenchDataError, ConfigError):
        return {}  # a run of another machine's domain, or of a task set that is gone
    return {
        f"{', '.join(domains)} {split}": sum(len(by_name[split]) for by_name in known)
        for split in SPLITS
        if all(split in by_name for by_name in known)
    }


def further(sources: Sequence[str]) -> dict[str, int]:
    """{split of task sets or domains that were named: its tasks}.

    Raises:
        BenchDataError, ConfigError: there is no such domain or set.
    """
    out: dict[str, int] = {}
    for source in sources:
        theirs = worlds.task_splits(source)
        out |= {f"{worlds.name_of(source)} {split}": len(theirs[split]) for split in SPLITS if split in theirs}
    return out


def _made_lines(
    run: EvaluatedRun, domains: Sequence[str], answers: Answers, made: Mapping[str, float]
) -> Sequence[str]:
    """Where a set that is large enough comes from."""
    lines = []
    for tasks in run.plan.sets:
        if tasks.domain in domains and tasks.domain in made:
            share = made[tasks.domain]
            lines.append(
                f"`slime-tau2 make-tasks --domain {tasks.domain} --count {answers.size}` makes enough for {PLANNED} "
                f"attempts ({answers.planned.name}); --count {ceil(answers.size / share)} where its train tasks train, "
                f"since {100 * share:g} % of a set are held out"
            )
        elif tasks.domain in domains and tasks.tau2_domain is not None:
            lines.append(f"the command that made {tasks.domain} makes enough with {answers.size} held-out tasks")
    return lines


def _cost_lines(
    run: EvaluatedRun, domains: Sequence[str], answers: Answers, prices: Mapping[str, costs.Price] | None
) -> list[str]:
    """Tokens, money and time of the plan, at what an attempt took in the baseline."""
    conversations = 2 * answers.size * PLANNED
    records = [r for r in run.records if r["domain"] in domains]
    total = {role: tokens * (conversations / len(records)) for role, tokens in costs.used(records).items()}
    lines = [
        f"the plan's cost, {answers.size:,} tasks × {PLANNED} attempts × 2 models = {conversations:,} conversations as "
        f"in {run.name}:",
        *(f"  {line}" for line in costs.lines(total, run.plan.settings, prices)),
    ]
    if not total:
        lines.append("  tokens: the run's records hold none")
    seconds = [r["wall_s"] for r in records if r["wall_s"] is not None]
    if seconds:
        each = fmean(seconds)
        lines.append(f"  time: {conversations * each / 3600:.1f} hours one after another, at {each:.1f} s each")
    return lines
