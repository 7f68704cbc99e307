"""Workers of this machine as their nursery dies, or as they are closed before it has loaded. The processes are real."""

import asyncio
import functools
import os
import signal
import time
from pathlib import Path

import pytest
from worker_players import Obedient, Slow

from slime_tau2.workers import nursery, processes
from slime_tau2.workers.pool import Pool, WorkerDied
from slime_tau2.workers.processes import Processes


def is_gone(pid):
    """Whether a process has ended; whoever should have waited for it may not do so."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def until(there):
    while not there():  # noqa: ASYNC110 (another process's)
        await asyncio.sleep(0.005)


def test_a_process_of_somebody_elses_is_an_answer_and_no_error():
    assert nursery._ended(os.getppid()) is None


async def test_what_a_dead_nursery_has_forked_ends_and_the_next_one_lives(monkeypatch):
    monkeypatch.setattr(processes, "END_S", 0.3)
    carrier = Processes(Obedient, 2)
    try:
        hung, gentle, killed = [await carrier.start(n) for n in range(3)]
        os.kill(carrier._nursery.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="the process that it is forked from: signal 9"):
            await carrier.start(0)
        new = await carrier.start(0)
        second = carrier._nursery.pid
        assert (await gentle.play((1, "play"))).episode, "it has outlived its nursery"
        os.kill(hung.pid, signal.SIGSTOP)
        os.kill(killed.pid, signal.SIGKILL)
        await asyncio.gather(hung.close(), gentle.close())
        with pytest.raises(WorkerDied, match="its connection broke"):
            await killed.play((1, "play"))
        await until(lambda: all(is_gone(worker.pid) for worker in (hung, gentle, killed)))
        assert (await new.play((2, "play"))).episode
        another = await carrier.start(1)
        assert carrier._nursery.pid == second
        await asyncio.gather(new.close(), another.close())
    finally:
        await carrier.close()


async def test_closing_while_the_nursery_loads_waits_for_nothing_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(nursery, "END_S", 0.2)
    carrier = Processes(functools.partial(Slow, tmp_path / "begun"), 2)
    workers = Pool(2, carrier)
    playing = asyncio.create_task(workers.play((1, "play"), 1))
    await asyncio.wait_for(until((tmp_path / "begun").exists), 60)
    pid, late = carrier._nursery.pid, []

    async def tick():
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    playing.cancel()
    await workers.close()
    ticking.cancel()
    assert is_gone(pid) and max(late) < 10, "it loads for 20 s"


async def test_a_connection_is_read_by_one_thread_at_a_time(monkeypatch):
    """Whoever is cancelled keeps the turn until the thread has returned, and the nursery ends."""
    carrier, log = Processes(Obedient, 1), []
    worker = await carrier.start(0)
    fork, end = carrier._nursery.fork, carrier._nursery.end

    def logged(name, call):
        def logs(*arguments):
            log.append(f"{name} begins")
            try:
                return call(*arguments)
            finally:
                log.append(f"{name} is over")

        return logs

    os.kill(carrier._nursery.pid, signal.SIGSTOP)  # it answers nobody
    monkeypatch.setattr(carrier._nursery, "fork", logged("fork", fork))
    monkeypatch.setattr(carrier._nursery, "end", logged("end", end))
    starting = asyncio.create_task(carrier.start(0))
    await until(lambda: log)
    ending = asyncio.create_task(carrier.end(worker.pid))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, 30)
    os.kill(carrier._nursery.pid, signal.SIGCONT)
    worker._writer.close()
    assert await asyncio.wait_for(ending, 30) == "its connection broke"
    assert log == ["fork begins", "fork is over", "end begins", "end is over"]
    await worker.close()
    await carrier.close()
    assert is_gone(worker.pid)
