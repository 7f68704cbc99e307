"""Who plays the episodes of `generate`: this process, or workers on Ray. Both play a `Job` by the same few lines."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from slime_tau2.config import Tau2Config
from slime_tau2.episode.driver import lost
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import ConfigError, WorkerError
from slime_tau2.record import MessageRecord
from slime_tau2.tokenizer import Tokenizer
from slime_tau2.types import Episode
from slime_tau2.workers import shares
from slime_tau2.workers.pool import Pool
from slime_tau2.workers.ray_actors import Actors, cluster

log = logging.getLogger(__name__)


TaskKey: TypeAlias = tuple[str, str]
"""(domain, task id)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One episode, as it goes to whoever plays it.

    Attributes:
        domain: the world's name.
        sampling: the server's parameters, and `max_new_tokens` of the whole response.
        seed: of the user.
        sampling_seed: from which the sampling derives; None leaves it to the server.
        prefix: what was said before (`run_episode`).
    """

    domain: str
    task_id: str
    seed: int
    sampling: Mapping[str, Any]
    sampling_seed: int | None
    routing_key: str
    evaluation: bool
    routed_experts: bool
    prefix: Sequence[MessageRecord]


class EpisodePlayer:
    """Plays jobs in this process, with its harness."""

    def __init__(self, harness: Harness):
        self.harness = harness

    async def play(self, job: Job, aborted: Callable[[], bool]) -> Episode:
        world = self.harness.world(job.domain)
        agent = self.harness.agent(
            world,
            sampling=job.sampling,
            seed=job.sampling_seed,
            routing_key=job.routing_key,
            aborted=aborted,
            routed_experts=job.routed_experts,
            task_id=job.task_id,
            episode_seed=job.seed,
        )
        return await self.harness.run(
            world,
            job.task_id,
            agent,
            seed=job.seed,
            evaluation=job.evaluation,
            aborted=aborted,
            prefix=job.prefix,
            routing_key=job.routing_key,
        )

    def prepare(self, task: TaskKey) -> None:
        self.harness.prepare(*task)

    def take_counts(self) -> Counter[str]:
        return self.harness.take_faults()

    def silences(self) -> dict[str, float]:
        return self.harness.silences()

    async def close(self) -> None:
        await self.harness.close()


def player(config: Tau2Config, tokenizer: Tokenizer, url: str) -> EpisodePlayer:
    """A player whose policy's server (or router) is at `url`.

    Raises:
        UserError: the configuration or the installation will not do.
    """
    policy = PolicyClient(
        url,
        concurrency=config.policy_concurrency,
        plain_http=config.plain_http,
        retries=config.policy_client_retries,
    )
    harness = Harness(config, tokenizer, policy)
    harness.check()
    return EpisodePlayer(harness)


def in_worker(config: Tau2Config, tokenizer: Tokenizer, url: str, number: int, count: int) -> EpisodePlayer:
    """The player of worker `number` of `count`, made there."""
    config.open()
    return player(shares.of_worker(config, number, count), tokenizer, url)


class Workers:
    """`tau2_workers` of them for one configuration; started with the first episode.

    They play for one event loop at a time, since they share the servers' limits out in full. slime closes one only to
    begin another (its fully-async thread does); workers of a closed loop end as the next one asks for an episode, and
    the last end with this object, or with the process.

    Args:
        here: this process's own player, of the same configuration.
        aborted: whether the rollout is aborted.

    Raises:
        ConfigError: no Ray, or fewer requests than workers.
    """

    def __init__(self, here: EpisodePlayer, url: str, aborted: Callable[[], bool]):
        harness = here.harness
        config, tokenizer = harness.config, harness.tokenizer
        assert tokenizer is not None, "the hooks' policy has tokens"
        cluster()
        log.info("%s", shares.line(config, config.workers))
        self._make = functools.partial(in_worker, config, tokenizer, url)
        self._harness, self._count, self._aborted = harness, config.workers, aborted
        self._playing: tuple[asyncio.AbstractEventLoop, Pool] | None = None
        self._counts: Counter[str] = Counter()
        """Of pools that have ended."""

    async def play(self, job: Job) -> Episode:
        """An episode; one whose workers died has ended as infrastructure.

        Raises:
            ConfigError: the workers play for another event loop, which is not closed.
            UserError, RuntimeError: as `Pool.play`.
        """
        try:
            return await self._pool().play(job, (job.domain, job.task_id))
        except WorkerError as error:
            return lost(self._harness.world(job.domain), job.task_id, job.seed, error)

    async def prepare(self, task: TaskKey) -> None:
        """Have a worker make what episodes of a task begin with, where the workers are there."""
        if self._playing is not None and self._playing[0] is asyncio.get_running_loop():
            await self._playing[1].prepare(task)

    def take_counts(self) -> Counter[str]:
        counts, self._counts = self._counts, Counter()
        return counts if self._playing is None else counts + self._playing[1].take_counts()

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        if self._playing is not None:
            before, pool = self._playing
            if before is loop:
                return pool
            if not before.is_closed():
                raise ConfigError(
                    f"tau2_workers = {self._count}: these workers play for one event loop, and another one of this "
                    "process asks for an episode, as evaluation beside slime's fully-async rollout does: set "
                    "tau2_workers to 0, or evaluate offline"
                )
            self._counts += pool.take_counts()
            pool.kill()
        pool = Pool(self._count, Actors(self._make, self._count), self._aborted)
        self._playing = loop, pool
        return pool
