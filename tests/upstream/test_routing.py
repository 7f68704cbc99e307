"""Conversations through the real router, the policy's and the user's, with and without a routing key, under every
policy that it has.

`python -m pytest -m upstream tests/upstream/test_routing.py -s` prints the table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass

import pytest
from caching_workers import CachingWorker
from faulty_servers import FaultyServers

from slime_tau2.config import Tau2Config
from slime_tau2.episode import driver
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.limits import Retries
from slime_tau2.local.process import free_port

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        importlib.util.find_spec("sglang_router") is None,
        reason="sglang-router is not installed: pip install sglang-router==0.3.2",
    ),
]
EPISODES = 64
STICKY = {"manual", "consistent_hashing"}
"""The policies that follow a routing key."""


def installed() -> list[tuple[str, ...]]:
    """The router's policies with the options that change where a conversation goes, as its own parser has them."""
    if importlib.util.find_spec("sglang_router") is None:
        return []
    from sglang_router.router_args import RouterArgs

    parser = argparse.ArgumentParser()
    RouterArgs.add_cli_args(parser)
    known = {flag: action.choices for action in parser._actions for flag in action.option_strings}
    modes = [m for m in known.get("--assignment-mode") or () if m in ("random", "min_group")]
    return [
        o
        for p in known["--policy"]
        for o in ([("manual", "--assignment-mode", m) for m in modes] if p == "manual" else [(p,)])
    ]


class Router:
    """A router process; `stop()` it whatever happens."""

    def __init__(self, options, workers, log):
        port, self.workers, self.log = free_port(), workers, log
        self.url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "sglang_router.launch_router",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--prometheus-port",
            str(free_port()),
            "--log-level",
            "warn",
            "--disable-health-check",
            "--policy",
            *options,
            "--worker-urls",
            *(w.url for w in workers),
        ]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)

    def wait(self):
        deadline = time.monotonic() + 90
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text(errors="replace")[
                -2000:
            ]
            with (
                contextlib.suppress(OSError, ValueError),
                urllib.request.urlopen(f"{self.url}/workers", timeout=5) as answer,
            ):
                if sum(w["is_healthy"] for w in json.load(answer)["workers"]) == len(self.workers):
                    return
            time.sleep(0.1)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Seen:
    """What became of the conversations at two workers of one model."""

    workers: list[CachingWorker]

    @property
    def spread(self) -> list[int]:
        """Conversations that came to each worker."""
        return [len(w.conversations) for w in self.workers]

    @property
    def torn(self) -> int:
        """Conversations that came to both."""
        return len(set(self.workers[0].conversations) & set(self.workers[1].conversations))

    @property
    def hits(self) -> float:
        """Share of what was sent that the worker had in its cache."""
        return sum(w.cached for w in self.workers) / sum(w.sent for w in self.workers)

    def line(self) -> str:
        return f"{self.spread[0]:>3}:{self.spread[1]:<3} {self.torn:>2} torn, {self.hits:6.1%} cached"


async def play(options, keyed, helpdesk, tokenizer, tmp_path) -> tuple[Seen, Seen]:
    """(policy, user) after EPISODES conversations, 16 at a time, no two of one task."""
    played = FaultyServers(helpdesk, tokenizer, 0.0, 0.0)
    kinds = [t for t in helpdesk.task_ids("train") if t.startswith(("orders", "phones"))]
    tasks = kinds[:: len(kinds) // EPISODES][:EPISODES]
    limiter = asyncio.Semaphore(16)
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(CachingWorker(played)) for _ in range(4)]
        started = [Router(options, workers[n : n + 2], tmp_path / f"{n}.log") for n in (0, 2)]
        for one in started:
            stack.callback(one.stop)
        for one in started:
            await asyncio.to_thread(one.wait)  # it asks the workers, which live on this loop
        config = Tau2Config(user="llm", user_base_url=f"{started[1].url}/v1", user_model="sim", user_retries=0)
        box = Harness(config, tokenizer, PolicyClient(started[0].url, retries=Retries(count=0)))

        async def episode(n, task_id):
            async with limiter:
                key = f"episode-{n}" if keyed else None
                agent = box.agent(
                    helpdesk, sampling={"temperature": 1 + n / 1000, "max_new_tokens": 4000}, routing_key=key
                )
                return await driver.run_episode(helpdesk, task_id, agent, box.user(False, key), seed=n)

        episodes = await asyncio.gather(*(episode(n, t) for n, t in enumerate(tasks)))
        await box.close()
    assert [e.termination.disposition.value for e in episodes] == ["score"] * EPISODES, [
        e.detail for e in episodes if e.reward is None
    ][:1]
    return Seen(workers[:2]), Seen(workers[2:])


@pytest.mark.parametrize("options", installed(), ids=" ".join)
async def test_a_conversation_stays_where_its_prefix_is(options, helpdesk, tokenizer, tmp_path):
    found = {}
    for keyed in (False, True):
        found[keyed] = await play(options, keyed, helpdesk, tokenizer, tmp_path)
        for model, seen in zip(("policy", "user"), found[keyed]):
            print(f"\n{' '.join(options):<34} {'a key' if keyed else 'no key':<6} {model:<6} {seen.line()}", end="")
            keys = {k for w in seen.workers for keys in w.conversations.values() for k in keys}
            assert len(keys) == (EPISODES if keyed else 1) and (None in keys) is not keyed, (
                "the router hands the header on"
            )
    if options[0] in STICKY:
        for plain, seen in zip(found[False], found[True]):
            assert seen.torn == 0 and seen.hits > plain.hits, (
                "each conversation has one worker, and finds its prefix there"
            )
            if "min_group" in options:
                assert 0.4 * EPISODES <= min(seen.spread) and sum(seen.spread) == EPISODES
