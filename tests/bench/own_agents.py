"""CPU of an agent's turn: our own agent, the same as an agent of one's own, and clients of OpenAI's over the endpoint.

    python tests/bench/own_agents.py [DOMAIN]

Gold conversations, whose policy answers in this process without a wait; the clients' HTTP is real, both sides of it
here. The kinds take turns, ROUNDS times; the least of each is printed, in ms of process time a turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from own_agents import write_modules

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.endpoint import ROUTING_HEADER
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.transport import Response
from slime_tau2.tokenizer import load_tokenizer

EPISODES, AT_A_TIME, ROUNDS = 60, 20, 3
KINDS = {
    "our own agent": None,
    "one call a turn, in process": "odd_agents:Plain",
    "AsyncOpenAI, in the loop": "odd_agents:Caller",
    "OpenAI, in threads": "helped:Helped",
}


class Gold:
    """The policy's transport: what the gold conversation of a routing key says next."""

    def __init__(self, world, tokenizer, tasks):
        self.said = {}
        for task_id in tasks:
            texts = []
            for message in scripts.gold(world.task(task_id)):
                calls = [json.dumps({"name": c.name, "arguments": c.arguments}) for c in message.tool_calls or []]
                texts.append((message.content or "") + "\n".join(f"<tool_call>\n{c}\n</tool_call>" for c in calls))
            self.said[task_id] = [self._answer(tokenizer, text) for text in texts]
        self.turn: dict[str, int] = {}

    @staticmethod
    def _answer(tokenizer, text):
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        pairs = [[-0.1, i, None] for i in ids]
        meta = {"finish_reason": {"type": "stop"}, "output_token_logprobs": pairs}
        return json.dumps({"text": text, "output_ids": ids, "meta_info": meta}).encode()

    async def __call__(self, url, body, headers):
        key = headers[ROUTING_HEADER]
        turn = self.turn[key] = self.turn.get(key, -1) + 1
        said = self.said[key.partition("#")[2]]
        return Response(200, said[min(turn, len(said) - 1)])


async def round_of(world, tokenizer, tasks, agent):
    """ms of CPU a turn."""
    client = PolicyClient("http://localhost", transport=Gold(world, tokenizer, tasks))
    box = Harness(Tau2Config(user="gold", agent=agent, retail_basis="no_judge"), tokenizer, client)
    limiter = asyncio.Semaphore(AT_A_TIME)

    async def one(number):
        task_id = tasks[number % len(tasks)]
        async with limiter:
            acting = box.agent(world, sampling={"temperature": 1.0}, routing_key=f"{number}#{task_id}")
            return await box.run(world, task_id, acting, seed=number, routing_key=f"{number}#{task_id}")

    await one(0)
    started = time.process_time()
    played = await asyncio.gather(*(one(number) for number in range(1, EPISODES + 1)))
    spent = time.process_time() - started
    await box.close()
    assert all(episode.reward == 1.0 for episode in played)
    return 1000 * spent / sum(len(episode.turns) for episode in played)


def main() -> None:
    domain = sys.argv[1] if len(sys.argv) > 1 else "airline"
    world, tokenizer = worlds.load(domain, retail_basis="no_judge"), load_tokenizer(TOKENIZER)
    with tempfile.TemporaryDirectory() as folder:
        write_modules(Path(folder))
        sys.path.insert(0, folder)
        least = dict.fromkeys(KINDS, float("inf"))
        tasks = world.task_ids("train")[:20]
        for _ in range(ROUNDS):
            for kind, agent in KINDS.items():
                least[kind] = min(least[kind], asyncio.run(round_of(world, tokenizer, tasks, agent)))
    print(f"{domain}, {EPISODES} episodes, {AT_A_TIME} at a time, load {os.getloadavg()[0]:.1f}")
    for kind, spent in least.items():
        print(f"{kind:30} {spent:6.2f} ms of CPU a turn")


if __name__ == "__main__":
    main()
