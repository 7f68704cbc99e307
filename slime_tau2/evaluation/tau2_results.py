"""Runs as tau2's own results files, and tau2's results as runs.

An attempt that ended in a way for which tau2 has no name is exported as max_steps, which tau2 scores 0, too; what infrastructure ended
has no score and is left out. Imported attempts have tau2's reward and checks, and neither tokens nor partial scores.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import compare, runner
from slime_tau2.types import Policy, Termination


@dataclass(frozen=True)
class Exported:
    """What an export holds: simulations written, attempts left out, and why tau2's leaderboard would not take it (empty: it would)."""

    written: int
    left_out: int
    refused: list[str]


def export_run(directory: Path, output: Path, model_name: str | None = None) -> Exported:
    """Write a run of one domain as tau2's results.

    Args:
        model_name: what the results call the agent's model; without it, the run's `--model` or `--policy`.

    Raises:
        ConfigError: no run, nothing scored, the output exists, or the tasks are not those of the run.
    """
    if output.exists():
        raise ConfigError(f"{output} exists; delete it, or name another --output")
    settings, records = compare.load(directory).settings, runner.read_records(directory / "attempts.jsonl")
    world = worlds.load(settings["domain"], settings.get("retail_basis", "judge"), settings.get("retrieval", bench.DEFAULT_RETRIEVAL))
    if settings["tasks_sha256"] != world.tasks_sha256:
        raise ConfigError(
            f"{directory} was run on other tasks of {settings['domain']} than the installed tau2 has; install {settings['tau2']}"
        )
    scored = [r for r in records if r["reward"] is not None]
    ids = dict.fromkeys(r["task_id"] for r in scored)
    trials = 1 + max(r["attempt"] for r in scored)
    results = bench.Results(
        info=_info(settings, world, trials, model_name), tasks=[world.task(t) for t in ids],
        simulations=[_simulation(r) for r in scored],
    )  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = output.with_suffix(".part")
    staging.write_text(results.model_dump_json(indent=1), encoding="utf-8")
    staging.replace(output)
    return Exported(len(scored), len(records) - len(scored), _refused(world, scored, trials))


def _refused(world: worlds.World, scored: list[dict], trials: int) -> list[str]:
    """What `tau2 submit` would find wrong: it wants the base split whole, every task as tau2 has it, and each as often as all others."""
    out, tried = [], Counter(r["task_id"] for r in scored)
    base, theirs = set(world.splits.get("base", ())), bench.load_tasks(world.domain)
    if set(tried) != base:
        out.append(f"it holds {len(set(tried) & base)} of the {len(base)} tasks of split base: eval --split base")
    short = [t for t, n in tried.items() if n != trials]
    if short:
        out.append(f"{len(short)} tasks have fewer than {trials} scored attempts: the eval command again tries them again")
    changed = sum(world.task(t) != theirs[t] for t in tried)
    if changed:
        out.append(f"{changed} tasks were not scored on tau2's own basis but with retail_basis={world.retail_basis}: retail_basis=judge")
    return out


def _info(settings: dict[str, Any], world: worlds.World, trials: int, model_name: str | None) -> Any:
    sampling = {k: settings[k] for k in ("temperature", "top_p", "top_k") if k in settings}
    user_args = {"temperature": settings["user_temperature"]} if "user_temperature" in settings else None
    agent = model_name or settings.get("model") or settings["policy"]
    retrieval = {"retrieval_config": world.retrieval} if world.retrieval else {}
    user = "user_simulator" if settings["user"] == "llm" else settings["user"]
    return bench.ResultsInfo(
        git_commit=settings["tau2"],
        num_trials=trials,
        max_steps=settings["max_steps"],
        max_errors=settings["max_errors"],
        seed=settings["seed"],
        agent_info=bench.AgentInfo(implementation="slime_tau2", llm=agent, llm_args=sampling or None),
        user_info=bench.UserInfo(implementation=user, llm=settings.get("user_model"), llm_args=user_args),
        environment_info=world.environments.fresh().get_info(),
        **retrieval,
    )


