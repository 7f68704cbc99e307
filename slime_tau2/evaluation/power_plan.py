"""`slime-tau2 plan`: how large an evaluation must be to see an improvement over a baseline, and what that costs.

The baseline's attempts say how success varies from task to task and from attempt to attempt. How unevenly tasks gain,
and what another seed of training changes, they cannot say; that comes from a second policy, or is assumed, with the
answers at both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from rich.console import Console

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import estimators, power, power_tables, tables
from slime_tau2.evaluation.power import Case, Coupling, Difficulty
from slime_tau2.evaluation.power_evidence import Evidence
from slime_tau2.evaluation.power_tables import Answers
from slime_tau2.evaluation.variance import POWER, Cells

CORRELATIONS = (1.0, 0.8, 0.0)
"""What is assumed of a policy that nobody has evaluated yet; the second is what plans are made by."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    effect: float
    """The improvement, in points."""
    power: float = POWER
    """Chance to see it."""

    def __post_init__(self) -> None:
        """Raises ConfigError where the effect is none."""
        if not self.effect > 0:
            raise ConfigError(f"--effect {self.effect:g}: name an improvement above 0, in points, e.g. --effect 5")


def main(question: Question, found: Evidence, console: Console) -> None:
    """Print the plan.

    Raises:
        ConfigError: an effect that cannot be.
    """
    room = 100 * (1 - found.rate)
    if question.effect > room + 1e-9:
        raise ConfigError(
            f"--effect {question.effect:g}: the baseline has {100 * found.rate:.1f} %, so that no policy can be more "
            f"than {room:.1f} points better; ask for less, or take harder tasks"
        )
    answers = _answers(found, question)
    shown = [
        power_tables.tasks(answers),
        power_tables.sets(answers, found.sizes),
        power_tables.smallest(answers),
        power_tables.seeds(answers),
    ]
    if answers.planned.coupling.seed is not None:
        shown.append(power_tables.methods(answers, found.tasks))
    _print(console, [*_baseline_lines(found), *_question_lines(found, question)])
    for table, below in shown:
        console.print()
        console.print(table)
        _print(console, below)
    console.print()
    _print(console, found.after(answers))


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


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
        f"baseline {found.name}: {', '.join(found.domains)}, {found.tasks} tasks × {found.attempts} "
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
            f"ρ is assumed: plans are made by {CORRELATIONS[1]:g}, which is about what two trainings of one start had "
            "(docs/cookbook.md); --against RUN measures it"
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
