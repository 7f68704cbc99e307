"""What doing nothing earns: the rewards of two agents that never help, on the same tasks as the agent that is evaluated.

Some tasks are solved by a refusal, some by handing over to a human; a score means little without these beside it. They are
deterministic, need no model and take a millisecond or two a task.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from slime_tau2.episode import scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import GoldUser
from slime_tau2.episode.worlds import World
from slime_tau2.types import is_success

KINDS = ("noop", "transfer-only")


async def play(world: World, kind: str, task_ids: Sequence[str]) -> dict[str, float | None]:
    """{task: reward}; None where a task needs a judge, which these runs do not ask."""
    out: dict[str, float | None] = {}
    for task_id in task_ids:
        agent = ScriptedAgent(scripts.script(kind, world.task(task_id)))
        out[task_id] = (await run_episode(world, task_id, agent, GoldUser())).reward
    return out


def rates(world: World, task_ids: Sequence[str], path: Path) -> dict[str, float | None]:
    """{agent: share of the tasks that it wins}; None where one of them needs a judge. What was played is kept in `path`."""
    known: dict[str, dict[str, float | None]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for kind in KINDS:
        seen = known.setdefault(kind, {})
        seen |= asyncio.run(play(world, kind, [t for t in task_ids if t not in seen]))
    path.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return {kind: _share([known[kind][t] for t in task_ids]) for kind in KINDS}


def _share(rewards: Sequence[float | None]) -> float | None:
    scored = [r for r in rewards if r is not None]
    return sum(map(is_success, scored)) / len(scored) if scored and len(scored) == len(rewards) else None
