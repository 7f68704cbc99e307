"""One driver a function: how it plays the gold conversations of `model_servers.py`. Each returns the rewards.

`ours` runs what production runs: token ledger, `/generate` client, tau2's user prompt over `/chat/completions`, live
scoring. The
tau2 rows are given every advantage that keeps their shape: their participants only sleep, without HTTP or tokens.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import in_slime
from exactness import ScriptedMailboxAgent, ScriptedMailboxUser
from model_servers import ModelServers

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import scripts
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.limits import Retries
from slime_tau2.tokenizer import Tokenizer
from slime_tau2.types import Episode
from slime_tau2.workers.pool import Pool
from slime_tau2.workers.processes import Processes

Urls: TypeAlias = tuple[str, ...]
"""Of the processes that serve the models; conversation n is the affair of number n modulo how many there are."""


async def _all(one, count: int, at_a_time: int) -> list[float]:
    limiter = asyncio.Semaphore(at_a_time)

    async def limited(number: int) -> float:
        async with limiter:
            return await one(number)

    return await asyncio.gather(*(limited(n) for n in range(count)))


def harness(servers: ModelServers, url: str | None) -> Harness:
    """What plays against one server of the models; None: they answer in this process."""
    config = Tau2Config(
        user="llm",
        user_base_url=f"{url or 'http://localhost'}/v1",
        user_concurrency=4096,
        user_retries=0,
        retail_basis="communicate",
    )
    policy = PolicyClient(
        url or "http://localhost",
        concurrency=4096,
        transport=None if url else servers.policy_transport,
        retries=Retries(count=0),
    )
    box = Harness(config, servers.tokenizer, policy)
    if url is None:
        box.user_client.endpoint.transport = servers.user_transport
    return box


async def _played(servers: ModelServers, boxes: Sequence[Harness], number: int) -> Episode:
    """One conversation, on the server that its number falls to."""
    box = boxes[number % len(boxes)]
    agent = box.agent(servers.world, sampling={"temperature": 1.0}, routing_key=str(number))
    return await box.run(servers.world, servers.ids[number % len(servers.ids)], agent, seed=number)


def _reward(episode: Episode) -> float:
    assert episode.reward is not None, episode.detail
    return episode.reward


async def ours(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    """No `urls`: the models answer in this process, and the two cores serve only the driver."""
    boxes = [harness(servers, url) for url in urls or (None,)]

    async def one(number: int) -> float:
        return _reward(await _played(servers, boxes, number))

    rewards = await _all(one, count, at_a_time)
    for box in boxes:
        await box.close()
    servers.world.environments.check()
    return rewards


class ServedPlayer:
    """A worker's player against the model servers; a job is the number of a conversation."""

    def __init__(self, domain: str, tokenizer: Tokenizer, urls: Urls, number: int = 0, count: int = 1):
        self.servers = ModelServers(domain, tokenizer)
        self.boxes = [harness(self.servers, url) for url in urls]
        for box in self.boxes:
            box.chat(domain)

    async def play(self, job: int, aborted: Callable[[], bool]) -> Episode:
        return await _played(self.servers, self.boxes, job)

    def prepare(self, task: object) -> None:
        pass

    def take_counts(self) -> Counter[str]:
        return Counter()

    def silences(self) -> dict[str, float]:
        return {}

    async def close(self) -> None:
        for box in self.boxes:
            await box.close()


WORKERS = 2
pools: dict[Urls, Pool] = {}
"""What `in_workers` has started: a warm-up and the run after it have the same. `close_what_is_shared` ends them."""


