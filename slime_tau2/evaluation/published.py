"""The published result that this package is to reproduce and beat, beside a run of the same size.

Two numbers without intervals and without the tau2 that they were measured on (docs/cookbook.md says what is known of
them): a run above them has not thereby been shown to be better. The run's own interval says what it has shown. The
card's pass@1 is of the first attempt at each task, not of all four (`eval.py` of slime's pull request 1156).
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from slime_tau2.evaluation import scores
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tables import cell
from slime_tau2.traits import BENCHMARKS

DOMAINS = BENCHMARKS
ATTEMPTS = 4
CARD = {
    "pass@1": {scores.OVERALL: 0.36, "airline": 0.15, "retail": 0.55, "telecom": 0.275},
    "pass@4": {scores.OVERALL: 0.59, "airline": 0.45, "retail": 0.85, "telecom": 0.40},
}
"""Qwen3-4B-tau2-grpo-v1's model card: {metric: {row: value}}."""
CONDITIONS = {
    "temperature": 0.8,
    "top_k": 20,
    "protocol": "card",
    "user_model": "gpt-4.1-mini",
    "user_temperature": 0.7,
    "max_steps": 100,
}
"""How the card says that it was measured: `--preset card`."""


@dataclass(frozen=True)
class Row:
    """One published number and the run's."""

    name: str
    published: float
    measured: Estimate
    """The run's own estimate."""

    @property
    def where(self) -> str:
        """Where the published value lies against the run's interval."""
        if self.measured.low <= self.published <= self.measured.high:
            return "within the interval"
        return "below it" if self.published < self.measured.low else "above it"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return self.name, f"{100 * self.published:.1f}", cell(self.measured), self.where


HEAD = ("", "published", "this run", "the published lies")


def rows(run: EvaluatedRun) -> list[Row]:
    """The card's numbers beside a run's; [] where it is not the card's three test splits, whole, with its attempts."""
    if sorted(run.plan.domains) != sorted(DOMAINS) or run.plan.attempts != ATTEMPTS or not run.coverage.whole:
        return []
    if any(s.split != "test" or not s.whole for s in run.plan.sets):
        return []
    measured = scores.scores(run.successes, [1, ATTEMPTS])
    return [
        Row(f"{metric}, {row}", value, measured[row][metric])
        for metric, by_row in CARD.items()
        for row, value in by_row.items()
    ]


def conditions(run: EvaluatedRun) -> str:
    """How the run was measured against how the card says that it was."""
    here = {key: run.plan.settings.get(key) for key in CONDITIONS}
    differences = [f"{key} {value} there, {here[key]} here" for key, value in CONDITIONS.items() if here[key] != value]
    if differences:
        how = f"Measured otherwise: {'; '.join(differences)}."
    else:
        how = "Measured under the same settings (`--preset card`)."
    return (
        f"{how} The published card gives neither intervals nor the version of its tasks; its pass@1 is of one "
        "attempt at each of 100 tasks, and so within about 9 points."
    )


def markdown(run: EvaluatedRun) -> list[str]:
    """Lines of a model card; [] where there is nothing to compare."""
    lines = [f"| {' | '.join(row.cells)} |" for row in rows(run)]
    if not lines:
        return []
    return [f"| {' | '.join(HEAD)} |", "|---|---|---|---|", *lines, "", conditions(run), ""]


def table(run: EvaluatedRun) -> Table | None:
    """A table for the terminal; None where there is nothing to compare."""
    compared = rows(run)
    if not compared:
        return None
    out = Table(
        title=f"Beside the published card (%): {run.name}",
        title_justify="left",
        caption=conditions(run),
        caption_justify="left",
    )
    for column in HEAD:
        out.add_column(column, justify="left" if column in ("", HEAD[-1]) else "right")
    for row in compared:
        out.add_row(*row.cells)
    return out
