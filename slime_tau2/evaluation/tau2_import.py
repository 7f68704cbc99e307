"""tau2's own results files as runs, published ones too, so that every reader treats them as any other.

Imported attempts have tau2's reward and checks, and neither tokens nor partial scores.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from slime_tau2 import bench, files
from slime_tau2.data import records
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import coverage, runner
from slime_tau2.evaluation.coverage import Coverage
from slime_tau2.evaluation.plan import SUMMARY, RunPlan, RunSettings, TaskSet
from slime_tau2.record import FORMAT, AttemptRecord, MessageRecord, RewardInfoRecord
from slime_tau2.terminations import Disposition

SAMPLING: tuple[Literal["temperature", "top_p", "top_k"], ...] = ("temperature", "top_p", "top_k")
"""Sampling parameters that a plan keeps of tau2's results."""
BASES = ("judge", "communicate", "no_judge")
"""`Tau2Config.retail_basis`, tau2's own first. Results carry their tasks, so the basis that they were scored on is in
them.
"""


def import_results(path: Path, output: Path) -> Coverage:
    """Write tau2's results as a run's directory; returns how much of what they announce they hold.

    Raises:
        ConfigError: the file is no results file of the installed tau2, of a domain that it does not have, or the output
            exists.
    """
    if output.exists():
        raise ConfigError(f"{output} exists; delete it, or name another --output")
    try:
        results = bench.Results.model_validate_json(files.read_text(path))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no results file that {bench.VINTAGE} can read: {files.one_line(error)}"
        ) from error
    if not results.tasks or not results.simulations:
        raise ConfigError(
            f"{path} holds {len(results.tasks)} tasks and {len(results.simulations)} simulations; is it the file "
            "that you mean?"
        )
    seen: Counter[str] = Counter()
    rows = []
    plan = _plan(results, path)
    for simulation in results.simulations:
        attempt = simulation.trial if simulation.trial is not None else seen[simulation.task_id]
        seen[simulation.task_id] += 1
        rows.append(_record(plan, simulation, attempt))
    twice = [key for key, n in Counter((r["task_id"], r["attempt"]) for r in rows).items() if n > 1]
    if twice:
        raise ConfigError(
            f"{path} holds task {twice[0][0]!r}, trial {twice[0][1]}, twice; is it the file that you mean?"
        )
    plan = plan.model_copy(update={"attempts": max(plan.attempts, 1 + max(r["attempt"] for r in rows))})
    try:
        covered = coverage.of(plan, rows)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    plan.write(output)
    files.write_whole(output / records.FILE, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    files.write_whole(output / SUMMARY, json.dumps(runner.summary(plan, rows, covered), indent=1))
    return covered


def _plan(results: bench.Results, path: Path) -> RunPlan:
    info = results.info
    domain = info.environment_info.domain_name
    world = worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL)
    ids = {task.id for task in results.tasks}
    scored_on = {b: worlds.load(domain, retail_basis=b, retrieval=bench.LEAST_RETRIEVAL) for b in BASES}
    basis = next((b for b, w in scored_on.items() if _same(w, results.tasks)), None)
    content = json.dumps([task.model_dump(mode="json") for task in results.tasks]).encode()
    # tasks with other criteria are another set, whatever their ids
    split = next((s for s, t in world.splits.items() if basis and set(t) == ids), None)
    tasks = TaskSet(
        domain=domain,
        split=split or "imported",
        tasks=tuple(t.id for t in results.tasks),
        in_split=len(ids) if split else 0,
        split_size=len(ids) if split else 0,
        tasks_sha256=world.tasks_sha256 if basis else hashlib.sha256(content).hexdigest(),
        retrieval=getattr(info, "retrieval_config", None) or None,
    )
    settings = _settings(info, path)
    if basis:
        settings["retail_basis"] = basis
    return RunPlan(sets=(tasks,), attempts=info.num_trials, seed=info.seed, tau2=info.git_commit, settings=settings)


def _settings(info: bench.ResultsInfo, path: Path) -> RunSettings:
    """What tau2's results say of the policy, the user and the limits."""
    user = info.user_info
    settings: RunSettings = {
        "policy": info.agent_info.llm or info.agent_info.implementation,
        "user": "llm" if user.llm else user.implementation,
        "max_steps": info.max_steps,
        "max_errors": info.max_errors,
        "imported_from": path.name,
    }
    if user.llm:
        settings["user_model"] = user.llm
        settings["user_temperature"] = (user.llm_args or {}).get("temperature")
    sampling = info.agent_info.llm_args or {}
    for key in SAMPLING:
        if key in sampling:
            settings[key] = sampling[key]
    return settings


def _same(world: World, tasks: Sequence[bench.Task]) -> bool:
    """Whether tasks are this world's, their reward basis too."""
    return all(t.id in world.tasks and world.task(t.id).model_dump() == t.model_dump() for t in tasks)


def _record(plan: RunPlan, simulation: bench.SimulationRun, attempt: int) -> AttemptRecord:
    # tau2's own JSON, as a record of ours holds it
    messages = [cast(MessageRecord, m.model_dump(mode="json", exclude_none=True)) for m in simulation.messages]
    info = simulation.reward_info
    return AttemptRecord(
        format=FORMAT,
        run=plan.run,
        attempt=attempt,
        domain=plan.sets[0].domain,
        task_id=simulation.task_id,
        seed=simulation.seed,
        reward=None if info is None else info.reward,
        termination=simulation.termination_reason.value,
        disposition=(Disposition.RETRY if info is None else Disposition.SCORE).value,
        detail="",
        partial=None,
        components={},
        reward_info=None if info is None else cast(RewardInfoRecord, info.model_dump(mode="json", exclude_none=True)),
        turns=[],
        steps=len(messages),
        tool_errors=sum(bool(m.get("error")) for m in messages),
        response_tokens=0,
        sampled_tokens=0,
        wall_s=simulation.duration,
        policy_s=0.0,
        user_s=0.0,
        usage={},
        tau2=plan.tau2,
        tasks_sha256=plan.sets[0].tasks_sha256,
        reward_basis=[] if info is None else [b.value for b in info.reward_basis or []],
        user_stopped_early=False,
        messages=messages,
        reasoning=[],
    )
