"""What becomes of an actor that Ray loses, cannot place or cannot reach; with a stand-in for Ray."""

import asyncio
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest

from slime_tau2.workers import ray_actors
from slime_tau2.workers.player import Answer
from slime_tau2.workers.pool import NotPlaced, WorkerDied

DEATHS = (
    "RayActorError",
    "ActorUnavailableError",
    "WorkerCrashedError",
    "RaySystemError",
    "OutOfMemoryError",
    "NodeDiedError",
    "ObjectLostError",
    "ActorUnschedulableError",
)
OF_THE_CALL = ("RayTaskError", "TaskCancelledError")


class Ray(ModuleType):
    """The module, as far as it is used. `ready` makes what an actor's `ready` gives."""

    def __init__(self):
        super().__init__("ray")
        self.killed, self.ready = [], None
        self.exceptions = ModuleType("ray.exceptions")
        self.exceptions.RayError = type("RayError", (Exception,), {})
        for name in (*DEATHS, *OF_THE_CALL):
            setattr(self.exceptions, name, type(name, (self.exceptions.RayError,), {}))

    def is_initialized(self):
        return True

    def remote(self, what):
        actor = SimpleNamespace(ready=SimpleNamespace(remote=lambda: self.ready()))
        return SimpleNamespace(options=lambda **how: SimpleNamespace(remote=lambda *given: actor))

    def kill(self, actor, *, no_restart):
        assert no_restart
        self.killed.append(actor)

    def available_resources(self):
        return {"CPU": 0.0}


@pytest.fixture
def ray(monkeypatch):
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    return ray


def actor(error):
    """One of which every call raises."""

    async def call(*_):
        raise error

    return SimpleNamespace(play=SimpleNamespace(remote=call))


@pytest.mark.parametrize("name", DEATHS)
async def test_whatever_ray_loses_is_a_death(ray, name):
    with pytest.raises(WorkerDied, match="the first line"):
        await ray_actors.RayWorker(actor(getattr(ray.exceptions, name)("the first line\nand more"))).play(1)


@pytest.mark.parametrize("name", OF_THE_CALL)
async def test_what_the_call_itself_raised_is_none(ray, name):
    error = getattr(ray.exceptions, name)
    with pytest.raises(error):
        await ray_actors.RayWorker(actor(error("a bug"))).play(1)


async def test_an_actor_that_finds_no_place_is_given_up(ray, monkeypatch):
    monkeypatch.setattr(ray_actors, "PLACED_S", 0)
    ray.ready = asyncio.Event().wait
    with pytest.raises(NotPlaced, match=r"tau2_workers = 3: Ray has not started worker 2 .* 0 free CPUs"):
        await ray_actors.Actors(None, 3).start(2)
    assert len(ray.killed) == 1


async def test_an_actor_that_is_not_handed_on_keeps_no_cpu(ray):
    async def unavailable():
        raise ray.exceptions.ActorUnavailableError("it may come back")

    ray.ready = unavailable
    with pytest.raises(WorkerDied, match="it may come back"):
        await ray_actors.Actors(None, 1).start(0)
    ray.ready = asyncio.Event().wait
    starting = asyncio.create_task(ray_actors.Actors(None, 1).start(0))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert len(ray.killed) == 2


async def test_an_actor_that_is_ready_is_kept(ray):
    async def ready():
        return Answer(counts=Counter())

    ray.ready = ready
    await ray_actors.Actors(None, 1).start(0)
    assert not ray.killed


def test_an_actor_whose_cluster_is_gone_has_ended_with_it(ray, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    ray_actors.RayWorker(actor(None)).kill()
    assert not ray.killed
