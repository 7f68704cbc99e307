"""SFT rows of the scripted expert on tasks of the factory, played through the driver like every other episode.

Only tasks of the factory's `train` split are played. Each row has earned tau2's whole reward.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_tau2 import bench
from slime_tau2.data import traces
from slime_tau2.episode import worlds
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.splits import TRAIN
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError, FactoryError
from slime_tau2.factory import build, experts
from slime_tau2.factory.build import Made
from slime_tau2.factory.dialogue import Stage, StageAgent, StageUser
from slime_tau2.limits import Limits
from slime_tau2.record import EpisodeRecord
from slime_tau2.seeds import derive_seed
from slime_tau2.tasksets import openings
from slime_tau2.tasksets.manifest import SetManifest
from slime_tau2.types import Episode, is_success

SPARE = 1.25
"""How many tasks are made for each that is wanted: the held-out ones are left out."""


@dataclass(frozen=True)
class Repertoire:
    """Tasks of the factory that the expert can play.

    Attributes:
        world: a task set's, or one of these tasks alone.
        made: {id: the task with its draft}, in order.
    """

    world: World
    made: Mapping[str, Made]

    async def play(self, task_id: str, seed: int) -> Episode:
        """One conversation.

        Raises:
            FactoryError: it did not earn the whole reward.
        """
        return await play_one(self.world, self.made[task_id], seed)


def repertoire(domain: str, count: int, seed: int, *, split: str = TRAIN, held: Collection[str] = ()) -> Repertoire:
    """`count` tasks of a domain's factory, none of its held-out split; of a task set that `make-tasks` wrote, so many
    of a split's at most.

    Args:
        domain: a domain, or an open task set.
        split: of a task set; a domain's factory has `train` alone.
        held: ids of tasks that may not train.

    Raises:
        ConfigError: the domain has no factory or no expert, or cannot make so many tasks; the task set is not of the
            factory, or has no such split, or no task of it may train.
    """
    opened = openings.find(domain)
    if opened is None:
        experts.of(domain)
        if split != TRAIN:
            raise ConfigError(
                f"--split {split}: what is made of {domain} on the way is {TRAIN} alone; `slime-tau2 make-tasks` makes "
                "a set that has more splits"
            )
        made = build.make(domain, round(count * SPARE) + 10, seed)
        made = [m for m in made if not _held_out(m)]
    else:
        experts.of(opened.manifest.domain)
        wanted = set(worlds.split(domain, split))
        made = [m for m in made_again(opened.manifest) if m.task["id"] in wanted]
    made = [m for m in made if m.task["id"] not in held][:count]
    if not made:
        raise ConfigError(f"--split {split} of {domain}: none of its tasks may train")
    world = world_of(domain, made) if opened is None else worlds.load(domain)
    return Repertoire(world, {m.task["id"]: m for m in made})


def rows(world: World, records: Iterable[EpisodeRecord]) -> list[traces.Row]:
    """The SFT rows of the expert's conversations."""
    prompt, schemas = bench.agent_prompt(world.policy), world.tool_schemas
    found = [traces.record_to_row(record, prompt, schemas) for record in records]
    return [row for row in found if row is not None]


def made_again(manifest: SetManifest) -> list[Made]:
    """The tasks of a set with their drafts, which follow from the seed.

    Raises:
        ConfigError: the set is not of the factory, or its tasks are made otherwise now.
    """
    origin: Any = manifest.provenance
    if "factory" not in origin:
        raise ConfigError(f"task set {manifest.name} is not of make-tasks, so that the expert cannot play it")
    made = build.make(
        origin["factory"],
        origin["count"],
        origin["seed"],
        refused=origin["refused"],
        transferred=origin["transferred"],
    )
    known = {task_id for ids in manifest.splits.values() for task_id in ids}
    if {m.task["id"] for m in made} != known:
        raise ConfigError(
            f"task set {manifest.name} was made by another version of the factory or from another database; make it "
            "again with make-tasks"
        )
    return made


def world_of(domain: str, made: Sequence[Made]) -> World:
    """A world of factory tasks over the domain's own database."""
    return worlds.build(
        worlds.load(domain).spec,
        name=domain,
        tasks=[bench.Task.model_validate(m.task) for m in made],
        task_splits={"base": [m.task["id"] for m in made]},
    )


def _held_out(made: Made) -> bool:
    return build.held_out(made.draft.domain, made.draft.owner)


async def play_one(world: World, made: Made, seed: int) -> Episode:
    """One conversation.

    Raises:
        FactoryError: it did not earn the whole reward.
    """
    task, draft = made
    expert = experts.of(world.domain)(
        world, draft, persona=task["user_scenario"]["persona"], rng=random.Random(derive_seed(seed, "speech"))
    )
    stage = Stage(expert.script())
    episode = await run_episode(
        world, task["id"], StageAgent(stage), StageUser(stage), seed=seed, limits=Limits(max_steps=200)
    )
    if not is_success(episode.reward):
        raise FactoryError(
            f"{task['id']}: the expert earns {episode.reward}, not 1: {episode.termination.value} {episode.detail}"
        )
    return episode
