"""A policy and a user server that fail at random, in eight ways, and otherwise answer as a function of what they are
asked.

What they would say depends on the conversation alone, so that a retried request gets the answer the first one would
have had. Whether they fail is drawn anew at every request. `injected` counts the faults by the name under which a
client must count them.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter

from aiohttp import web
from fake_openai import completion
from fake_policy import teacher_reply
from fake_server import FakeServer

from slime_tau2.domains.helpdesk.tasks import facts_of
from slime_tau2.domains.helpdesk.user import HelpdeskUser

POLICY_FAULTS = ("http_500", "timeout", "garbage", "abort")
USER_FAULTS = ("http_500", "timeout", "empty", "malformed_arguments")


class FaultyServers(FakeServer):
    """`rate`: the share of requests that fail. `hang_s` must exceed the clients' time-out."""

    def __init__(self, world, tokenizer, rate: float, hang_s: float, seed: int = 0):
        self.world, self.tokenizer, self.rate, self.hang_s, self.rng = (
            world,
            tokenizer,
            rate,
            hang_s,
            random.Random(seed),
        )
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self.teachers: dict[str, object] = {}
        self.replies: dict[tuple[str, int], str] = {}
        self.rests: dict[tuple[str, int], list[int]] = {}  # what a turn that was aborted still has to say
        self.tasks = {str(t.user_scenario): t for t in world.tasks.values()}
        super().__init__({"/generate": self._generate, "/v1/chat/completions": self._complete})

    def _fault(self, who: str, kinds) -> str:
        self.requests += 1
        if self.rng.random() >= self.rate:
            return ""
        kind = self.rng.choice(kinds)
        self.injected[f"{who}/{kind}"] += 1
        return kind

    async def _generate(self, request):
        body, key = await request.json(), request.headers["X-SMG-Routing-Key"]
        ids = body["input_ids"]
        rest = self.rests.get((key, len(ids)))
        if rest is None and (key, len(ids)) not in self.replies:
            prompt = re.sub(r"<\|im_start\|>system.*?<\|im_end\|>", "", self.tokenizer.decode(ids), flags=re.S)
            act = self.teachers.setdefault(key, teacher_reply(flaws=1.0, seed=key))
            self.replies[key, len(ids)] = act(prompt, 0)
        sampled = rest or [
            *self.tokenizer.encode(self.replies[key, len(ids)], add_special_tokens=False),
            self.tokenizer.eos_token_id,
        ]
        fault, finish = self._fault("policy", POLICY_FAULTS), "stop"
        if fault == "http_500":
            return web.Response(status=500, text="weights are being updated")
        if fault == "timeout":
            await asyncio.sleep(self.hang_s)
        if fault == "garbage":
            return web.Response(text='{"output_ids": [1')
        if fault == "abort":
            half = len(sampled) // 2
            self.rests[key, len(ids) + half] = sampled[half:]
            sampled, finish = sampled[:half], "abort"
        pairs = [[-0.001 * (i % 97), i, None] for i in sampled]
        return web.json_response(
            {"output_ids": sampled, "meta_info": {"finish_reason": {"type": finish}, "output_token_logprobs": pairs}}
        )

    async def _complete(self, request):
        body = await request.json()
        said = self._user(body["messages"])
        fault = self._fault("user", USER_FAULTS)
        if fault == "http_500":
            return web.Response(status=500, text="out of memory")
        if fault == "timeout":
            await asyncio.sleep(self.hang_s)
        if fault == "empty":
            return completion("  \n")
        if fault == "malformed_arguments":
            return completion([("toggle", '{"setting": ')])
        calls = [(c.name, json.dumps(c.arguments)) for c in said.tool_calls or []]
        return completion(calls or said.content)

    def _user(self, messages):
        """helpdesk's user, taken through the whole conversation again."""
        scenario = re.search(r"<scenario>\n(.*)\n</scenario>", messages[0]["content"], re.S)[1]
        user, said, results = HelpdeskUser(facts_of(self.tasks[scenario]), 0), None, []
        for n, message in enumerate(messages):
            if message["role"] == "user":
                said = user.reply(message["content"], [])
            elif message["role"] == "tool":
                results.append(message["content"])
                if n + 1 == len(messages) or messages[n + 1]["role"] != "tool":
                    said, results = user.reply("", results), []
        return said
