"""The pool alone, over workers of this process that do what a test says: aborts, closing, a place that stays empty."""

import asyncio
from collections import Counter

import pytest
from worker_players import episode

from slime_tau2.errors import WorkerError
from slime_tau2.terminations import Termination
from slime_tau2.workers import pool as pools
from slime_tau2.workers import wire
from slime_tau2.workers.player import Answer
from slime_tau2.workers.pool import DIED, MOST_DEATHS, NotPlaced, Pool, WorkerDied


class Tame:
    """Plays at once, by what it was told of an abort."""

    def __init__(self):
        self.packer, self.aborted, self.killed, self.closed = wire.Packer(), False, False, asyncio.Event()

    async def play(self, job):
        played = episode(job)
        if self.aborted:
            played.termination, played.outcome = Termination.ABORTED, None
        return Answer(episode=self.packer.pack(played), counts=Counter())

    async def abort(self, aborted):
        await asyncio.sleep(0)  # as any message takes a while
        self.aborted = aborted

    async def close(self):
        self.closed.set()

    def kill(self):
        self.killed = True


class Mortal(Tame):
    """The first job kills it."""

    async def play(self, job):
        raise WorkerDied("of its first job")


class Busy(Tame):
    """Plays job 0 until it may end it."""

    def __init__(self):
        super().__init__()
        self.over = asyncio.Event()

    async def play(self, job):
        if job == 0:
            await self.over.wait()
        return await super().play(job)


class Carrier:
    """Starts the workers that it was given; of a place whose next is an error it is raised, again and again."""

    def __init__(self, *places):
        self.places, self.closed = [list(workers) for workers in places], False

    async def start(self, number):
        await asyncio.sleep(0)
        following = self.places[number]
        if isinstance(following[0], Exception):
            raise following[0]
        return following.pop(0)

    async def close(self):
        self.closed = True


async def until(there):
    while not there():  # noqa: ASYNC110 (turns of the loop, no time)
        await asyncio.sleep(0)


def is_aborted(one):
    return one.termination is Termination.ABORTED


# Aborts


async def test_no_episode_is_sent_before_its_worker_knows_that_the_abort_is_over():
    said = [True]
    workers = Pool(1, Carrier([Tame()]), lambda: bool(said))
    assert is_aborted(await workers.play(0, 0))
    said.clear()
    next_rollout = await asyncio.gather(*(workers.play(n, n) for n in range(1, 6)))
    await workers.close()
    assert not any(map(is_aborted, next_rollout))


async def test_an_abort_that_ends_while_a_new_worker_hears_of_it_ends_there_too(monkeypatch):
    monkeypatch.setattr(pools, "POLL_S", 0)
    said = []

    class New(Tame):
        heard = False

        async def abort(self, aborted):
            if aborted:
                said.clear()
                for _ in range(10):  # the others are told meanwhile
                    await asyncio.sleep(0)
            await super().abort(aborted)
            self.heard = True

    busy, new = Busy(), New()
    workers = Pool(2, Carrier([busy], [Mortal(), new]), lambda: bool(said))
    keeps_going = asyncio.create_task(workers.play(0, 0))
    await until(lambda: workers.live)
    said.append("abort")
    await workers.play(1, 1)  # its first worker dies of it
    await until(lambda: new.heard and workers._places[1].worker is new)
    assert not is_aborted(await workers.play(2, 2)) and not new.aborted
    await until(lambda: not busy.aborted)
    busy.over.set()
    assert not is_aborted(await keeps_going)
    await workers.close()


async def test_a_worker_that_dies_as_it_is_told_of_an_abort_is_replaced():
    class Deaf(Tame):
        async def abort(self, aborted):
            raise WorkerDied("as it was told")

    said, busy, deaf = [], Busy(), Deaf()
    workers = Pool(2, Carrier([busy], [deaf, Tame()]), lambda: bool(said))
    playing = asyncio.create_task(workers.play(0, 0))
    await until(lambda: workers.live)
    said.append("abort")
    await asyncio.wait_for(until(lambda: deaf.killed), 5)
    busy.over.set()
    assert is_aborted(await playing) and workers.take_counts()[DIED] == 1
    await workers.close()


# The end


async def test_an_episode_under_way_as_the_pool_is_closed_ends_then():
    class Closing(Tame):
        async def play(self, job):
            await self.closed.wait()
            raise WorkerDied("closed")

    carrier = Carrier([Closing()])
    workers = Pool(1, carrier)
    playing = asyncio.create_task(workers.play(0, 0))
    await until(lambda: workers.live)
    await workers.close()
    with pytest.raises(WorkerError, match="the workers were closed before it was played"):
        await asyncio.wait_for(playing, 5)
    with pytest.raises(WorkerError, match="closed"):
        await asyncio.wait_for(workers.play(1, 1), 5)
    assert carrier.closed and workers.take_counts()[DIED] == 0


def test_the_workers_of_a_pool_whose_loop_is_closed_can_be_killed():
    worker = Tame()
    workers = Pool(1, Carrier([worker]))
    asyncio.run(workers.play(0, 0))
    workers.kill()
    assert worker.killed


# Room


async def test_a_replacement_that_finds_no_room_does_not_end_the_run(caplog):
    mortal, other = Mortal(), Tame()
    workers = Pool(2, Carrier([mortal, NotPlaced("no CPU")], [other]))
    assert (await workers.play(0, 0)).seed == 0 and mortal.killed and not other.killed
    await until(lambda: workers._places[0].deaths == MOST_DEATHS)
    played = await asyncio.gather(*(workers.play(n, n) for n in range(5)))
    await workers.close()
    assert [one.seed for one in played] == list(range(5)) and workers.take_counts()[DIED] == 1
    assert "worker 0 died before it was ready (no CPU)" in caplog.text and "is given up" in caplog.text


async def test_as_a_run_begins_every_worker_must_find_room():
    workers = Pool(2, Carrier([Tame()], [NotPlaced("no CPU")]))
    with pytest.raises(NotPlaced, match="no CPU"):
        await asyncio.wait_for(workers.play(0, 0), 5)
    await workers.close()
