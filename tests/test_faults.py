"""Invariant 3 under fire: servers that fail in eight ways, and nothing is lost, scored wrongly, left open or left
running.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import psutil
import pytest
from faulty_servers import POLICY_FAULTS, USER_FAULTS, FaultyServers

from slime_tau2.config import Tau2Config
from slime_tau2.episode.endpoint import MAX_PAUSE_S
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.evaluation import audit
from slime_tau2.limits import Retries
from slime_tau2.terminations import Disposition, Termination

TIMEOUT_S = 4.0
assert MAX_PAUSE_S > 1


async def rollout(helpdesk, tokenizer, ids, rate):
    """(episodes, the servers, what the clients counted, tasks left, sockets left)."""
    tasks_before = asyncio.all_tasks()
    async with FaultyServers(helpdesk, tokenizer, rate, hang_s=2 * TIMEOUT_S) as servers:
        config = Tau2Config(
            user="llm", user_base_url=f"{servers.url}/v1", user_timeout_s=TIMEOUT_S, user_retries=1, user_concurrency=32
        )
        policy = PolicyClient(
            servers.url, concurrency=32, retries=Retries(timeout_s=TIMEOUT_S, count=1, backoff_s=0.01)
        )
        box, limiter = Harness(config, tokenizer, policy), asyncio.Semaphore(64)
        box.user_client.endpoint.retries = replace(box.user_client.endpoint.retries, backoff_s=0.01)

        async def one(n, task_id):
            async with limiter:
                agent = box.agent(
                    helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 4000}, routing_key=f"episode-{n}"
                )
                return await box.run(helpdesk, task_id, agent, seed=n)

        episodes = await asyncio.gather(*(one(n, task_id) for n, task_id in enumerate(ids)))
        faults = box.take_faults()
        await box.close()
    await asyncio.sleep(0.05)
    tasks_left = {t for t in asyncio.all_tasks() - tasks_before if not t.done()}
    sockets_left = [
        c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == servers.server.port
    ]
    return episodes, servers, faults, tasks_left, sockets_left


async def check(helpdesk, tokenizer, chat, count):
    ids = [helpdesk.task_ids("train+val")[n % 750] for n in range(count)]
    calm, _, no_faults, _, _ = await rollout(helpdesk, tokenizer, ids, 0.0)
    assert not no_faults and {e.termination.disposition for e in calm} == {Disposition.SCORE}
    assert 0.1 < sum(e.reward for e in calm) / count < 0.95, "the comparison needs both outcomes"

    stormy, servers, faults, tasks_left, sockets_left = await rollout(helpdesk, tokenizer, ids, 0.1)
    assert len(stormy) == count and [str(e.task) for e in stormy] == [str(e.task) for e in calm], (
        "every episode ends, once"
    )
    assert not tasks_left and not sockets_left
    helpdesk.environments.check()

    ended = Counter(e.termination for e in stormy if e.termination.disposition is not Disposition.SCORE)
    assert set(ended) <= {Termination.POLICY_FAILURE, Termination.USER_FAILURE}, "an aborted turn goes on"
    injected = servers.injected
    assert set(injected) == {*(f"policy/{k}" for k in POLICY_FAULTS), *(f"user/{k}" for k in USER_FAULTS)}
    assert faults == injected - Counter({"policy/abort": injected["policy/abort"]}), (
        "each fault is counted, under its kind"
    )

    for before, after in zip(calm, stormy):
        whole, got = before.segments[0].tokens, after.segments[0].tokens if after.segments else []
        if after.termination.disposition is Disposition.SCORE:
            assert (after.reward, after.outcome.partial, after.termination) == (
                before.reward,
                before.outcome.partial,
                before.termination,
            )
            assert got == whole and after.segments[0].log_probs == before.segments[0].log_probs, (
                "what a retry mended, or continued, leaves no trace"
            )
        else:
            assert after.reward is None and after.detail and got == whole[: len(got)], (
                "what was sampled is the calm run's beginning"
            )
        assert not audit.is_mismatch(after, chat, box_prompt(helpdesk))
    return sum(e.termination.disposition is Disposition.SCORE for e in stormy), ended, injected


def box_prompt(helpdesk):
    from slime_tau2 import bench

    return bench.agent_prompt(helpdesk.policy)


async def test_sixty_episodes_under_fire(helpdesk, tokenizer, chat):
    await check(helpdesk, tokenizer, chat, 60)


@pytest.mark.exhaustive
async def test_a_thousand_episodes_under_fire(helpdesk, tokenizer, chat):
    scored, ended, injected = await check(helpdesk, tokenizer, chat, 1000)
    print(f"\n{scored} of 1000 scored; ended {dict(ended)}; injected {dict(injected)}")
    assert 800 < scored < 1000 and len(ended) == 2
