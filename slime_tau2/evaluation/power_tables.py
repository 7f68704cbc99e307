"""The tables of `slime-tau2 plan`: tasks that show an effect, task sets that do, what each size shows, and seeds.

Each comes with the lines that stand below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rich.table import Table

from slime_tau2.evaluation.power import LEAST_TASKS, MOST_SEEDS, Case

ATTEMPTS = (1, 4, 8, 16)
PLANNED = 4
"""Attempts at each task in the plan whose cost is told: as many as tau2's leaderboard takes."""
SIZES = {50: "airline base", 100: "all test", 178: "all train+val", 200: "", 500: "", 1000: "", 3000: ""}
"""{tasks: the splits of tau2's that are so large}: rows of the table of smallest effects."""
DEVIATIONS = (0.0, 0.01, 0.02, 0.04)
"""Standard deviations from seed to seed that are assumed where none was measured."""
SEEDS = (3, 5, 10)
"""Columns of the table of seeds."""
NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The cases that answers are given for, from the easiest to the hardest, and the one that the plan is made by."""

    cases: list[Case]
    planned: Case
    effect: float
    """The improvement, as a rate."""

    @property
    def size(self) -> int:
        """Tasks of the plan, PLANNED attempts at each."""
        return self.planned.tasks(self.effect, PLANNED)

    @property
    def names(self) -> list[str]:
        """Of the cases."""
        return [case.name for case in self.cases]


Shown = tuple[Table, list[str]]


def tasks(answers: Answers) -> Shown:
    """How many tasks show the effect, by attempts at each."""
    table = _table("Tasks that show it, between two models", "attempts at each", *answers.names, "conversations")
    for attempts in ATTEMPTS:
        needed = [case.tasks(answers.effect, attempts) for case in answers.cases]
        both = sorted(2 * attempts * n for n in needed)
        table.add_row(str(attempts), *(f"{n:,}" for n in needed), _range(f"{both[0]:,}", f"{both[-1]:,}"))
    return table, ["conversations: of both models"]


def sets(answers: Answers, sizes: Mapping[str, int]) -> Shown:
    """Which task sets show the effect, and with how many attempts.

    Args:
        sizes: {task set: its tasks}.
    """
    title = "Attempts at each task that show it, by task set"
    table = _table(title, "task set", "tasks", *answers.names, f"{PLANNED} show, points")
    for name, size in sizes.items():
        needed = [case.attempts(answers.effect, size) if size >= LEAST_TASKS else None for case in answers.cases]
        table.add_row(
            name, f"{size:,}", *(NONE if n is None else f"{n:,}" for n in needed), _shows(answers, size, PLANNED)
        )
    return table, [
        f"{NONE}: no number of attempts is enough; never with fewer than {LEAST_TASKS} tasks",
        "train+val: only for models that trained on neither",
    ]


def smallest(answers: Answers) -> Shown:
    """The closed table: what each size shows."""
    title = "Smallest effect that shows, in points, by tasks and attempts at each"
    table = _table(title, "tasks", *map(str, ATTEMPTS), "tau2's")
    for size, of_size in SIZES.items():
        table.add_row(f"{size:,}", *(_shows(answers, size, k) for k in ATTEMPTS), of_size)
    return table, [
        f"from {answers.names[0]} to {answers.names[-1]}, for tasks that vary as the baseline's do",
        "all: airline, retail and telecom; other sizes take a set that is made or imported",
    ]


def seeds(answers: Answers) -> Shown:
    """What a claim about a method takes, beyond one about two models."""
    planned, size, measured = answers.planned, answers.size, answers.planned.coupling.seed
    title = f"Seeds of each method, {size:,} tasks × {PLANNED} attempts"
    table = _table(title, "± points", "seeds that show it", *(f"{n} show" for n in SEEDS))
    rows = {deviation: f"{100 * deviation:.1f}" for deviation in DEVIATIONS}
    if measured is not None:
        rows = {measured: f"{100 * measured:.1f}, measured", **{d: name for d, name in rows.items() if d > measured}}
    for deviation, name in rows.items():
        case = replace(planned, coupling=replace(planned.coupling, seed=deviation))
        needed = case.seeds(answers.effect, tasks=size, attempts=PLANNED)
        table.add_row(
            name,
            f"over {MOST_SEEDS}" if needed is None else str(needed),
            *(_points(case.smallest(tasks=size, attempts=PLANNED, seeds=n)) for n in SEEDS),
        )
    known = "assumed: no single run knows it" if measured is None else "of few seeds it may well be a point or two more"
    return table, [
        f"for {planned.name}. Two runs are two models: that a method is better, not one training of it, takes several "
        "of each, paired by seed",
        f"±: standard deviation of their difference from seed to seed, {known}",
    ]


def methods(answers: Answers, size: int) -> Shown:
    """What a claim about a method can show, by tasks and seeds, where what a seed changes was measured.

    Args:
        size: tasks that it was measured on.
    """
    table = _table("What shows between two methods", "tasks", *(f"{n} seeds" for n in SEEDS))
    for many in sorted({*SIZES, size}):
        case = answers.planned
        table.add_row(f"{many:,}", *(_points(case.smallest(tasks=many, attempts=PLANNED, seeds=n)) for n in SEEDS))
    return table, [
        f"the smallest effect, in points, with {PLANNED} attempts at each task, for {answers.planned.name}; what seeds "
        "change is estimated from them, by Student's t"
    ]


def _shows(answers: Answers, size: int, attempts: int) -> str:
    """`4.2–8.9`: the smallest effect in the first case and in the last, in points."""
    first, last = (case.smallest(tasks=size, attempts=attempts) for case in (answers.cases[0], answers.cases[-1]))
    return _range(_points(first), _points(last))


def _points(effect: float | None) -> str:
    return NONE if effect is None else f"{100 * effect:.1f}"


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first}–{last}"


def _table(title: str, *columns: str) -> Table:
    """A table whose first column holds names, the others numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
