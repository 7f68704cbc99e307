"""How old what fully-async rollout trains on is: slime's own worker, with a generate of ours that takes no time.

slime's one number bounds three things: live samples, groups in flight, and finished groups that wait. A trainer that is
slower than the servers finds up to 2 × that many groups before it, so that the setting must follow the rollout's groups
(docs/training.md).
"""

from __future__ import annotations

import asyncio
import importlib.util
import types

import pytest

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        importlib.util.find_spec("slime") is None, reason="slime is not installed: put its source tree on PYTHONPATH"
    ),
]
ROLLOUTS, GROUPS = 24, 4


def oldest(concurrency, monkeypatch):
    """The age of the oldest group of each rollout, in rollouts, when every rollout finds all queues full."""
    import slime.rollout.fully_async_rollout as fully
    from slime.utils.types import Sample

    now, made = {"rollout": 0}, {"groups": 0}

    class Buffer:
        def get_samples(self, n):
            made["groups"] += 1
            return [[Sample(index=made["groups"], metadata={"born": now["rollout"]})]]

        def add_samples(self, groups):
            raise AssertionError("nothing is aborted here")

    async def at_once(args, group, sampling_params, evaluation=False):
        await asyncio.sleep(0)
        group[0].status = Sample.Status.COMPLETED
        return group

    monkeypatch.setattr(fully, "generate_and_rm_group", at_once)
    monkeypatch.setattr(fully, "GenerateState", lambda args: types.SimpleNamespace(sampling_params={}, aborted=False))
    args = types.SimpleNamespace(
        sglang_server_concurrency=concurrency,
        rollout_num_gpus=1,
        rollout_num_gpus_per_engine=1,
        rollout_batch_size=GROUPS,
        rollout_global_dataset=True,
    )
    worker = fully._get_global_worker(args, Buffer())
    worker.poll_interval = 0.005
    ages = []

    async def train():
        for r in range(ROLLOUTS):
            while worker.queue_size() < concurrency:  # noqa: ASYNC110 (slime's queue has no event). The trainer is busy for as long as that takes
                await asyncio.sleep(0.005)
            now["rollout"] = r
            groups = await fully._generate_rollout_async(args, r, None)
            ages.append(r - min(g[0].metadata["born"] for g in groups))

    try:
        asyncio.run(train())
    finally:
        worker.stop()
        monkeypatch.setattr(fully, "_global_worker", None)
    return ages


@pytest.mark.parametrize("concurrency", [GROUPS, 2 * GROUPS, 4 * GROUPS, 8 * GROUPS])
def test_the_age_follows_the_limit_and_not_the_rollout(concurrency, monkeypatch):
    ages = oldest(concurrency, monkeypatch)
    print(f"\nlimit {concurrency}, {GROUPS} groups a rollout: oldest {max(ages)} rollouts, at the end {ages[-5:]}")
    assert max(ages) <= 2 * concurrency // GROUPS
