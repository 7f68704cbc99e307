"""N workers and whoever sends them episodes: the least loaded gets the next, one that dies is replaced.

A worker's death is not its episodes' fault. They are played again, with the same seeds, by others; an episode that
takes `TRIES` workers with it ends as infrastructure. What carries jobs (processes of this machine, Ray) is the
`Worker`'s own affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from slime_tau2.errors import ConfigError, UserError, WorkerError
from slime_tau2.types import Episode
from slime_tau2.workers import wire
from slime_tau2.workers.player import Answer

log = logging.getLogger(__name__)
DIED = "worker/died"
"""Under this name deaths are counted, beside the failed requests of the players' clients."""
TRIES = 3
"""Workers that one episode may see die."""
MOST_DEATHS = 5
"""Deaths of a worker, with no episode finished between them, before it is given up."""
SLACK = 2
"""How many more episodes a worker may have than the least loaded, and still be chosen because it knows the task."""
POLL_S = 0.01
"""How often is looked whether the rollout was aborted. The policy's agent waits longer than that before it goes on
behind a request that its server aborted."""


class WorkerDied(Exception):
    """A worker ended, or cannot be reached; the message says how."""


class NotPlaced(ConfigError):
    """There is no room for a worker. As a run begins that ends it; later the other workers go on, and room may come."""


class Worker(Protocol):
    """One worker, wherever it runs. Every coroutine raises WorkerDied."""

    async def play(self, job: Any) -> Answer: ...

    async def head(self, digest: bytes) -> bytes: ...

    async def prepare(self, task: Any) -> None: ...

    async def abort(self, aborted: bool) -> None: ...

    async def silences(self) -> dict[str, float]: ...

    async def close(self) -> None: ...

    def kill(self) -> None:
        """End it at once; does nothing where it has ended."""


class Carrier(Protocol):
    """Where workers run."""

    async def start(self, number: int) -> Worker:
        """A worker, ready; raises WorkerDied, NotPlaced, or the UserError that its player met."""

    async def close(self) -> None:
        """End what the workers had in common."""


@dataclass(kw_only=True)
class _Place:
    """Where one of the workers runs, or its successor."""

    number: int
    worker: Worker | None = None
    live: int = 0
    deaths: int = 0
    told: bool = False
    """What its worker was told last: whether the rollout is aborted."""
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    known: dict[Hashable, None] = field(default_factory=dict)
    """Tasks that it has played, whose gold states and texts it remembers."""


