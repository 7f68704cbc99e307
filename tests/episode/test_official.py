"""The opt-in cross-check in its process pool."""

import os
import signal

import pytest

from slime_tau2 import bench
from slime_tau2.episode import driver, official, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.users import GoldUser
from slime_tau2.terminations import Termination


@pytest.fixture(scope="module")
def check():
    check = OfficialCheck(workers=1, timeout_s=60)
    yield check
    check.close()


async def play(check, world, task_id, script=scripts.gold):
    return await driver.run_episode(
        world, task_id, ScriptedAgent(script(world.task(task_id))), GoldUser(), official=check
    )


async def test_it_agrees_and_counts(check):
    world, before = worlds.load("mock"), check.compared
    episodes = [
        await play(check, world, t, s) for t in ("create_task_1", "update_task_1") for s in (scripts.gold, scripts.noop)
    ]
    assert [e.reward for e in episodes] == [1.0, 0.0, 1.0, 0.0] and check.compared == before + 4


async def test_a_score_that_differs_is_masked_and_says_where(check, monkeypatch):
    world = worlds.build(bench.EnvironmentSpec(domain="mock"))
    monkeypatch.setattr(world.grader, "db_match", lambda environment, task: False)
    episode = await play(check, world, "create_task_1")
    assert episode.termination is Termination.SCORE_MISMATCH and episode.termination.disposition.value == "mask"
    assert episode.outcome is None and "reward: live 0.0, tau2 1.0" in episode.detail


async def test_a_dead_worker_is_replaced_and_then_infrastructure(check, monkeypatch):
    world = worlds.load("mock")
    await play(check, world, "create_task_1")
    os.kill(next(iter(check._pool._processes)), signal.SIGKILL)
    assert (await play(check, world, "create_task_1")).reward == 1.0
    hung = OfficialCheck(workers=1, timeout_s=0.05)
    monkeypatch.setattr(official, "grade", _hang)
    episode = await play(hung, world, "create_task_1")
    hung.close()
    assert (
        episode.termination is Termination.CHECK_FAILURE
        and episode.reward is None
        and "longer than 0.05 s" in episode.detail
    )


def _hang(timeout_s, *job):
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    9**9**9