def _simulation(record: dict[str, Any]) -> Any:
    times = [m["timestamp"] for m in record["messages"] if m.get("timestamp")] or [""]
    reason = Termination(record["termination"]).tau2_reason
    return bench.SimulationRun(
        id=f"{record['domain']}-{record['task_id']}-{record['attempt']}",
        task_id=record["task_id"],
        start_time=times[0],
        end_time=times[-1],
        duration=record["wall_s"],
        termination_reason=bench.termination_reason(reason),
        agent_cost=0.0,
        user_cost=0.0,
        reward_info=bench.RewardInfo.model_validate(record["reward_info"]),
        messages=[bench.parse_message(m) for m in record["messages"]],
        trial=record["attempt"],
        seed=record["seed"],
    )


def import_results(path: Path, output: Path) -> int:
    """Write tau2's results as a run's directory; returns how many attempts.

    Raises:
        ConfigError: the file is no results file of the installed tau2, of a domain that it does not have, or the output exists.
    """
    if output.exists():
        raise ConfigError(f"{output} exists; delete it, or name another --output")
    try:
        results = bench.Results.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        first = str(error).splitlines()
        raise ConfigError(f"{path} is no results file that {bench.VINTAGE} can read: {' '.join(first[:3])}") from error
    domain, info = results.info.environment_info.domain_name, results.info
    world = worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL)
    ids, user = {t.id for t in results.tasks}, info.user_info
    same = all(t.id in world.tasks and world.task(t.id).model_dump() == t.model_dump() for t in results.tasks)
    own = json.dumps([t.model_dump(mode="json") for t in results.tasks]).encode()
    settings = {
        "domain": domain,
        "split": next((s for s, t in world.splits.items() if set(t) == ids), "imported"),
        "seed": info.seed,
        "tasks_sha256": world.tasks_sha256 if same else hashlib.sha256(own).hexdigest(),
        "tau2": info.git_commit,
        "policy": info.agent_info.llm or info.agent_info.implementation,
        "user": "llm" if user.llm else user.implementation,
        "user_model": user.llm,
        "user_temperature": (user.llm_args or {}).get("temperature"),
        "max_steps": info.max_steps,
        "max_errors": info.max_errors,
        "retail_basis": "judge",
        "imported_from": path.name,
    }
    if getattr(info, "retrieval_config", None):
        settings["retrieval"] = info.retrieval_config
    seen: dict[str, int] = {}
    records = []
    for simulation in results.simulations:
        attempt = simulation.trial if simulation.trial is not None else seen.get(simulation.task_id, 0)
        seen[simulation.task_id] = seen.get(simulation.task_id, 0) + 1
        records.append(_record(domain, simulation, attempt, settings))
    output.mkdir(parents=True)
    (output / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    lines = (json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    (output / "attempts.jsonl").write_text("".join(lines), encoding="utf-8")
    attempts = 1 + max((r["attempt"] for r in records), default=0)
    (output / "summary.json").write_text(json.dumps(runner.summary(records, settings, attempts), indent=1), encoding="utf-8")
    return len(records)


def _record(domain: str, simulation: Any, attempt: int, settings: dict[str, Any]) -> dict[str, Any]:
    messages = [m.model_dump(mode="json", exclude_none=True) for m in simulation.messages]
    info = simulation.reward_info
    return {
        "attempt": attempt,
        "domain": domain,
        "task_id": simulation.task_id,
        "seed": simulation.seed,
        "reward": None if info is None else info.reward,
        "termination": simulation.termination_reason.value,
        "policy": (Policy.RETRY if info is None else Policy.SCORE).value,
        "detail": "",
        "partial": None,
        "components": {},
        "reward_info": None if info is None else info.model_dump(mode="json", exclude_none=True),
        "turns": [],
        "steps": len(messages),
        "tool_errors": sum(bool(m.get("error")) for m in messages),
        "response_tokens": 0,
        "sampled_tokens": 0,
        "wall_s": simulation.duration,
        "policy_s": 0.0,
        "user_s": 0.0,
        "tau2": settings["tau2"],
        "tasks_sha256": settings["tasks_sha256"],
        "reward_basis": [] if info is None else [b.value for b in info.reward_basis or []],
        "user_stopped_early": False,
        "messages": messages,
    }
