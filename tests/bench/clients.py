"""CPU of one call of a chat client: our own against the `openai` package, over HTTP on loopback.

`python tests/bench/clients.py`: 32 messages of history, 32 requests at a time, without tools and with telecom's 30; of
five runs the median, the two clients taking turns. The server (`echo_user.py`) is a process of its own and not counted.
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

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.world import World
from slime_tau2.errors import UserSimulatorError
from slime_tau2.hosts import Access, Host

CALLS, AT_A_TIME, REPEATS = 512, 32, 5


def conversation(world: World) -> tuple[list[bytes], bytes]:
    """32 messages as a user model reads them, and the tools of telecom's user."""
    task = world.task(world.task_ids("test")[0])
    tools = world.user_tool_schemas(task, world.environments.fresh())
    words = "I have checked that, and my phone still shows no signal. What should I do next, please?"
    history = [json.dumps({"role": ("user", "assistant")[n % 2], "content": words}).encode() for n in range(31)]
    messages = [
        json.dumps({"role": "system", "content": bench.user_prompt(str(task.user_scenario), True)}).encode(),
        *history,
    ]
    return messages, tools


async def cpu_ms(url: str, by: str, messages: list[bytes], tools: bytes | None) -> float:
    access = Access({"127.0.0.1": Host(client=by)})
    client = ChatClient(
        url, "user", failure=UserSimulatorError, options={"temperature": 0.7}, concurrency=4096, access=access
    )
    await client.complete(messages)  # the package is imported, the connection is there
    started = time.process_time()
    for _ in range(CALLS // AT_A_TIME):
        await asyncio.gather(*(client.complete(messages, tools) for _ in range(AT_A_TIME)))
    spent = time.process_time() - started
    await client.close()
    return 1e3 * spent / CALLS


def main() -> None:
    world = worlds.load("telecom")
    messages, tools = conversation(world)
    child = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("echo_user.py")], stdout=subprocess.PIPE, text=True
    )
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {REPEATS} (lowest to highest)")
    try:
        url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
        for what, offered in (("without tools", None), (f"with {len(json.loads(tools))} tools", tools)):
            runs = {by: [] for by in ("own", "openai")}
            for _ in range(REPEATS):
                for by, found in runs.items():
                    found.append(asyncio.run(cpu_ms(url, by, messages, offered)))
            shown = ", ".join(
                f"{by} {statistics.median(r):.2f} ms ({min(r):.2f} to {max(r):.2f})" for by, r in runs.items()
            )
            print(f"CPU a call {what}: {shown}", flush=True)
    finally:
        child.kill()


if __name__ == "__main__":
    main()
