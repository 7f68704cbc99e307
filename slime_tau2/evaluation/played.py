"""A run of one attempt at each task that somebody else than `eval` plays: resumed, and read, as every other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from slime_tau2.episode.splits import BASE
from slime_tau2.episode.world import World
from slime_tau2.evaluation import runner
from slime_tau2.evaluation.plan import RunPlan, RunSettings, TaskSet
from slime_tau2.evaluation.runner import RunOne
from slime_tau2.record import AttemptRecord


def play(
    directory: Path,
    worlds: Mapping[str, World],
    tasks: Mapping[str, Sequence[str]],
    run_one: RunOne,
    *,
    seed: int,
    settings: RunSettings,
) -> list[AttemptRecord]:
    """The records of tasks, in their order; plays what the directory does not have yet.

    Args:
        worlds: {name: world}.
        tasks: {name of a world: ids of its tasks}.
        run_one: plays one task; an error of its ends the run, and what was played before is kept.

    Raises:
        ConfigError: the directory holds another run, or another process writes there.
    """
    sets = tuple(TaskSet.of(worlds[name], BASE, ids) for name, ids in tasks.items())
    plan = RunPlan(sets=sets, attempts=1, seed=seed, settings=settings)
    job = runner.Run(plan=plan, worlds=worlds, output=directory, run_one=run_one, concurrency=1)
    finished = asyncio.run(runner.run(job))
    by_key = {(record["domain"], record["task_id"]): record for record in finished.records}
    return [by_key[key] for key in plan.keys]
