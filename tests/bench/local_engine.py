"""Throughput and event-loop lag of the local engine: `python tests/bench/local_engine.py MODEL_DIR`.

One run, one model, helpdesk's 150 test tasks three times at each concurrency; the scripted row has no model at all and
is what the driver and tau2 cost. Prints episodes a second, the loop's lag after warm-up, and the machine's load.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import driver, worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.users import DomainUser
from slime_tau2.limits import Limits
from slime_tau2.local.process import ServerProcess
from slime_tau2.looplag import LoopLag, percentile
from slime_tau2.tokenizer import load_tokenizer

REPEATS = 3


async def scripted(world) -> float:
    started = time.perf_counter()
    ids = world.task_ids("test") * REPEATS
    for n, task_id in enumerate(ids):
        await driver.run_episode(
            world, task_id, CallableAgent(Teacher(n).act), DomainUser(), seed=n, limits=Limits(max_steps=60)
        )
    return len(ids) / (time.perf_counter() - started)


async def served(
    world, model: Path, url: str, concurrency: int, label: str = "run"
) -> tuple[float, list[float], float]:
    config = Tau2Config(user="scripted", seeded_sampling=True, max_steps=60, max_turn_tokens=64)
    box, limiter = Harness(config, load_tokenizer(model), PolicyClient(url)), asyncio.Semaphore(concurrency)

    async def one(task_id: str, seed: int):
        async with limiter:
            agent = box.agent(
                world,
                sampling={"temperature": 1.0, "max_new_tokens": 768},
                seed=seed,
                routing_key=f"{label}-{concurrency}-{task_id}-{seed}",
            )
            return await driver.run_episode(world, task_id, agent, box.user(), seed=seed, limits=Limits(max_steps=60))

    started = time.perf_counter()
    async with LoopLag() as lag:
        episodes = await asyncio.gather(*(one(t, n) for n in range(REPEATS) for t in world.task_ids("test")))
    wall = time.perf_counter() - started
    await box.close()
    return len(episodes) / wall, lag.lags_ms[50:], statistics.fmean(e.segments[0].sampled for e in episodes)


def main(model: Path) -> None:
    world = worlds.load("helpdesk")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"scripted teacher, no model: {asyncio.run(scripted(world)):.0f} episodes/s")
    with tempfile.TemporaryDirectory() as directory, ServerProcess(model, Path(directory) / "server.log") as server:
        asyncio.run(served(world, model, server.url, 16, "warm-up"))
        for concurrency in (1, 8, 16, 32, 64):
            rate, lags, tokens = asyncio.run(served(world, model, server.url, concurrency))
            figures = ", ".join(
                f"{name} {value:.0f}"
                for name, value in (("p50", percentile(lags, 0.5)), ("p99", percentile(lags, 0.99)), ("max", max(lags)))
            )
            print(
                f"concurrency {concurrency:2d}: {rate:5.1f} episodes/s, {tokens * rate:5.0f} sampled tokens/s; loop lag ms: {figures}"
            )
        info = server.info()
        print(
            f"prefix mismatches {info['prefix_mismatches']} in {info['prefix_checked']} continued requests; server {info['peak_rss_mib']} MiB"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
