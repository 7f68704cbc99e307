"""`slime-tau2 plan`: how large an evaluation must be to see an improvement over a run, and what that costs.

The run is the baseline: its attempts say how success varies from task to task and from attempt to attempt. How unevenly
tasks gain, and what another seed of training changes, it cannot say; that comes from further runs, or is assumed, with
the answers at both ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, nan
from pathlib import Path
from statistics import fmean

from rich.console import Console

from slime_tau2.episode import splits, worlds
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import compare, costs, estimators, power, power_tables, runs, tables, variance
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.power import LEAST_TASKS, Case, Coupling, Difficulty
from slime_tau2.evaluation.power_tables import PLANNED, Answers
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.variance import POWER, Cells

SPLITS = (splits.TEST, splits.HELD_OUT, splits.WHOLE, splits.BASE)
"""Splits that an evaluation may be large enough with."""
CORRELATIONS = (1.0, 0.8, 0.0)
"""What is assumed of a policy that nobody has evaluated yet; the second is what plans are made by."""
Successes = dict[TaskKey, list[bool]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    baseline: Sequence[Path]
    """Runs of the policy to be beaten: one, or one per seed of its training."""
    effect: float
    """The improvement, in points."""
    against: Sequence[Path] = ()
    """Runs of a second policy on the same tasks, for what a baseline cannot say; one, or one per seed."""
    domain: str | None = None
    """Only this domain of the runs."""
    task_sets: Sequence[str] = ()
    """Task sets, or domains, to ask about beside the baseline's own."""
    power: float = POWER
    """Chance to see it."""
    prices: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the runs say, on the tasks that all of them have."""

    run: EvaluatedRun
    """The baseline, or the first of its seeds."""
    domains: list[str]
    """Domains that the tasks are of."""
    a: Cells
    """The baseline's attempts."""
    b: Cells | None
    """The second policy's; None without one."""

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


def main(question: Question, made: Mapping[str, float], console: Console) -> None:
    """Print the plan.

    Args:
        made: {domain that `slime-tau2 make-tasks` makes tasks of: share of a set that is held out}.

    Raises:
        ConfigError: an effect that cannot be, or runs that cannot be planned from.
    """
    if not question.effect > 0:
        raise ConfigError(f"--effect {question.effect:g}: name an improvement above 0, in points, e.g. --effect 5")
    found = _evidence(question)
    room = 100 * (1 - found.rate)
    if question.effect > room + 1e-9:
        raise ConfigError(
            f"--effect {question.effect:g}: the baseline has {100 * found.rate:.1f} %, so that no policy can be more "
            f"than {room:.1f} points better; ask for less, or take harder tasks"
        )
    answers, sizes = _answers(found, question), _sets(found, question.task_sets)
    cost = _cost_lines(found, answers.size, question.prices)
    _print(console, [*_baseline_lines(found), *_question_lines(found, question)])
    for table, below in (
        power_tables.tasks(answers),
        power_tables.sets(answers, sizes),
        power_tables.smallest(answers),
        power_tables.seeds(answers),
    ):
        console.print()
        console.print(table)
        _print(console, below)
    console.print()
    _print(console, [*_made_lines(found, answers, made), *cost])


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _evidence(question: Question) -> Evidence:
    """Read the runs and see that a plan can be made from them."""
    everything = runs.load_all([*question.baseline, *question.against])
    seeds = len(question.baseline)
    if question.against and seeds not in (1, len(question.against)):
        raise ConfigError(
            f"{seeds} runs of --baseline and {len(question.against)} of --against: pair them by seed, in order, or "
            "name one baseline"
        )
    for run in everything:
        _check(run)
    kept = [_kept(run, question.domain) for run in everything]
    shared = set.intersection(*(set(s) for s in kept))
    if len(shared) < LEAST_TASKS:
        common = " in common" if len(kept) > 1 else ""
        raise ConfigError(
            f"{', '.join(str(r.directory) for r in everything)}: {len(shared)} tasks{common} say too little of what "
            f"differs from task to task; evaluate at least {LEAST_TASKS}"
        )
    if differing := compare.unlike(everything, shared):
        raise ConfigError(f"the runs were not scored alike ({'; '.join(differing)}); evaluate them in the same way")
    a, *b = variance.cells(kept[:seeds], kept[seeds:]) if question.against else variance.cells(kept)
    domains = sorted({domain for domain, _ in shared})
    return Evidence(run=everything[0], domains=domains, a=a, b=b[0] if b else None)


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


def _answers(found: Evidence, question: Question) -> Answers:
    """What is measured, and what is assumed."""
    difficulty, measured = Difficulty.of(found.a), found.coupling
    if difficulty is None:  # no attempt succeeded: nothing is known of how a better policy's successes would be spread
        spreads = {"even": 0.0, "between": 0.5, "few": 1.0}
        cases = [
            Case(name, Difficulty(rate=found.rate, between=share), Coupling(correlation=1.0), question.power)
            for name, share in spreads.items()
        ]
        return Answers(cases=cases, planned=cases[-1], effect=question.effect / 100)
    couplings = [Coupling(correlation=value) for value in CORRELATIONS]
    names = [f"ρ = {value:g}" for value in CORRELATIONS]
    if measured is not None:
        couplings[1], names[1] = measured, f"measured, {measured.correlation:.2f}"
    cases = [Case(name, difficulty, coupling, question.power) for name, coupling in zip(names, couplings)]
    return Answers(cases=cases, planned=cases[1], effect=question.effect / 100)


