"""`slime-tau2 study`: run what is missing of the cells, then report.

A cell is a directory with a lock of its own, so that several processes, on several machines, fill one study: each takes
the first cell that nobody else runs and whose start is there. What is finished stays, what was cut off goes on.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_tau2 import manifest
from slime_tau2.data import records
from slime_tau2.episode import worlds
from slime_tau2.errors import ConfigError, InfrastructureError, UserError
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import watch
from slime_tau2.experiments.directory import StageModel
from slime_tau2.experiments.episodes import train_tasks
from slime_tau2.experiments.pipeline import Pipeline, check
from slime_tau2.experiments.settings import SMOKE as SHORT
from slime_tau2.experiments.settings import PipelineSettings, pipeline_settings
from slime_tau2.experiments.study_cells import FILE as RESULT
from slime_tau2.experiments.study_cells import Cells, has_ended, has_model
from slime_tau2.experiments.study_grid import (
    BASELINE,
    CELLS,
    PIPELINE,
    PREFIXED,
    START,
    SUCCESSES,
    Job,
    StudySettings,
    jobs,
    part,
)
from slime_tau2.experiments.study_report import write_report
from slime_tau2.experiments.study_time import forecast
from slime_tau2.manifest import DirectoryBusy
from slime_tau2.options import Source, build
from slime_tau2.schedule import prefixes
from slime_tau2.types import TaskRef

log = logging.getLogger(__name__)

DECLARING_S = 10.0
"""How long to wait for other processes that declare the same study at this moment."""


def main(
    *,
    output: Path,
    seeds: int,
    only_seeds: Sequence[int],
    only_cells: Sequence[str],
    smoke: bool,
    assignments: list[str],
    console: Console,
) -> None:
    """Run or resume a study, or a part of it, then report what is there.

    Raises:
        ConfigError: an unknown cell, seed or setting; another study in `output`; no such task set, or another version
            of it than cells were run on; cells that failed.
    """
    settings = declared(seeds, smoke, assignments)
    mine = part(jobs(output, settings), only_seeds, only_cells)
    for job in mine:
        check(settings.of_seed(job.seed, **settings.cells[job.name]))
    world = worlds.load(settings.pipeline["tasks"])
    _declare(output, settings)
    Cells(output, settings).see_that_they_are_of(world)
    with watch.watching(console) as progress:
        stopped = run(mine, settings, progress, console)
    if any(map(has_ended, jobs(output, settings))):
        write_report(output, console)
    for job, error in stopped.items():
        console.print(f"not there: {job}: {error}", soft_wrap=True, highlight=False)
    failed = [job for job, error in stopped.items() if not isinstance(error, DirectoryBusy)]
    if failed:
        raise ConfigError(
            f"{len(failed)} of {len(mine)} cells failed, as said above; the same command tries them again"
        )


def declared(seeds: int, smoke: bool, assignments: list[str]) -> StudySettings:
    """What study.json will say."""
    named = {assignment.partition("=")[0] for assignment in assignments}
    if "seed" in named:
        raise ConfigError(f"--set seed: a study has seeds 0 to {seeds - 1}; --seed N runs one of them alone")
    changed = pipeline_settings(assignments, {}).model_dump(mode="json", include=named)
    whole = PipelineSettings(**{**PIPELINE, **(SMOKE_PIPELINE if smoke else {}), **changed})
    sources: tuple[Source, ...] = (
        ("--seeds", {"seeds": seeds, "secondary_seeds": min(3, seeds)}),
        ("--smoke", SMOKE if smoke else {}),
        ("--set", {"pipeline": whole.model_dump(mode="json", exclude={"seed"})}),
    )
    return build(StudySettings, sources, "")


SMOKE: dict[str, Any] = {
    "seeds": 2,
    "secondary_seeds": 1,
    "cells": {name: {} if name == SUCCESSES else dict(cell.settings) for name, cell in CELLS.items()},
}
SMOKE_PIPELINE = {**SHORT, "set_traces": 30, "grpo_episodes": 18}
"""`slime-tau2 study --smoke`: nothing succeeds there, so that no cell is of successes alone."""


def _declare(directory: Path, settings: StudySettings) -> None:
    """Write study.json, or see that it says the same. The directory is held no longer than that.

    Raises:
        ConfigError: the directory holds another study.
    """
    until = time.monotonic() + DECLARING_S
    while True:
        try:
            with manifest.claim(directory, settings):
                return
        except DirectoryBusy:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def run(
    mine: Sequence[Job], settings: StudySettings, progress: watch.Progress, console: Console
) -> dict[Job, Exception]:
    """Run what is missing, one cell after the other; returns what stopped those that did not end.

    A cell that another process runs is left to it, and one that fails stops no other: a study takes hours.
    """
    stopped: dict[Job, Exception] = {}
    while True:
        missing = _missing(mine)
        ready = [job for job in missing if job not in stopped and not set(job.needs) & {*missing, *stopped}]
        if not ready:
            return stopped
        console.print(forecast(mine, missing), soft_wrap=True, highlight=False)
        console.print(f"{ready[0]}:", highlight=False)
        try:
            run_cell(ready[0], settings, progress)
        except (UserError, InfrastructureError) as error:
            console.print(f"  {error}", soft_wrap=True, highlight=False)
            stopped[ready[0]] = error
        else:  # what others had may be free by now
            stopped = {job: error for job, error in stopped.items() if not isinstance(error, DirectoryBusy)}


def _missing(mine: Sequence[Job]) -> list[Job]:
    """The cells that have not ended, and those whose models they start from where only a result is there."""
    missing = [job for job in mine if not has_ended(job)]
    starts = {job.of(START) for job in missing}
    return [job for job in mine if job in missing or (job in starts and not has_model(job))]


def run_cell(job: Job, settings: StudySettings, progress: watch.Progress) -> None:
    """Run what is missing of one cell, whose needs have ended.

    Raises:
        DirectoryBusy: another process runs it.
    """
    if job.name == START:
        Pipeline(job.directory, settings.of_seed(job.seed), progress).run_until(job.stage)
        _see_that_it_is_the_same(job, settings)
        return
    start = job.of(START)
    _see_that_it_is_the_same(start, settings)
    changed = dict(settings.cells[job.name])
    paths = _prefixes(start, settings) if job.name == PREFIXED else {}
    if job.stage == "rft":
        changed |= as_much(job.of(BASELINE), settings)
    pipeline = Pipeline(job.directory, settings.of_seed(job.seed, **changed), progress, paths)
    pipeline.run_stage(job.stage, StageModel(start.directory, start.stage))
    Cells(job.study, settings).result(job)


def _see_that_it_is_the_same(start: Job, settings: StudySettings) -> None:
    """A start that was trained again, because only its result was kept, or was brought from another machine, must be
    the model that other cells went on from.

    Raises:
        ConfigError: it is another.
    """
    if not Cells(start.study, settings).is_as_told(start):
        raise ConfigError(
            f"{start}: its model is not the one that {start.directory / RESULT} tells of (trained again, it wins other "
            "attempts), so that its cells would not compare with those that are there: bring its "
            f"{layout.model(start.directory, start.stage)} from where they ran, run all cells of a seed on machines "
            f"that add alike, or remove {start.directory.parent} and run the whole seed again"
        )


def _prefixes(start: Job, settings: StudySettings) -> dict[str, str]:
    """The option that lets groups begin within the start's own successes; {} where it had none at train tasks.

    Raises:
        ConfigError: its attempts are not here, or are of another version of the task set.
    """
    path = layout.rft_samples(start.directory) / records.FILE
    if not path.exists():
        raise ConfigError(
            f"{start}: its model is here and {path} is not, which has the successes that `{PREFIXED}` begins within: "
            "bring that too"
        )
    world = worlds.load(settings.pipeline["tasks"])
    versions = {} if world.task_set is None else {world.name: world.task_set.sha256}
    successes, others = prefixes.read(path, {str(TaskRef(world.name, i)) for i in train_tasks(world)}, versions)
    if others:
        raise ConfigError(
            f"{start}: {others} records of {path} are of another version of {settings.pipeline['tasks']}: bring the "
            "task set that it was run on"
        )
    if not successes:
        log.warning(
            "%s: %s has no success at a train task for a group to begin within: `%s` is the curriculum again",
            start,
            path,
            PREFIXED,
        )
        return {}
    return {"prefix_starts": str(path)}


def as_much(baseline: Job, settings: StudySettings) -> dict[str, Any]:
    """Settings with which RFT samples as many episodes as the baseline did, and trains on as many sequences.

    The episodes are spread over all train tasks, as GRPO's are: of a rectangle of tasks and attempts that holds at
    least as many, so many tasks that at most half an attempt at each task of the last row is missing or too many.
    """
    spent = Cells(baseline.study, settings).result(baseline).spending
    tasks = len(train_tasks(worlds.load(settings.pipeline["tasks"])))
    attempts = math.ceil(spent.episodes / tasks)
    return {
        "rft_tasks": max(1, round(spent.episodes / attempts)),
        "rft_attempts": attempts,
        "rft_sequences": spent.sequences,
    }
