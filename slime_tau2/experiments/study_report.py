"""A study's face: tables in the terminal, `report.json` and `study.svg`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import behaviour, plots
from slime_tau2.evaluation.tables import cell, note, points
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import study_curves
from slime_tau2.experiments.study_cells import Cells
from slime_tau2.experiments.study_curves import mean_curve
from slime_tau2.experiments.study_grid import BASELINE, CONTROL, START, StudySettings
from slime_tau2.experiments.study_results import METRICS, Difference, Seeds, StudyReport

PLOT = "study.svg"
SELECTED = ("attempts", "malformed", "tasks", "tasks with a success", "tasks kept by partial score", "kept")
"""Of `rejection.Selection.counts`."""
REFUSALS = ("refused", *behaviour.AGAINST_THE_SOLUTION)
"""Of `behaviour.MEASURES`; the others are of lengths and calls."""
PLOTTED = {
    "the agent's turns": ("turns", 1.0),
    "episodes with a refusal without need, %": ("refused without need in", 100.0),
    "episodes with a write beyond the solution, %": ("forbidden writes in", 100.0),
}
"""{what the plot says: (measure of the held-out episodes, factor)}."""
OVER_SEEDS = (
    "intervals: seeds, tasks and attempts are drawn again; how often they hold the truth: "
    "tests/bench/over_seeds_coverage.py. smallest: the true effect that so large a study shows four times in five"
)
LEARNING = (
    "curves: success on train tasks as they are drawn; `curriculum` draws other tasks, and some groups of `prefix` "
    "begin within a success, so that theirs are no measure"
)


def write_report(directory: Path, console: Console) -> None:
    """Print the tables, write report.json and the plot.

    Raises:
        ConfigError: no cell of the study has ended, or a file of it is broken.
    """
    settings = files.read_as(directory / StudySettings.FILE, StudySettings, complete=True)
    results = Cells(directory, settings).results()
    if not results:
        raise ConfigError(f"no cell of {directory} has ended; run: slime-tau2 study --output {directory}")
    report = StudyReport.of(directory, settings, results)
    files.write_whole(directory / layout.REPORT, json.dumps(report.to_json(), indent=1))
    files.write_whole(directory / PLOT, _plot(report, results))
    tables = (
        _scores(report),
        _differences(report),
        _families(report),
        _spent(report),
        _selected(report),
        _learning(report),
        _lengths(report),
        _refusals(report),
        _failures(report),
    )
    for table in tables:
        if table.row_count:
            console.print(table)
    console.print(OVER_SEEDS, soft_wrap=True, highlight=False)
    console.print(LEARNING, soft_wrap=True, highlight=False)
    whole = report.ended == report.cells
    so_far = "" if whole else f" (PARTIAL: {report.ended} of {report.cells} cells have ended)"
    if report.primary is None:
        console.print(f"primary, declared before the run: not there yet{so_far}", soft_wrap=True, highlight=False)
    else:
        line = f"{report.primary.name} in {settings.metric}: {points(report.primary.pooled)} points"
        seeds = f"{len(report.primary.by_seed)} of {settings.seeds} seeds"
        console.print(f"primary, declared before the run: {line}, {seeds}{so_far}", soft_wrap=True, highlight=False)
    console.print(f"report: {directory / layout.REPORT}, {directory / PLOT}", soft_wrap=True, highlight=False)


def _scores(report: StudyReport) -> Table:
    table = _table("Held-out tasks (%, 95 % CI over seeds, tasks and attempts)", ("seeds", *METRICS, "seed by seed"))
    for name, row in report.rows.items():
        seeds = ", ".join(f"{100 * value:.1f}" for value in row.by_seed.values())
        table.add_row(name, str(len(row.by_seed)), *(cell(row.metrics.get(m)) for m in METRICS), seeds)
    return table


def _differences(report: StudyReport) -> Table:
    title = f"Differences in {report.settings.metric}, paired by seed and task (points)"
    table = _table(title, ("difference", "seed by seed", "smallest"))
    if report.primary is not None:
        table.add_row(f"primary: {report.primary.name}", *_cells(report.primary), end_section=True)
    for difference in report.secondary:
        table.add_row(difference.name, *_cells(difference))
    return table


def _cells(difference: Difference) -> tuple[str, str, str]:
    seeds = ", ".join(f"{100 * e.value:+.1f}" for e in difference.by_seed.values())
    smallest = "–" if isnan(difference.smallest) else f"{100 * difference.smallest:.1f}"
    return points(difference.pooled), seeds, smallest


def _families(report: StudyReport) -> Table:
    """Where the sides of the primary comparison and their start succeed."""
    shown = _primary(report)
    table = _table(f"Held-out {report.settings.metric} by family of tasks (%)", ("tasks", *shown))
    for family, estimate in (report.rows[shown[0]].families if shown else {}).items():
        each = (report.rows[name].families.get(family) for name in shown)
        table.add_row(family, str(estimate.tasks), *map(cell, each))
    table.caption = note(estimate for name in shown for estimate in report.rows[name].families.values())
    return table


def _spent(report: StudyReport) -> Table:
    columns = ("episodes", "within a success", "tokens sampled", "sequences trained on", "tokens trained on", "epochs")
    table = _table("What it took (mean of the seeds)", (*columns, "minutes"))
    for name, row in report.rows.items():
        rows = list(row.spending.values())
        counts = ("episodes", "eased", "sampled_tokens", "sequences", "trained_tokens")
        means = [f"{fmean(getattr(s, count) for s in rows):,.0f}" for count in counts]
        minutes = fmean(row.wall_s.values()) / 60
        table.add_row(name, *means, f"{fmean(s.epochs for s in rows):.1f}", f"{minutes:.0f}")
    return table


def _selected(report: StudyReport) -> Table:
    table = _table("What RFT selects (mean of the seeds)", SELECTED)
    for name, row in report.rows.items():
        if row.selected:
            table.add_row(name, *(f"{row.selected[count]:,.0f}" for count in SELECTED))
    return table


def _learning(report: StudyReport) -> Table:
    """The learning curves in five numbers."""
    of = [f"{n} of {study_curves.PARTS}" for n in range(1, study_curves.PARTS + 1)]
    table = _table("Success on train tasks in equal parts of a training (%, mean of the seeds)", ("by", *of))
    for name, row in report.rows.items():
        for axis, parts in row.learning.items():
            if parts:
                table.add_row(name, axis, *(f"{100 * part.success:.1f}" for part in parts))
    return table


def _lengths(report: StudyReport) -> Table:
    counts = [name for name in behaviour.MEASURES if name not in REFUSALS]
    table = _table("Held-out episodes: how long they are, and their calls (means)", counts)
    for name, row in report.rows.items():
        table.add_row(name, *(f"{row.held_out[count]:.2f}" for count in counts))
    return table


def _refusals(report: StudyReport) -> Table:
    shares = [f"{name} in" for name in behaviour.AGAINST_THE_SOLUTION]
    title = "Held-out episodes: refusals and writes (means; shares of episodes and partial score in %)"
    table = _table(title, (*REFUSALS, *shares, "partial"))
    for name, row in report.rows.items():
        means = [f"{row.held_out[count]:.2f}" for count in REFUSALS]
        table.add_row(name, *means, *(f"{100 * row.held_out[share]:.1f}" for share in (*shares, "partial")))
    return table


def _primary(report: StudyReport) -> list[str]:
    """The sides of the primary comparison, and where they start, as far as they are there."""
    return [name for name in (START, BASELINE, CONTROL) if name in report.rows]


def _failures(report: StudyReport) -> Table:
    """What to look for in the trajectories."""
    shown = _primary(report)
    kinds = {kind: 0.0 for name in shown for kind in report.rows[name].failures}
    for kind in kinds:
        kinds[kind] = max(report.rows[name].failures.get(kind, 0.0) for name in shown)
    table = _table("What went wrong (% of the held-out episodes)", tuple(shown))
    for kind in sorted(kinds, key=lambda k: -kinds[k]):
        table.add_row(kind, *(f"{100 * report.rows[name].failures.get(kind, 0.0):.1f}" for name in shown))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    """A table whose first column has the rows' names."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)  # a name that is cut short may be another cell's
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _plot(report: StudyReport, results: Mapping[str, Seeds]) -> str:
    trained = {name: [r.curve for r in results[name].values() if r.curve] for name in report.rows if name != START}
    differences = {d.name: d.pooled for d in ([report.primary] if report.primary else []) + list(report.secondary)}
    measured = {
        title: {name: [scale * m[measure] for m in row.behaviour.values()] for name, row in report.rows.items()}
        for title, (measure, scale) in PLOTTED.items()
    }
    return plots.study(
        {name: mean_curve(curves, "episodes") for name, curves in trained.items() if curves},
        {name: mean_curve(curves, "tokens") for name, curves in trained.items() if curves},
        differences,
        report.settings.metric,
        measured,
    )