def _baseline_lines(found: Evidence) -> list[str]:
    """What the baseline is, and how it varies."""
    models = f" × {len(found.a.rates)} models" if len(found.a.rates) > 1 else ""
    mean = tables.cell(estimators.bootstrap_mean(list(found.a.rates.mean(0))))
    lines = [
        f"baseline {found.run.name}: {', '.join(found.domains)}, {found.tasks} tasks × {found.run.plan.attempts} "
        f"attempts{models}, pass^1 {mean}"
    ]
    if len(found.domains) > 1:
        lines.append(
            f"{len(found.domains)} domains in one run: each task weighs the same, as in `slime-tau2 compare`, and what "
            "differs between domains counts as between tasks; --domain NAME plans for one"
        )
    difficulty = Difficulty.of(found.a)
    if difficulty is None:
        lines.append(
            "no attempt succeeded, which says nothing of how a better policy's successes would be spread over tasks: "
            "even, all gain alike; few, some are always solved then and the others never, by which the plan is made"
        )
        return lines
    low, high = power.interval([found.a], _between)
    return [
        *lines,
        f"of the variance of an attempt {100 * difficulty.between:.0f} % [{100 * low:.0f}, {100 * high:.0f}] lies "
        "between tasks, the rest between attempts at one task",
    ]


def _between(models: Cells) -> float:
    difficulty = Difficulty.of(models)
    return nan if difficulty is None else difficulty.between


def _question_lines(found: Evidence, question: Question) -> list[str]:
    """What is asked, and what is assumed."""
    before = 100 * found.rate
    lines = [
        f"asked for: +{question.effect:g} points, from {before:.1f} to {before + question.effect:.1f} %, seen with "
        f"{100 * question.power:g} % power by a two-sided {100 * estimators.LEVEL:g} % interval over tasks, both "
        "policies on the same tasks (`slime-tau2 compare`)"
    ]
    if Difficulty.of(found.a) is None:
        return lines
    lines.append(
        "ρ, the correlation of the two policies' true success rates over tasks, is in no baseline: 1, tasks gain "
        "alike; 0, what is hard for the one says nothing of the other"
    )
    measured = found.coupling
    if measured is None or found.b is None:
        lines.append(
            f"ρ is assumed: plans are made by {CORRELATIONS[1]:g}. Models of which one was trained from the other had "
            "0.9 to 1 (docs/cookbook.md); --against RUN measures it"
        )
        return lines
    low, high = power.interval([found.a, found.b], _correlation)
    lines.append(f"ρ is measured: {measured.correlation:.2f} [{low:.2f}, {high:.2f}]")
    if measured.seed is not None:
        lines[-1] += f"; from seed to seed the difference varies by ±{100 * measured.seed:.1f} points"
    return lines


def _correlation(a: Cells, b: Cells) -> float:
    coupling = Coupling.of(a, b)
    return nan if coupling is None else coupling.correlation


def _made_lines(found: Evidence, answers: Answers, made: Mapping[str, float]) -> list[str]:
    """Where a set that is large enough comes from."""
    lines = []
    for tasks in found.run.plan.sets:
        if tasks.domain in found.domains and tasks.domain in made:
            share = made[tasks.domain]
            lines.append(
                f"`slime-tau2 make-tasks --domain {tasks.domain} --count {answers.size}` makes enough for {PLANNED} "
                f"attempts ({answers.planned.name}); --count {ceil(answers.size / share)} where its train tasks train, "
                f"since {100 * share:g} % of a set are held out"
            )
        elif tasks.domain in found.domains and tasks.tau2_domain is not None:
            lines.append(f"the command that made {tasks.domain} makes enough with {answers.size} held-out tasks")
    return lines


def _sets(found: Evidence, further: Sequence[str]) -> dict[str, int]:
    """{task set: its tasks}: the baseline's, the splits of its domains, and those that were named."""
    places = {s.domain: s.task_set_directory or s.domain for s in found.run.plan.sets}
    try:
        known = [worlds.task_splits(places[domain]) for domain in found.domains]
    except (BenchDataError, ConfigError):
        known = []  # a run of another machine's domain, or of a task set that is gone
    out = {"the baseline's": found.tasks}
    for split in SPLITS:
        if known and all(split in by_name for by_name in known):
            out[f"{', '.join(found.domains)} {split}"] = sum(len(by_name[split]) for by_name in known)
    for source in further:
        theirs = worlds.task_splits(source)
        out |= {f"{worlds.name_of(source)} {split}": len(theirs[split]) for split in SPLITS if split in theirs}
    return out


def _cost_lines(found: Evidence, tasks: int, prices: Path | None) -> list[str]:
    """Tokens, money and time of the plan, at what an attempt took in the baseline."""
    conversations = 2 * tasks * PLANNED
    records = [r for r in found.run.records if r["domain"] in found.domains]
    total = {role: tokens * (conversations / len(records)) for role, tokens in costs.used(records).items()}
    table = None if prices is None else costs.read_prices(prices)
    lines = [
        f"the plan's cost, {tasks:,} tasks × {PLANNED} attempts × 2 models = {conversations:,} conversations as in "
        f"{found.run.name}:",
        *(f"  {line}" for line in costs.lines(total, found.run.plan.settings, table)),
    ]
    if not total:
        lines.append("  tokens: the run's records hold none")
    seconds = [r["wall_s"] for r in records if r["wall_s"] is not None]
    if seconds:
        each = fmean(seconds)
        lines.append(f"  time: {conversations * each / 3600:.1f} hours one after another, at {each:.1f} s each")
    return lines
