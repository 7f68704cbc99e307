"""What doing nothing earns: the rewards of two agents that never help, on the same tasks as the agent that is
evaluated.

Some tasks are solved by a refusal, some by handing over to a human; a score means little without these beside it. They
are deterministic, need no model and take a millisecond or two per task.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from slime_tau2 import files
from slime_tau2.episode import scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import GoldUser
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import scores
from slime_tau2.evaluation.plan import BASELINES, RunPlan
from slime_tau2.types import is_success

FILE = BASELINES
KINDS = ("noop", "transfer-only")
Rates = dict[str, dict[str, float | None]]
"""{agent: {row of `scores`: share of the tasks that it wins}}; None where one of them needs a judge."""


async def play(world: World, kind: str, task_ids: Sequence[str]) -> dict[str, float | None]:
    """{task: reward}; None where a task needs a judge, which these runs do not ask."""
    out: dict[str, float | None] = {}
    for task_id in task_ids:
        agent = ScriptedAgent(scripts.script(kind, world.task(task_id)))
        out[task_id] = (await run_episode(world, task_id, agent, GoldUser())).reward
    return out


def rates(worlds: Mapping[str, World], plan: RunPlan, path: Path) -> Rates:
    """Play them on a run's tasks, and keep what they earned in `path`."""
    rewards = {
        kind: {s.domain: asyncio.run(play(worlds[s.domain], kind, s.tasks)) for s in plan.sets} for kind in KINDS
    }
    shares = {kind: _shares(by_domain) for kind, by_domain in rewards.items()}
    files.write_whole(path, json.dumps(shares, indent=1))
    return shares


def read(path: Path) -> Rates | None:
    """What a run's directory says about them; None where it says nothing.

    Raises:
        ConfigError: the file is not as `rates` writes it.
    """
    if not path.exists():
        return None
    shares = files.read_object(path)
    for kind, by_domain in shares.items():
        if not isinstance(by_domain, dict) or not all(
            v is None or isinstance(v, int | float) for v in by_domain.values()
        ):
            raise ConfigError(
                f"{path}: {kind}: no shares by domain; delete the file, and the eval command writes it again"
            )
    return shares


def lines(shares: Rates) -> list[str]:
    """As text, one line per agent."""
    return [f"beside it, {kind} on the same tasks: {', '.join(_line(by_domain))}" for kind, by_domain in shares.items()]


def _line(by_domain: Mapping[str, float | None]) -> list[str]:
    shown = {scores.OVERALL: by_domain[scores.OVERALL]} if len(by_domain) == 2 else by_domain
    return [f"{name} {'needs the judge' if share is None else f'{100 * share:.1f} %'}" for name, share in shown.items()]


def _shares(by_domain: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    pooled = [r for rewards in by_domain.values() for r in rewards.values()]
    each = {d: _share(list(rewards.values())) for d, rewards in by_domain.items()}
    known = [v for v in each.values() if v is not None]
    mean = {scores.MACRO: fmean(known) if len(known) == len(each) else None} if len(each) > 1 else {}
    return {scores.OVERALL: _share(pooled), **mean, **each}


def _share(rewards: Sequence[float | None]) -> float | None:
    if any(r is None for r in rewards):
        return None
    return sum(map(is_success, rewards)) / len(rewards)