class Pool:
    """All workers of a process. Its methods belong to one event loop; `await close()` before that ends.

    Args:
        count: how many workers.
        carrier: starts them.
        aborted: asked again and again while episodes are under way; the workers are told when it changes, and each
            before it gets an episode.
    """

    KNOWN = 512
    """Tasks that are remembered for each worker."""

    def __init__(self, count: int, carrier: Carrier, aborted: Callable[[], bool] = lambda: False):
        self._carrier, self._aborted = carrier, aborted
        self._places = [_Place(number=n) for n in range(count)]
        self._starting: set[asyncio.Task[None]] = set()
        self._begun = self._assembled = False
        self._changed = asyncio.Condition()
        self._failure: Exception | None = None
        self._counts: Counter[str] = Counter()
        self._unpacker = wire.Unpacker()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def live(self) -> int:
        """Episodes under way."""
        return sum(place.live for place in self._places)

    async def play(self, job: Any, task: Hashable) -> Episode:
        """Have an episode played.

        Args:
            job: what the workers' player plays.
            task: what the job is about; a worker that had it before is preferred.

        Raises:
            WorkerError: `TRIES` workers died of it, or the pool was closed before it was played.
            UserError: what the player raised, there or as it was made, or no worker can be kept alive.
            RuntimeError: that was an error of another kind; says where it was raised.
        """
        self._begin()
        death: WorkerDied | None = None
        for _ in range(TRIES):
            place, worker = await self._place(task)
            place.live += 1
            if self._watcher is None or self._watcher.done():
                self._watcher = asyncio.create_task(self._watch())
            try:
                await self._tell(place, worker)
                answer = await worker.play(job)
                self._counts += answer.counts
                readable = await self._learn(answer, worker)
            except WorkerDied as error:
                death = error
                self._bury(place, worker, error)
                continue
            finally:
                place.live -= 1
            place.deaths = 0
            answer.check()
            if readable:
                return self._unpacker.unpack(answer.episode.episode)
            death = WorkerDied("it did not know any more what a prompt begins with")
        raise WorkerError(f"{TRIES} workers died while they played it, the last one: {death}")

    async def _learn(self, answer: Answer, worker: Worker) -> bool:
        """See that the heads that an answer names are known; False where its worker does not know one any more."""
        while missing := self._unpacker.missing(answer.episode.heads):
            head = await worker.head(missing[0])
            if not head:
                return False
            self._unpacker.learn(missing[0], head)
        return True

    async def prepare(self, task: Hashable) -> None:
        """Have one worker make what episodes of a task begin with; they will be sent there, unless it is too busy."""
        there = [(place, place.worker) for place in self._places if place.worker is not None]
        if not there or any(task in place.known for place, _ in there):
            return
        place, worker = there[hash(task) % len(there)]
        self._knows(place, task)
        with suppress(WorkerDied):
            await worker.prepare(task)

    def take_counts(self) -> Counter[str]:
        """What the workers counted since the last call, and under `DIED` how many of them died."""
        counts, self._counts = self._counts, Counter()
        return counts

    async def silences(self) -> dict[str, float]:
        """{server: seconds since its last answer to any worker while one waits for it; 0.0 while none does}."""
        found: dict[str, list[float]] = {}
        for place in self._places:
            if place.worker is not None:
                with suppress(WorkerDied):
                    for name, seconds in (await place.worker.silences()).items():
                        found.setdefault(name, []).extend([seconds] if seconds else [])
        return {name: min(seconds, default=0.0) for name, seconds in found.items()}

    async def close(self) -> None:
        """End all workers, and what they play. Whoever waits for an episode gets a WorkerError."""
        await self._fail(self._failure or WorkerError("the workers were closed before it was played"))
        ending = [task for task in (*self._starting, self._watcher) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        workers = [place.worker for place in self._places if place.worker is not None]
        for place in self._places:
            place.worker = None
        await asyncio.gather(*(worker.close() for worker in workers), return_exceptions=True)
        await self._carrier.close()

    def kill(self) -> None:
        """End all workers at once: for a pool whose event loop is closed, where nothing can be awaited any more."""
        for place in self._places:
            if place.worker is not None:
                place.worker.kill()
                place.worker = None

    # Who is there

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for place in self._places:
                self._restart(place)

    async def _place(self, task: Hashable) -> tuple[_Place, Worker]:
        """The least loaded, or one that is nearly as free and knows the task; waits until there is one."""
        async with self._changed:
            while True:
                if self._failure is not None:
                    raise self._failure
                there = [(place, place.worker) for place in self._places if place.worker is not None]
                if there and (self._assembled or any(place.deaths for place in self._places)):
                    break  # a first burst waits for all, lest the first that is ready gets it whole
                await self._changed.wait()
        least = min(place.live for place, _ in there)
        near = [pair for pair in there if pair[0].live <= least + SLACK and task in pair[0].known]
        chosen = min(near or there, key=lambda pair: pair[0].live)
        self._knows(chosen[0], task)
        return chosen

    def _knows(self, place: _Place, task: Hashable) -> None:
        place.known[task] = None
        if len(place.known) > self.KNOWN:
            del place.known[next(iter(place.known))]

    def _bury(self, place: _Place, worker: Worker, death: WorkerDied) -> None:
        """Replace a worker that died; of all its episodes the first to notice does it."""
        if place.worker is not worker:
            return
        worker.kill()  # one that could not be reached may still live, and play what others play now
        place.worker, place.known = None, {}
        place.deaths += 1
        self._counts[DIED] += 1
        log.error("worker %d died (%s); its %d episodes are played again", place.number, death, place.live)
        self._restart(place)

    def _restart(self, place: _Place) -> None:
        task = asyncio.create_task(self._started(place))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _started(self, place: _Place) -> None:
        """Start a worker at a place, again if it dies at once, until it is given up."""
        while place.deaths < MOST_DEATHS and self._failure is None:
            try:
                worker = await self._carrier.start(place.number)
            except Exception as error:
                if not (isinstance(error, WorkerDied) or (self._assembled and isinstance(error, NotPlaced))):
                    await self._fail(error)  # of ours, or a bug: no other worker would fare better
                    return
                place.deaths += 1
                log.error("worker %d died before it was ready (%s)", place.number, error)
            else:
                place.worker, place.told = worker, False  # `_tell` is asked before its first episode
                self._assembled |= all(p.worker is not None for p in self._places)
                break
        if place.worker is None and self._failure is None:
            log.error("worker %d died %d times without an episode between, and is given up", place.number, MOST_DEATHS)
            if all(p.deaths >= MOST_DEATHS for p in self._places):
                await self._fail(
                    UserError(
                        f"all {len(self._places)} workers died {MOST_DEATHS} times without finishing an episode: look "
                        "at their last lines above, and at the machine's memory; fewer workers need less"
                    )
                )
                return
        async with self._changed:
            self._changed.notify_all()

    async def _fail(self, error: Exception) -> None:
        """No worker can play, or none shall: whoever waits for one is told."""
        async with self._changed:
            self._failure = error
            self._changed.notify_all()

    # Whether the rollout was aborted

    async def _watch(self) -> None:
        while self.live:
            aborted = self._aborted()
            behind = [(p, p.worker) for p in self._places if p.worker is not None and p.told != aborted]
            telling = [self._tell(place, worker) for place, worker in behind]
            for (place, worker), error in zip(behind, await asyncio.gather(*telling, return_exceptions=True)):
                if isinstance(error, WorkerDied):  # it would be told again and again
                    self._bury(place, worker, error)
            await asyncio.sleep(POLL_S)

    async def _tell(self, place: _Place, worker: Worker) -> None:
        """See that a worker knows whether the rollout is aborted; raises WorkerDied. An episode is sent behind it, lest
        it end by what was true of the last rollout.
        """
        async with place.telling:  # whoever comes meanwhile waits for the worker's answer, too
            while place.worker is worker and place.told != (aborted := self._aborted()):
                await worker.abort(aborted)
                if place.worker is worker:
                    place.told = aborted
