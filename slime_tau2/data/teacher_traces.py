"""Traces of a domain's scripted teacher (helpdesk has one), through the same driver as every other episode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from slime_tau2 import bench, plugins, traits
from slime_tau2.data.traces import to_row
from slime_tau2.domains.helpdesk import MAX_STEPS
from slime_tau2.domains.helpdesk.environment import NAME
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser
from slime_tau2.limits import Limits
from slime_tau2.seeds import derive_seed


def collect(
    episodes: int,
    flaws: float,
    seed: int,
    split: str,
    advance: Callable[[int, str], None],
    domain: str = NAME,
) -> tuple[list[dict], float]:
    """SFT rows of `episodes` episodes over the tasks of a split, good and bad, and the teacher's mean reward."""
    world, teacher = worlds.load(domain), plugins.load(traits.of(domain).teacher, "teacher")
    task_ids, prompt = world.task_ids(split), bench.agent_prompt(world.policy)

    async def run() -> tuple[list[dict], float]:
        started, won, rows = time.perf_counter(), 0.0, []
        for n in range(episodes):
            one = derive_seed(seed, "trace", n)
            agent = CallableAgent(teacher(one, flaws).act)
            episode = await run_episode(
                world, task_ids[n % len(task_ids)], agent, DomainUser(), seed=one, limits=Limits(max_steps=MAX_STEPS)
            )
            won += episode.reward or 0.0
            row = to_row(episode, prompt, world.tool_schemas)
            rows += [row] if row is not None else []
            if n % 50 == 49:
                advance(
                    n + 1, f"reward {won / (n + 1):.2f}  {(n + 1) / (time.perf_counter() - started):.0f} episodes/s"
                )
        return rows, won / episodes

    return asyncio.run(run())
