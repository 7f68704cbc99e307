"""Runs as tau2's own results files: its viewer, its metrics, its leaderboard.

An attempt that ended in a way for which tau2 has no name is exported as max_steps, which tau2 scores 0, too; what
infrastructure ended has no score and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from slime_tau2 import bench, files
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import runs
from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tau2_import import SAMPLING
from slime_tau2.record import AttemptRecord
from slime_tau2.terminations import Termination


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    written: int
    """Simulations."""
    left_out: int
    """Attempts without a score."""
    refused: list[str]
    """Why tau2's leaderboard would not take it; empty: it would."""


def export_run(directory: Path, output: Path, model_name: str | None = None, partial: bool = False) -> Exported:
    """Write a run as tau2's results, which are of one domain: a run of several becomes a folder with a file each.

    Args:
        model_name: what the results call the agent's model; without it, the run's `--model` or `--policy`.
        partial: write a run too that is not whole.

    Raises:
        ConfigError: no run, half a run, the output exists, or the tasks are not those of the run.
    """
    if output.exists():
        raise ConfigError(f"{output} exists; delete it, or name another --output")
    run = runs.load(directory)
    runs.require_whole(run, partial, "export")
    several = len(run.plan.sets) > 1
    if several and output.suffix == ".json":
        raise ConfigError(
            f"{directory} is a run of {', '.join(run.plan.domains)}, and tau2's results are of one domain: name a "
            f"folder, not {output}"
        )
    made = {output / f"{s.domain}.json" if several else output: _results(run, s, model_name) for s in run.plan.sets}
    for path, (text, _) in made.items():
        files.write_whole(path, text)
    refused = [
        f"{s.domain}: {reason}" if several else reason
        for s, (_, why) in zip(run.plan.sets, made.values())
        for reason in why
    ]
    return Exported(run.coverage.scored, run.coverage.planned - run.coverage.scored, refused)


def _results(run: EvaluatedRun, tasks: TaskSet, model_name: str | None) -> tuple[str, list[str]]:
    """tau2's results of one domain of a run, as JSON, and what its leaderboard would refuse."""
    settings = run.plan.settings
    world = worlds.load(
        tasks.domain,
        retail_basis=settings.get("retail_basis", "judge"),
        retrieval=tasks.retrieval or bench.DEFAULT_RETRIEVAL,
    )
    if tasks.tasks_sha256 != world.tasks_sha256:
        raise ConfigError(
            f"{run.directory} was run on other tasks of {tasks.domain} than the installed tau2 has; install tau2 "
            f"{run.plan.tau2}"
        )
    scored = [r for r in run.records if r["reward"] is not None and r["domain"] == tasks.domain]
    ids = dict.fromkeys(r["task_id"] for r in scored)
    try:
        results = bench.Results(
            info=_info(run.plan, world, model_name),
            tasks=[world.task(t) for t in ids],
            simulations=[_simulation(r) for r in scored],
        )
    except ValueError as error:
        raise ConfigError(f"{run.directory}: a record that tau2 cannot read: {files.one_line(error)}") from error
    return results.model_dump_json(indent=1), _refused(world, scored, run.plan.attempts)


def _refused(world: World, scored: Sequence[AttemptRecord], trials: int) -> list[str]:
    """What `tau2 submit` would find wrong.

    It wants the base split whole, every task as tau2 has it, and each as often as all others.
    """
    out = []
    tried = Counter(record["task_id"] for record in scored)
    base = set(world.splits.get("base", ()))
    theirs = bench.load_tasks(world.domain)
    if set(tried) != base:
        out.append(f"it holds {len(set(tried) & base)} of the {len(base)} tasks of split base: eval --split base")
    short = [t for t, n in tried.items() if n != trials]
    if short:
        out.append(
            f"{len(short)} tasks have fewer than {trials} scored attempts: the eval command again tries them again"
        )
    changed = sum(world.task(t) != theirs[t] for t in tried)
    if changed:
        out.append(
            f"{changed} tasks were not scored on tau2's own basis but with retail_basis={world.retail_basis}: "
            "retail_basis=judge"
        )
    return out


def _info(plan: RunPlan, world: World, model_name: str | None) -> bench.ResultsInfo:
    settings = plan.settings
    sampling: dict[str, Any] = {key: settings[key] for key in SAMPLING if key in settings}
    user_temperature = settings.get("user_temperature")
    user_args = None if user_temperature is None else {"temperature": user_temperature}
    retrieval = {"retrieval_config": world.retrieval} if world.retrieval else {}
    return bench.ResultsInfo(
        git_commit=plan.tau2,
        num_trials=plan.attempts,
        max_steps=settings.get("max_steps", 0),
        max_errors=settings.get("max_errors", 0),
        seed=plan.seed,
        agent_info=bench.AgentInfo(
            implementation="slime_tau2",
            llm=model_name or settings.get("model") or settings.get("policy"),
            llm_args=sampling or None,
        ),
        user_info=bench.UserInfo(
            implementation="user_simulator" if settings.get("user") == "llm" else str(settings.get("user")),
            llm=settings.get("user_model"),
            llm_args=user_args,
        ),
        environment_info=next(iter(world.stages.values())).environments.fresh().get_info(),
        **retrieval,
    )


def _simulation(record: AttemptRecord) -> bench.SimulationRun:
    times = [time for time in (m.get("timestamp") for m in record["messages"]) if time] or [""]
    reason = Termination(record["termination"]).tau2_reason
    return bench.SimulationRun(
        id=f"{record['domain']}-{record['task_id']}-{record['attempt']}",
        task_id=record["task_id"],
        start_time=times[0],
        end_time=times[-1],
        duration=record["wall_s"] or 0.0,
        termination_reason=bench.termination_reason(reason),
        agent_cost=0.0,
        user_cost=0.0,
        reward_info=bench.RewardInfo.model_validate(record["reward_info"]),
        messages=[bench.parse_message(cast(dict[str, Any], m)) for m in record["messages"]],
        trial=record["attempt"],
        seed=record["seed"],
    )
