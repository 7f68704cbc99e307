"""The expert's conversations on tasks of a factory, one after the other, without a run's directory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from slime_tau2.data.traces import Row
from slime_tau2.episode.world import World
from slime_tau2.factory import traces
from slime_tau2.seeds import derive_seed
from slime_tau2.types import Episode


@dataclass(frozen=True)
class Played:
    """A world of factory tasks, and the expert's episode of each."""

    world: World
    episodes: list[Episode]

    def rows(self) -> list[Row]:
        """The SFT rows."""
        return traces.rows(self.world, [episode.record() for episode in self.episodes])


def play(domain: str, count: int, seed: int) -> Played:
    """The conversations on `count` tasks of a domain's factory."""
    repertoire = traces.repertoire(domain, count, seed)

    async def run() -> list[Episode]:
        seeds = {task_id: derive_seed("expert", repertoire.world.domain, seed, task_id) for task_id in repertoire.made}
        return [await repertoire.play(task_id, seeds[task_id]) for task_id in repertoire.made]

    return Played(repertoire.world, asyncio.run(run()))