async def in_workers(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    """Two workers that are processes, as `eval --workers 2` has them; this process only sends and counts."""
    if urls not in pools:
        make = functools.partial(ServedPlayer, servers.world.domain, servers.tokenizer, urls)
        pools[urls] = Pool(WORKERS, Processes(make, WORKERS))

    async def one(number: int) -> float:
        return _reward(await pools[urls].play(number, number % len(servers.ids)))

    return await _all(one, count, at_a_time)


async def close_what_is_shared() -> None:
    while pools:
        await pools.popitem()[1].close()
    in_slime.close()


def _tau2s_own_runner(servers: ModelServers, number: int) -> float:
    """tau2's Orchestrator on an environment of its own, then tau2's evaluator; the models are waited for, blocking."""
    task = servers.world.task(servers.ids[number % len(servers.ids)])
    turn = iter(range(10**6))

    class Agent(ScriptedMailboxAgent):
        def generate_next_message(self, message, state):
            time.sleep(servers.policy_seconds(number, 0, servers.policy_reply(number, next(turn))[1]))
            return super().generate_next_message(message, state)

    class User(ScriptedMailboxUser):
        def generate_next_message(self, message, state):
            time.sleep(servers.user_seconds(number))
            return super().generate_next_message(message, state)

    orchestrator = bench.Orchestrator(
        domain=servers.world.domain,
        agent=Agent(scripts.gold(task)),
        user=User(str(task.user_scenario)),
        environment=bench.registry.get_env_constructor(servers.world.domain)(),
        task=task,
        max_steps=200,
        max_errors=10,
    )
    return bench.evaluate(orchestrator.run(), task, servers.world.spec).reward


async def tau2_blocking(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    async def one(number: int) -> float:
        return _tau2s_own_runner(servers, number)

    return await _all(one, count, at_a_time)


async def tau2_threads(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    return await _in_threads(functools.partial(_tau2s_own_runner, servers), count, at_a_time)


async def _in_threads(play, count: int, at_a_time: int) -> list[float]:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(at_a_time) as pool:
        return await asyncio.gather(*(loop.run_in_executor(pool, play, n) for n in range(count)))


def _gym(servers: ModelServers, url: str, number: int) -> float:
    """tau2's AgentGymEnv (v1.0.x), its user simulator on our user server."""
    import json

    from tau2.gym.gym_agent import AgentGymEnv

    task_id = servers.ids[number % len(servers.ids)]
    arguments = {"api_base": f"{url}/v1", "api_key": "none", "seed": number}
    env = AgentGymEnv(domain=servers.world.domain, task_id=task_id, user_llm="openai/user", user_llm_args=arguments)
    env.reset()
    reward = 0.0
    for turn, message in enumerate(scripts.gold(servers.world.task(task_id))):
        time.sleep(servers.policy_seconds(number, 0, servers.policy_reply(number, turn)[1]))
        calls = [{"name": c.name, "arguments": c.arguments} for c in message.tool_calls or []]
        _, reward, ended, _, _ = env.step(json.dumps(calls[0]) if calls else message.content)
        if ended:
            break
    return float(reward)


async def gym_blocking(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    async def one(number: int) -> float:
        return _gym(servers, urls[0], number)

    return await _all(one, count, at_a_time)


async def gym_threads(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    return await _in_threads(functools.partial(_gym, servers, urls[0]), count, at_a_time)


async def strands(servers: ModelServers, count: int, at_a_time: int, urls: Urls) -> list[float]:
    """strands-env's tau2 environment with strands-sglang's client, as its README builds them."""
    _as_tau2()
    from strands_env.core.models import openai_model_factory, sglang_model_factory
    from strands_env.environments.tau2_bench import Tau2BenchEnv, Tau2BenchTask
    from strands_sglang import SGLangClient

    async with SGLangClient(base_url=urls[0], max_connections=4096, max_retries=0) as client:
        agent = sglang_model_factory(
            client=client, tokenizer=servers.tokenizer, sampling_params={"max_new_tokens": 2048, "temperature": 1.0}
        )

        async def one(number: int) -> float:
            task = servers.world.task(servers.ids[number % len(servers.ids)])
            user = openai_model_factory(
                model_id="user",
                sampling_params={"seed": number},
                client_args={"base_url": f"{urls[0]}/v1", "api_key": "none", "max_retries": 0, "timeout": 900},
            )
            env = Tau2BenchEnv(agent_model_factory=agent, user_model_factory=user, max_steps=200)
            job = Tau2BenchTask(id=str(number), domain=servers.world.domain, config=task.model_dump(mode="json"))
            result = await env.rollout(job)
            return float(result.reward_result.reward)

        return await _all(one, count, at_a_time)


def _as_tau2() -> None:
    """strands-env imports `tau2` (v1.0.x). On PyPI's copy that is `vendor.tau2` under another name, without two things
    it lacks.
    """
    if bench.VINTAGE.root == "tau2":
        return
    for name, module in list(sys.modules.items()):
        if name.startswith("vendor.tau2"):
            sys.modules[name.removeprefix("vendor.")] = module
    type.__setattr__(bench.Task, "user_tools", None)
    get_tools = bench.ToolKitBase.get_tools
    bench.ToolKitBase.get_tools = lambda self, include=None: get_tools(self)


def absent(row: str) -> str:
    """Why a row cannot run here; empty where it can."""
    import importlib.util

    if row.startswith("gym") and importlib.util.find_spec("tau2") is None:
        return "AgentGymEnv is part of tau2 v1.0.x, which is not installed"
    if "in slime" in row:
        from slime_harness import slime_is_there

        if not slime_is_there():
            return "slime is not installed: put its source tree on PYTHONPATH"
        if "workers" in row and importlib.util.find_spec("ray") is None:
            return "needs Ray"
    if row == "strands" and importlib.util.find_spec("strands_env") is None:
        return "needs Python 3.12: pip install strands-env==0.7.3 strands-sglang==0.6.2"
    if row.startswith("tau2") and bench.HAS_V1_RUNNER:
        return "v1.0.x: see the gym rows"
    return ""


ROWS = {
    "ours, in process": ours,
    "ours, long": ours,
    "ours": ours,
    "ours, 2 workers": in_workers,
    "ours, long, over HTTP": ours,
    "ours, long, 2 workers": in_workers,
    "ours, in slime": in_slime.in_slime,
    "ours, in slime, 2 workers": functools.partial(in_slime.in_slime, workers=WORKERS),
    "strands": strands,
    "tau2, blocking": tau2_blocking,
    "tau2, threads": tau2_threads,
    "gym, blocking": gym_blocking,
    "gym, threads": gym_threads,
}
