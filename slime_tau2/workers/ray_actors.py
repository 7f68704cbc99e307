"""Workers that are Ray actors, spread over the nodes of the cluster that this process belongs to: slime's own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from slime_tau2.errors import ConfigError
from slime_tau2.workers import memory
from slime_tau2.workers.player import Answer, Host, Make, sent
from slime_tau2.workers.pool import NotPlaced, WorkerDied

LIVE = 100_000
"""Most episodes of an actor at a time: Ray's own limit of 1,000 would let the others wait in its queue."""
PLACED_S = 120.0
"""How long Ray may take to find a CPU for an actor and to load what it plays with."""


class _Actor:
    """A host within an actor. What its player raises is kept for `ready`: raised here, it would kill the actor.

    Args:
        paths: the parent's import path. A plugin that the parent finds by name beside a script or in its working
            directory is found here too, where the node has that folder. `make` itself is unpickled before.
    """

    def __init__(self, make: Make, number: int, count: int, paths: Sequence[str]):
        self._host: Host | None = None
        self._error = b""
        sys.path += [path for path in paths if path not in sys.path]
        try:
            self._host = Host(make(number, count))
            memory.give_back()
        except Exception as error:
            self._error = sent(error)

    async def ready(self) -> Answer:
        return Answer(error=self._error, counts=Counter())

    async def play(self, job: Any) -> Answer:
        return await self.host.play(job)

    async def head(self, digest: bytes) -> bytes:
        return self.host.head(digest)

    async def prepare(self, task: Any) -> None:
        self.host.prepare(task)

    async def abort(self, aborted: bool) -> None:
        self.host.abort(aborted)

    async def silences(self) -> dict[str, float]:
        return self.host.silences()

    async def close(self) -> None:
        await self.host.player.close()

    @property
    def host(self) -> Host:
        assert self._host is not None, "an actor is used only after `ready`"
        return self._host


class Actors:
    """Starts the actors of one pool.

    Args:
        make: makes a player, in each actor.
    """

    def __init__(self, make: Make, count: int):
        self._make, self._count = make, count

    async def start(self, number: int) -> RayWorker:
        """An actor whose player is ready.

        Raises:
            ConfigError: this process is in no Ray cluster.
            NotPlaced: no node has a CPU to spare.
            WorkerDied: it ended before.
            UserError: what its player raised.
        """
        ray = cluster()
        actor = (
            ray.remote(_Actor)
            .options(num_cpus=1, max_concurrency=LIVE, scheduling_strategy="SPREAD")
            .remote(self._make, number, self._count, [os.path.abspath(path) for path in sys.path])
        )
        worker = RayWorker(actor)
        try:
            async with asyncio.timeout(PLACED_S):
                ready: Answer = await worker.ready()
            ready.check()
        except BaseException as error:
            worker.kill()  # nobody else knows of it, and it would keep its CPU
            if not isinstance(error, TimeoutError):
                raise
            free = ray.available_resources().get("CPU", 0.0)
            raise NotPlaced(
                f"tau2_workers = {self._count}: Ray has not started worker {number} within {PLACED_S:.0f} s, and has "
                f"{free:g} free CPUs; each worker takes one: ask for fewer, or give Ray more (ray start --num-cpus)"
            ) from None
        return worker

    async def close(self) -> None:
        """Actors have nothing in common."""


class RayWorker:
    """One actor."""

    def __init__(self, actor: Any):
        self._actor = actor

    async def ready(self) -> Answer:
        """Empty, or with the error that its player met."""
        answer: Answer = await self._awaited(self._actor.ready.remote())
        return answer

    async def play(self, job: Any) -> Answer:
        reference = self._actor.play.remote(job)
        try:
            answer: Answer = await self._awaited(reference)
            return answer
        except asyncio.CancelledError:
            cluster().cancel(reference)
            raise

    async def head(self, digest: bytes) -> bytes:
        ids: bytes = await self._awaited(self._actor.head.remote(digest))
        return ids

    async def prepare(self, task: Any) -> None:
        await self._awaited(self._actor.prepare.remote(task))

    async def abort(self, aborted: bool) -> None:
        await self._awaited(self._actor.abort.remote(aborted))

    async def silences(self) -> dict[str, float]:
        silences: dict[str, float] = await self._awaited(self._actor.silences.remote())
        return silences

    async def close(self) -> None:
        """End it: first gently, so that it closes its connections."""
        try:
            async with asyncio.timeout(5.0):
                await self._awaited(self._actor.close.remote())
        except (TimeoutError, WorkerDied):
            pass
        self.kill()

    def kill(self) -> None:
        """End it at once, whether it can be reached or not."""
        with suppress(ConfigError, ValueError):  # its cluster is gone, or another one: it ended with that
            cluster().kill(self._actor, no_restart=True)

    async def _awaited(self, reference: Any) -> Any:
        """What a call returns.

        Ray has a dozen errors for an actor that is lost (its process, its node, its memory, its answer), and new ones
        come. So they are all a death but for the two that say something of the call.

        Raises:
            WorkerDied: Ray has lost the actor, or what it answered.
            RayTaskError: the call raised.
            TaskCancelledError: it was cancelled.
        """
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        try:
            return await reference
        except (RayTaskError, TaskCancelledError):
            raise
        except RayError as error:
            raise WorkerDied(str(error).strip().splitlines()[0] if str(error) else type(error).__name__) from error


def cluster() -> Any:
    """The `ray` module, of a process that is in a cluster.

    Raises:
        ConfigError: it is not installed, or this process is in none.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "tau2_workers wants Ray, which is not installed here: set tau2_workers to 0, or run inside slime's "
            "environment"
        ) from None
    if not ray.is_initialized():
        raise ConfigError(
            "tau2_workers wants a Ray cluster, and this process is in none: set tau2_workers to 0, or start the job "
            "as slime does (ray.init)"
        )
    return ray
