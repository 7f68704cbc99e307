"""A policy server whose replies a test decides. Real HTTP, real token ids; only the model is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from fake_server import FakeServer


class FakePolicy(FakeServer):
    """`reply(prompt_text, n) -> str | web.Response`: the n-th request's completion, `<|im_end|>` appended.

    `async with FakePolicy(tokenizer, reply) as fake:`; `fake.url`, `fake.requests`.
    """

    def __init__(self, tokenizer, reply: Callable, delay: float = 0.0):
        self.tokenizer, self.reply, self.delay, self.requests = tokenizer, reply, delay, []
        self.asked = asyncio.Event()
        super().__init__({"/generate": self._generate})

    def reply_to(self, request) -> Callable:
        """What answers a request; one teacher a conversation would look at its routing key."""
        return self.reply

    async def _generate(self, request):
        body = await request.json()
        self.requests.append(body)
        self.asked.set()
        await asyncio.sleep(self.delay)
        said = self.reply_to(request)(self.tokenizer.decode(body["input_ids"]), len(self.requests) - 1)
        if isinstance(said, web.Response):
            return said
        finish = {"type": "stop"}
        if isinstance(said, tuple):
            said, kind = said
            finish = {"type": kind}
        ids = self.tokenizer.encode(said, add_special_tokens=False)
        ids += [self.tokenizer.eos_token_id] if finish["type"] == "stop" else []
        pairs = [[-0.25, i, None] for i in ids]
        return web.json_response(
            {"text": said, "output_ids": ids, "meta_info": {"finish_reason": finish, "output_token_logprobs": pairs, "weight_version": "3"}}
        )


def teacher_reply(flaws: float = 0.0, seed: object = ""):
    """The helpdesk teacher as a policy: reads the last thing the prompt says, answers in Qwen's format."""
    import json
    import re

    from slime_tau2.domains.helpdesk.teacher import Teacher

    teachers: dict[str, Teacher] = {}

    def reply(prompt: str, n: int) -> str:
        blocks = re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", prompt, re.DOTALL)
        key = blocks[0]
        if len(blocks) == 1 or key not in teachers:
            teachers[key] = Teacher(f"{len(teachers)}{seed}", flaws)
        text = blocks[-1].replace("<tool_response>\n", "").replace("\n</tool_response>", "")
        said = teachers[key].act(text, text.startswith("Error"))
        if said.tool_calls:
            call = said.tool_calls[0]
            return f"<tool_call>\n{json.dumps({'name': call.name, 'arguments': call.arguments})}\n</tool_call>"
        return said.content

    return reply
