"""`tau2_workers` behind `generate`: for which event loop they play. Actors and harness are stand-ins."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
from worker_players import episode

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError
from slime_tau2.hooks import player
from slime_tau2.workers import wire
from slime_tau2.workers.player import Answer

JOB = SimpleNamespace(domain="helpdesk", task_id="7")


class Worker:
    def __init__(self):
        self.prepared, self.killed = [], False

    async def play(self, job):
        return Answer(episode=wire.Packer().pack(episode(7)), counts=Counter(played=1))

    async def prepare(self, task):
        self.prepared.append(task)

    def kill(self):
        self.killed = True


@pytest.fixture
def started(monkeypatch):
    """All workers that were started."""
    started = []

    class Actors:
        def __init__(self, make, count):
            pass

        async def start(self, number):
            started.append(Worker())
            return started[-1]

    monkeypatch.setattr(player, "Actors", Actors)
    monkeypatch.setattr(player, "cluster", lambda: None)
    return started


def two_workers():
    here = SimpleNamespace(harness=SimpleNamespace(config=Tau2Config(workers=2), tokenizer=object()))
    return player.Workers(here, "http://127.0.0.1:1", lambda: False)


def test_the_workers_of_a_closed_loop_end_as_the_next_one_plays(started):
    workers = two_workers()
    for _ in range(3):
        assert asyncio.run(workers.play(JOB)).seed == 7
    assert [one.killed for one in started] == [True, True, True, True, False, False]
    assert workers.take_counts() == {"played": 3} and workers.take_counts() == {}


def test_two_loops_at_a_time_are_refused(started):
    """Each would have workers of its own, and these the servers' whole limits again."""
    workers, training = two_workers(), asyncio.new_event_loop()
    try:
        training.run_until_complete(workers.play(JOB))
        with pytest.raises(ConfigError, match="tau2_workers = 2: these workers play for one event loop"):
            asyncio.run(workers.play(JOB))
        asyncio.run(workers.prepare(("helpdesk", "8")))  # in a loop that they do not play for
        assert not any(one.prepared for one in started)
        training.run_until_complete(workers.prepare(("helpdesk", "8")))
        assert training.run_until_complete(workers.play(JOB)).seed == 7
    finally:
        training.close()
    assert len(started) == 2 and not any(one.killed for one in started)
    assert [task for one in started for task in one.prepared] == [("helpdesk", "8")]
