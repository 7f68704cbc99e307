"""Episodes that were played elsewhere, written as a run: its plan and its records, for every reader of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.data import records
from slime_tau2.episode.worlds import World
from slime_tau2.evaluation.plan import RunPlan, RunSettings, TaskSet
from slime_tau2.types import Episode


def write(
    directory: Path, world: World, episodes: Sequence[Episode], *, split: str, seed: int, settings: RunSettings
) -> None:
    """One attempt at each episode's task.

    Raises:
        ConfigError: the directory holds another run.
    """
    tasks = TaskSet.of(world, split, [episode.task.task_id for episode in episodes])
    plan = RunPlan(sets=(tasks,), attempts=1, seed=seed, settings=settings)
    before = RunPlan.of(directory)
    if before is not None:
        plan = plan.resuming(before, directory)
    directory.mkdir(parents=True, exist_ok=True)
    plan.write(directory)
    lines = (json.dumps(_line(plan, episode), ensure_ascii=False) + "\n" for episode in episodes)
    files.write_whole(directory / records.FILE, lines)


def _line(plan: RunPlan, episode: Episode) -> dict[str, Any]:
    return {"run": plan.run, "attempt": 0, **episode.record()}
