"""Traces of a domain's scripted teacher (helpdesk has one), through the same driver as every other episode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from slime_tau2 import bench, plugins, traits
from slime_tau2.data import traces
from slime_tau2.domains.helpdesk.environment import NAME
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser
from slime_tau2.limits import Limits
from slime_tau2.seeds import derive_seed


def collect(
    episodes: int,
    *,
    flaws: float,
    seed: int,
    split: str,
    advance: Callable[[int, str], None],
    domain: str = NAME,
) -> tuple[list[traces.Row], float]:
    """SFT rows of `episodes` episodes over the tasks of a split, good and bad, and the teacher's mean reward."""
    world = worlds.load(domain)
    domain_traits = traits.of(world.domain)
    teacher = plugins.load(domain_traits.teacher, f"teacher of {domain}")
    limits = Limits(max_steps=domain_traits.teacher_steps)
    task_ids, prompt = world.task_ids(split), bench.agent_prompt(world.policy)

    async def run() -> tuple[list[traces.Row], float]:
        started, won = time.perf_counter(), 0.0
        rows: list[traces.Row] = []
        for n in range(episodes):
            task_id, episode_seed = task_ids[n % len(task_ids)], derive_seed(seed, "trace", n)
            agent = CallableAgent(teacher(episode_seed, flaws).act)
            episode = await run_episode(world, task_id, agent, DomainUser(), seed=episode_seed, limits=limits)
            won += episode.reward or 0.0
            row = traces.to_row(episode, prompt, world.tool_schemas)
            if row is not None:
                rows.append(row)
            if n % 50 == 49:
                advance(
                    n + 1, f"reward {won / (n + 1):.2f}  {(n + 1) / (time.perf_counter() - started):.0f} episodes/s"
                )
        return rows, won / episodes

    return asyncio.run(run())
