"""Episodes on Ray workers behind `generate`, inside slime: the same samples as without, abort, partial and fully-async
rollout, death, no CPU to spare.

Needs slime's source tree on PYTHONPATH, and Ray.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
import time

import pytest
from slime_harness import TeacherServer, assert_trainable, fresh, make_args, needs_slime, ray_cluster, roll

from slime_tau2.errors import ConfigError
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.hooks.generate import generate
from slime_tau2.hooks.samples import flatten
from slime_tau2.workers import ray_actors

pytestmark = [pytest.mark.upstream, needs_slime]
TIMES = {"policy_s", "user_s", "wall_s"}


@pytest.fixture(scope="module")
def ray():
    with ray_cluster() as ray:
        yield ray


@pytest.fixture(autouse=True)
def released():
    """What a test has started ends with slime's state of it, and its CPUs are free again."""
    yield
    SingletonMeta = pytest.importorskip("slime.utils.misc").SingletonMeta
    SingletonMeta._instances.clear()
    gc.collect()


@pytest.fixture
def teacher(tokenizer):
    with TeacherServer(tokenizer, delay=0.005) as server:
        yield server


def samples(count):
    tasks = ("orders_0", "phones_1", "refunds_0", "orders_3")
    return [
        Sample(
            index=n,
            group_index=n // 4,
            prompt=tasks[n // 4 % 4],
            metadata={"domain": "helpdesk", "task_id": tasks[n // 4 % 4]},
            session_id=f"conversation {n}",
        )
        for n in range(count)
    ]


def play(args, some, evaluation=False):
    """What `generate` makes of samples, all at once, in an event loop of its own."""

    async def all_of_them():
        parameters = GenerateState(args).sampling_params
        return await asyncio.gather(*(generate(args, s, dict(parameters), evaluation) for s in some))

    return asyncio.run(all_of_them())


def told(sample):
    """All that is known of a sample but the times."""
    metadata = copy.deepcopy(sample.metadata)
    metadata["tau2"] = {k: v for k, v in metadata["tau2"].items() if k not in TIMES}
    return (
        sample.tokens,
        sample.loss_mask,
        sample.rollout_log_probs,
        sample.reward,
        sample.status,
        sample.response,
        sample.weight_versions,
        sample.remove_sample,
        metadata,
    )


def test_the_same_seeds_make_the_same_episodes_whatever_the_number_of_workers(ray, teacher, tmp_path):
    made = {}
    for count in (0, 1, 2):
        args = make_args(tmp_path, teacher.port, tau2_workers=count)
        fresh(args)
        gc.collect()
        teacher.teachers.clear()
        made[count] = [told(s) for s in play(args, samples(64))]
    assert made[0] == made[1] == made[2]
    assert len({str(one) for one in made[0]}) > 32, "conversations that differ"


def test_slimes_own_rollout_with_workers_over_samples_filters_and_aborts(ray, teacher, tmp_path):
    args = make_args(tmp_path, teacher.port, tau2_workers=2, over_sampling_batch_size=8)
    source = fresh(args)
    for rollout_id in range(2):
        out = roll(args, rollout_id, source)
        assert len(out.samples) == args.rollout_batch_size
        for group in out.samples:
            for s in group:
                assert_trainable(s)
                assert s.status in (Sample.Status.TRUNCATED, Sample.Status.COMPLETED)


def test_an_abort_reaches_episodes_that_are_under_way(ray, tokenizer, tmp_path):
    with TeacherServer(tokenizer, delay=1.0) as slow:
        args = make_args(tmp_path, slow.port, tau2_workers=2)
        fresh(args)
        state = GenerateState(args)

        async def some():
            tasks = [asyncio.create_task(generate(args, s, dict(state.sampling_params))) for s in samples(16)]
            while len(slow.running) < 16:  # noqa: ASYNC110 (another thread's)
                await asyncio.sleep(0.05)
            state.aborted = True
            started = time.perf_counter()
            await asyncio.sleep(0.02)
            for event in list(slow.running.values()):
                slow.loop.call_soon_threadsafe(event.set)
            return await asyncio.gather(*tasks), time.perf_counter() - started

        ended, seconds = asyncio.run(some())
    assert {s.metadata["tau2"]["termination"] for s in ended} == {"aborted"} and all(s.remove_sample for s in ended)
    assert seconds < 20, "a whole conversation takes longer"


def test_partial_rollout_hands_back_what_the_workers_did_not_end(ray, tokenizer, tmp_path):
    with TeacherServer(tokenizer, delay=0.05) as server:
        args = make_args(tmp_path, server.port, tau2_workers=2, partial_rollout=True, over_sampling_batch_size=16)
        source = fresh(args)
        roll(args, 0, source)
        back = [group[0].group_index for group in source.buffer]
        assert back and len(back) == len(set(back)), "what slime aborted comes back, and nothing of it twice"
        out = roll(args, 1, source)
    assert len(out.samples) == args.rollout_batch_size
    assert {group[0].group_index for group in out.samples} <= set(back), "and is served before anything new"
    for s in flatten(out.samples):
        assert_trainable(s)
        assert s.metadata["tau2"]["termination"] != "aborted" and not s.remove_sample


def test_fully_async_rollouts_have_workers_over_many_rollouts(ray, teacher, tmp_path):
    """slime's own thread, one loop for all of them, asks for episodes while nobody waits for a rollout."""
    fully = pytest.importorskip("slime.rollout.fully_async_rollout")
    args = make_args(
        tmp_path,
        teacher.port,
        tau2_workers=2,
        sglang_server_concurrency=8,
        rollout_function_path="slime.rollout.fully_async_rollout.generate_rollout_fully_async",
    )
    source = fresh(args)
    seen = set()
    try:
        for rollout_id in range(3):
            out = roll(args, rollout_id, source)
            assert len(out.samples) == args.rollout_batch_size
            for s in flatten(out.samples):
                assert_trainable(s)
                assert not s.remove_sample and s.metadata["tau2"]["termination"] != "worker_failure"
            of_now = {s.index for s in flatten(out.samples)}
            assert not of_now & seen, "nothing trains twice"
            seen |= of_now
    finally:
        fully._stop_global_worker()


def test_actors_that_are_killed_are_replaced_and_no_sample_is_lost(ray, teacher, tmp_path, monkeypatch):
    actors, over, killed = [], threading.Event(), []
    start = ray_actors.Actors.start

    async def watched(carrier, number):
        worker = await start(carrier, number)
        actors.append(worker._actor)
        return worker

    monkeypatch.setattr(ray_actors.Actors, "start", watched)
    args = make_args(tmp_path, teacher.port, tau2_workers=2)
    fresh(args)

    def kill():
        while not over.wait(1.0):
            if len(actors) > len(killed) + 1:  # one is always left
                killed.append(actors[len(killed)])
                ray.kill(killed[-1])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        made = play(args, samples(400))
    finally:
        over.set()
        killer.join()
    assert killed and len(made) == 400
    assert [s.index for s in made] == list(range(400))
    for s in made:
        assert_trainable(s)
    terminations = [s.metadata["tau2"]["termination"] for s in made]
    lost = terminations.count("worker_failure")
    assert lost <= 40 and all(s.remove_sample for s in made if s.metadata["tau2"]["termination"] == "worker_failure")


def test_more_workers_than_cpus_are_refused_by_number(ray, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_actors, "PLACED_S", 5.0)
    args = make_args(tmp_path, teacher.port, tau2_workers=9)
    fresh(args)
    with pytest.raises(ConfigError, match="tau2_workers = 9: Ray has not started worker"):
        play(args, samples(1))
