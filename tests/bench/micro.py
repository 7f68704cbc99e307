"""CPU of the parts (`python tests/bench/throughput.py --micro`): environment, ledger, scoring, user client. Medians of
five.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import drivers
from clients import conversation
from model_servers import ModelServers
from transformers import AutoTokenizer

from slime_tau2.episode import driver, scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.conversation import Conversation, unplayed
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import UserSimulatorError

REPEATS = 5


class Instant(ModelServers):
    """Nobody waits."""

    def policy_seconds(self, *_: int) -> float:
        return 0.0

    def user_seconds(self, *_: int) -> float:
        return 0.0


def _median_cpu_ms(run, calls: int) -> float:
    figures = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        figures.append(1e3 * (time.process_time() - started) / calls)
    return statistics.median(figures)


def parts(domain: str, tokenizer: Path) -> str:
    servers = Instant(domain, AutoTokenizer.from_pretrained(tokenizer))
    world, count = servers.world, len(servers.ids)
    servers.prepare(count)

    async def scripted() -> None:
        for task_id in servers.ids:
            await driver.run_episode(world, task_id, ScriptedAgent(scripts.gold(world.task(task_id))), GoldUser())

    async def tokens() -> None:
        servers._turns.clear()
        await drivers.ours(servers, count, 64, None)

    asyncio.run(scripted())
    environment = _median_cpu_ms(lambda: asyncio.run(scripted()), count)
    asyncio.run(tokens())
    world.environments.check = lambda: None  # a hash of the whole database, once a run
    whole = _median_cpu_ms(lambda: asyncio.run(tokens()), count)
    runs = []
    for task_id in servers.ids:
        task = world.task(task_id)
        agent = ScriptedAgent(scripts.gold(task))
        episode = unplayed(world, task, seed=0)
        run = Conversation(world=world, task=task, agent=agent, user=GoldUser(), episode=episode)
        run.begin()
        asyncio.run(run.converse())
        runs.append((task, run.environment, run.messages()))
    scoring = _median_cpu_ms(lambda: [world.grader.score(t, e, m, "user_stop") for t, e, m in runs], count)
    return (
        f"{domain:8} environment, scoring included: {environment:5.2f} ms/episode = {1e3 / environment:4.0f} episodes/CPU-s; "
        f"with tokens, policy and user client: {whole:5.2f} ms ({whole - environment:+.2f}); scoring {scoring:.2f} ms"
    )


def user_client(tokenizer: Path) -> list[str]:
    """CPU a call over HTTP, 32 messages of history, without tools and with telecom's 30; and 256 requests at a time."""
    world = ModelServers("telecom", AutoTokenizer.from_pretrained(tokenizer)).world
    messages, tools = conversation(world)
    child = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("echo_user.py")], stdout=subprocess.PIPE, text=True
    )
    url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"

    async def ask(count: int, at_a_time: int, offered: bytes | None, seed: int = 0) -> tuple[float, float]:
        client = ChatClient(
            url, "user", key_env="NO_KEY", failure=UserSimulatorError, options={"temperature": 0.7}, concurrency=4096
        )
        await client.complete(messages)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count // at_a_time):
            await asyncio.gather(*(client.complete(messages, offered, seed) for _ in range(at_a_time)))
        await client.close()
        return 1e3 * (time.process_time() - cpu) / count, time.perf_counter() - wall

    def median(offered: bytes | None) -> float:
        return statistics.median(asyncio.run(ask(512, 32, offered))[0] for _ in range(REPEATS))

    try:
        plain, with_tools = median(None), median(tools)
        _, wall = asyncio.run(ask(256, 256, None, seed=500))
    finally:
        child.kill()
    return [
        f"user client: {plain:.2f} ms CPU a call, {with_tools:.2f} ms with telecom's {len(json.loads(tools))} tools",
        f"256 requests at a time to a server that takes 0.5 s: {wall:.2f} s",
    ]


def main(domains: list[str], tokenizer: Path) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {REPEATS}")
    for domain in domains:
        print(parts(domain, tokenizer), flush=True)
    for line in user_client(tokenizer):
        print(line)
