"""A study's face: tables in the terminal, `report.json` and `study.svg`."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import plots
from slime_tau2.evaluation.tables import cell, points
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.study_grid import BASELINE, VARIANTS, StudySettings
from slime_tau2.experiments.study_results import METRICS, StudyReport, StudyResults, load_results

PLOT = "study.svg"
LEGEND = (
    "episodes: sampled in training; plateau: how many until its success reached what `none` ended at; both seed by "
    "seed; "
    "incomplete, repeated: % of held-out episodes with a call that lacks a required argument, or repeats one; "
    "tau2's, strict: % of the checks met as tau2 counts them, and the strict partial score"
)


def write_report(directory: Path, console: Console) -> None:
    """Print the tables, write report.json and the plot.

    Raises:
        ConfigError: no pipeline of the study has finished, or a file of it is broken.
    """
    settings = files.read_as(directory / StudySettings.FILE, StudySettings, complete=True)
    results = load_results(directory, settings)
    if BASELINE not in results.variants:
        raise ConfigError(f"no pipeline of {directory} has finished; run: slime-tau2 study --output {directory}")
    report = StudyReport.of(settings, results)
    files.write_whole(directory / layout.REPORT, json.dumps(report.to_json(), indent=1))
    files.write_whole(directory / PLOT, _plot(report, results))
    console.print(_stages(report))
    for name, difference in report.paired.items():
        seeds = ", ".join(points(estimate) for estimate in difference.by_seed.values())
        line = f"{name} in pass^1: {points(difference.pooled)}; seed by seed {seeds}"
        console.print(line, soft_wrap=True, highlight=False)
    console.print(_outcomes(report))
    console.print(_trainings(report))
    console.print(LEGEND, soft_wrap=True, highlight=False)
    if report.primary is not None:
        declared = f"primary, declared before the run: {report.primary_name}: {points(report.primary.pooled)}"
        console.print(declared, soft_wrap=True)
    if report.noise is not None:
        console.print(
            f"the same model evaluated {len(report.noise.values)} times: pass^1 differs by "
            f"{100 * report.noise.deviation:.2f} points (SD)",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"everything: {directory / layout.REPORT}, {directory / PLOT}", soft_wrap=True)


def _plot(report: StudyReport, results: StudyResults) -> str:
    """Training curves of the first seed, and each variant's difference from the baseline, as SVG."""
    from_rft = [BASELINE, *(name for name in report.settings.variants if VARIANTS[name].start == "rft")]
    first = {name: results.variants[name][0] for name in from_rft if 0 in results.variants.get(name, {})}
    curves = {name: result.training.curve for name, result in first.items() if result.training.curve}
    differences = {name: row.difference.pooled for name, row in report.variants.items() if row.difference is not None}
    return plots.study(curves, differences, BASELINE)


def _stages(report: StudyReport) -> Table:
    table = _table("Stages (%, 95 % CI over tasks; each seed's own pass^1)", (*METRICS, "seeds"))
    for name, scores in report.stages.items():
        seeds = "  ".join(f"{100 * value:.1f}" for value in scores.by_seed)
        table.add_row(name, *(cell(scores.metrics.get(metric)) for metric in METRICS), seeds)
    return table


def _outcomes(report: StudyReport) -> Table:
    title = "GRPO and its variants, from the same RFT models (points against gated)"
    table = _table(title, ("seeds", "pass^1", "against gated"))
    for name, row in report.variants.items():
        gap = "" if row.difference is None else points(row.difference.pooled)
        table.add_row(name, str(len(row.scores.by_seed)), cell(row.scores.metrics.get(METRICS[0])), gap)
    return table


def _trainings(report: StudyReport) -> Table:
    shares = list(next(iter(report.variants.values())).shares)
    table = _table("How they got there, and by what means", ("episodes", "plateau", *shares))
    for name, row in report.variants.items():
        episodes = " ".join(map(str, row.sampled.values()))
        to_plateau = " ".join("–" if n is None else str(n) for n in row.to_plateau.values())
        table.add_row(name, episodes, to_plateau, *(f"{100 * row.shares[share]:.1f}" for share in shares))
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    """A table whose first column has the rows' names."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table
