"""How long what is missing of a study will take, from the cells that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from slime_tau2 import files
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.directory import Usage
from slime_tau2.experiments.study_cells import FILE as RESULT
from slime_tau2.experiments.study_cells import Result
from slime_tau2.experiments.study_grid import START, Job

EXPECTED_S = {"start": 800.0, "GRPO": 1600.0, "RFT": 1300.0}
"""Seconds of a cell until one of its kind has ended: medians of docs/study_again, two at a time on two busy cores."""


def kind(job: Job) -> str:
    """Cells of one kind take about as long."""
    if job.name == START:
        return "start"
    return "GRPO" if job.stage == "grpo" else "RFT"


def forecast(mine: Sequence[Job], missing: Sequence[Job]) -> str:
    """What is missing of some jobs, and how long that takes one process: the mean of the ended cells of each kind."""
    measured: dict[str, list[float]] = {}
    for job in mine:
        if job not in missing:
            measured.setdefault(kind(job), []).extend(_seconds(job))
    cells = {name: fmean(measured[name]) if measured.get(name) else expected for name, expected in EXPECTED_S.items()}
    hours = sum(cells[kind(job)] for job in missing) / 3600
    each = ", ".join(
        f"{name} {seconds / 60:.1f}{'' if measured.get(name) else ' (expected)'}" for name, seconds in cells.items()
    )
    return (
        f"{len(mine) - len(missing)} of {len(mine)} cells are there; the others take about {hours:.1f} h one after the "
        f"other, by minutes per cell: {each}"
    )


def _seconds(job: Job) -> list[float]:
    """Wall time of a cell, [] where it does not say."""
    if (path := job.directory / layout.USAGE).exists():
        return [files.read_as(path, Usage).wall_s]
    if (path := job.directory / RESULT).exists():  # all that is published of it
        return [files.read_as(path, Result).wall_s]
    return []
