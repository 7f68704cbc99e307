"""A policy and a user model that answer at once what a gold conversation needs, after the latency of a real one.

One conversation is one number: the user's requests carry it as their seed, the user's first words carry it to the
policy, and the task is `ids[number % len(ids)]`. Hence any driver can talk to them: `/generate` takes ids,
`/v1/chat/completions` messages.

Latency: policy 0.1 s + 10 µs a token not seen before + 5 ms a sampled token; user log-normal, mean 0.5 s. Both are
drawn from the conversation and the turn, so every driver waits for the same. `waited` adds up what each conversation
was kept waiting.

`python model_servers.py KIND DOMAIN TOKENIZER` serves over HTTP on a free port, which it prints; KIND is `short` or
`long` (long_conversations.py).
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from slime_tau2 import bench
from slime_tau2.episode import scripts, users, worlds
from slime_tau2.episode.transport import Response

SIGMA = 0.4


class ModelServers:
    def __init__(self, domain: str, tokenizer):
        self.world, self.tokenizer = worlds.load(domain, retail_basis="communicate"), tokenizer
        self.ids = [*self.world.task_ids("train+val"), *self.world.task_ids("test")]
        self.waited: dict[int, float] = defaultdict(float)
        self.numbers: dict[int, int] = {}
        """{seed of the user: number} of conversations whose seed is not their number: those of slime's rollout."""
        self._seen: dict[int, int] = {}
        self._turns: dict[int, int] = defaultdict(int)
        self._replies: dict[str | int, list[tuple[bytes, int]]] = {}
        self._start = tokenizer.convert_tokens_to_ids("<|im_start|>")

    # --- what they say -------------------------------------------------------------------------------------------

    def script(self, number: int) -> scripts.Script:
        """What the policy says in a conversation, turn by turn."""
        return scripts.gold(self.world.task(self.ids[number % len(self.ids)]))

    def key(self, number: int) -> str | int:
        """What conversations with one script have in common."""
        return self.ids[number % len(self.ids)]

    def prepare(self, count: int) -> None:
        """Make the replies of the first `count` conversations now, so that the models cost next to nothing later."""
        for number in range(count):
            self.policy_reply(number, 0)

    def policy_reply(self, number: int, turn: int) -> tuple[bytes, int]:
        """(`/generate`'s JSON, sampled tokens) of the n-th turn of a conversation."""
        key = self.key(number)
        if key not in self._replies:
            self._replies[key] = [self._reply(message) for message in self.script(number)]
        replies = self._replies[key]
        return replies[min(turn, len(replies) - 1)]

    def _reply(self, message: bench.AssistantMessage) -> tuple[bytes, int]:
        text = message.content or ""
        for call in message.tool_calls or []:
            text += f"<tool_call>\n{json.dumps({'name': call.name, 'arguments': call.arguments})}\n</tool_call>"
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        pairs = [[-0.1, i, None] for i in ids]
        meta = {"finish_reason": {"type": "stop"}, "output_token_logprobs": pairs, "completion_tokens": len(ids)}
        body = {
            "text": text,
            "output_ids": ids,
            "meta_info": {**meta, "prompt_tokens": 0, "cached_tokens": 0, "e2e_latency": 0.0},
        }
        return json.dumps(body).encode(), len(ids)

    def user_reply(self, number: int, last: dict) -> dict:
        """The user's message, as OpenAI's API gives it."""
        text = last["content"] if last["role"] == "user" else None
        if isinstance(text, list):
            text = "".join(part.get("text", "") for part in text)
        if text and text.startswith(users.USER_TOOL):
            asked = json.loads(text[len(users.USER_TOOL) :])
            function = {"name": asked["name"], "arguments": json.dumps(asked["arguments"])}
            return {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"index": 0, "id": "u", "type": "function", "function": function}],
            }
        if text and users.END in text:
            return {"role": "assistant", "content": "Thank you. ###STOP###"}
        return {
            "role": "assistant",
            "content": "I did that." if text is None else f"Conversation [{number}]. Hi, I need some help please.",
        }

    def policy_turns(self) -> int:
        """Turns of the policy that were asked for in this process."""
        return sum(turns for number, turns in self._turns.items() if number < 0)

    def lengths(self) -> dict[int, int]:
        """{conversation: tokens at its end}, of those that were held in this process."""
        return dict(self._seen)

    # --- how long they take --------------------------------------------------------------------------------------

    def policy_seconds(self, number: int, prompt_tokens: int, new_tokens: int) -> float:
        uncached = prompt_tokens - self._seen.get(number, 0)
        self._seen[number] = prompt_tokens + new_tokens
        seconds = 0.1 + 1e-5 * max(0, uncached) + 5e-3 * new_tokens
        self.waited[number] += seconds
        return seconds

    def user_seconds(self, number: int) -> float:
        self._turns[number] += 1
        draw = random.Random(f"{number}:{self._turns[number]}").gauss(0.0, SIGMA)
        seconds = 0.5 * math.exp(draw - SIGMA**2 / 2)
        self.waited[number] += seconds
        return seconds

    # --- in the same process: nothing is parsed that need not be -----------------------------------------------------

    async def policy_transport(self, url: str, body: bytes, headers) -> Response:
        number = int(headers["X-SMG-Routing-Key"])
        turn = self._turns[-1 - number]
        self._turns[-1 - number] += 1
        reply, new = self.policy_reply(number, turn)
        commas = int(
            np.count_nonzero(np.frombuffer(body, np.uint8) == ord(","))
        )  # `body.count` takes ten times as long
        await asyncio.sleep(self.policy_seconds(number, commas, new))
        return Response(200, reply)

    async def user_transport(self, url: str, body: bytes, headers) -> Response:
        head, _, seed = body.rpartition(b'],"seed":')
        last = json.loads(head[head.rfind(b'{"role": ') :])
        number = int(seed[:-1])
        message = self.user_reply(number, last)
        await asyncio.sleep(self.user_seconds(number))
        return Response(
            200, json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()
        )

    # --- over HTTP ---------------------------------------------------------------------------------------------------

    def app(self):
        from aiohttp import web

        async def generate(request):
            ids = (await request.json())["input_ids"]
            turns = [n for n, i in enumerate(ids) if i == self._start]
            words = self.tokenizer.decode(
                ids[turns[2] : turns[2] + 40]
            )  # system, greeting, then the user's first words
            number = int("".join(words.partition("[")[2].partition("]")[0].split()))
            self._turns[-1 - number] += 1
            reply, new = self.policy_reply(number, (len(turns) - 4) // 2)
            await asyncio.sleep(self.policy_seconds(number, len(ids), new))
            return web.Response(body=reply, content_type="application/json")

        async def complete(request):
            body = await request.json()
            seed = int(body["seed"])
            number = self.numbers.get(seed, seed)
            message = self.user_reply(number, body["messages"][-1])
            await asyncio.sleep(self.user_seconds(number))
            finish = "tool_calls" if message.get("tool_calls") else "stop"
            head = {"id": "1", "created": 0, "model": "user"}
            if not body.get("stream"):
                choice = {"index": 0, "finish_reason": finish, "message": message}
                return web.json_response({**head, "object": "chat.completion", "choices": [choice]})
            chunks = [{"delta": message, "finish_reason": None}, {"delta": {}, "finish_reason": finish}]
            lines = [{**head, "object": "chat.completion.chunk", "choices": [{"index": 0, **c}]} for c in chunks]
            text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
            return web.Response(text=text, content_type="text/event-stream")

        async def served(request):
            return web.json_response({"waited": self.waited, "turns": self.policy_turns(), "lengths": self._seen})

        async def numbers(request):
            self.numbers |= {int(seed): number for seed, number in (await request.json()).items()}
            return web.json_response({})

        async def workers(request):
            return web.json_response({"workers": [{"id": "0", "url": f"http://{request.host}"}]})

        async def idle(request):
            return web.json_response({"loads": []})

        app = web.Application(client_max_size=2**28)
        app.router.add_post("/numbers", numbers)
        app.router.add_get("/workers", workers)  # what slime asks of a router and a server as a rollout ends
        app.router.add_get("/v1/loads", idle)
        app.router.add_post("/abort_request", idle)
        app.router.add_post("/generate", generate)
        app.router.add_post("/v1/chat/completions", complete)
        app.router.add_get("/served", served)
        return app


async def _serve(kind: str, domain: str, tokenizer: Path) -> None:
    from aiohttp import web
    from long_conversations import LongModelServers

    servers = {"short": ModelServers, "long": LongModelServers}[kind](domain, AutoTokenizer.from_pretrained(tokenizer))
    runner = web.AppRunner(servers.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
