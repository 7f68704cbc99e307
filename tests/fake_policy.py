"""A policy server whose replies a test decides. Real HTTP, real token ids; only the model is missing."""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections.abc import Callable

from aiohttp import web
from fake_server import FakeServer

from slime_tau2.episode.policy import Sample
from slime_tau2.evaluation import identity

LAYERS, TOP_K = 3, 2
"""Of the mixture of experts that `routed_experts` tells of."""


def expert(row: int, layer: int, k: int) -> int:
    """Which expert a token met: each row of its own."""
    return (row * 7 + layer * 3 + k) % 8


def int32(values) -> str:
    """As SGLang sends arrays."""
    return base64.b64encode(array("i", values).tobytes()).decode()


def introduced(tokenizer, prompt):
    """What a server says to what is asked before a run: a Sample; None for the request of an episode."""
    whole = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
    if prompt != [1] and identity.MESSAGES[1]["content"] not in whole:
        return None
    said = "The letters of the alphabet: a, b, c; the numbers: 1, 2, 3."
    ids = tokenizer.encode(said, add_special_tokens=False)
    count = len(tokenizer.encode(whole, add_special_tokens=False)) if isinstance(prompt, str) else len(prompt)
    return Sample(ids, said, count)


class FakePolicy(FakeServer):
    """`reply(prompt_text, n) -> str | web.Response`: the n-th request's completion, `<|im_end|>` appended.

    `async with FakePolicy(tokenizer, reply) as fake:`; `fake.url`, `fake.requests`. `fake.replays` says what of the
    sampler's choices it records: True, what is asked for; "whole", the experts of every token, wherever the request
    wants them to start; False, nothing. What is asked before a run (a probe, and who it is) is answered, and is none of
    `requests`.
    """

    def __init__(self, tokenizer, reply: Callable, delay: float = 0.0):
        self.tokenizer, self.reply, self.delay, self.requests = tokenizer, reply, delay, []
        self.asked, self.replays = asyncio.Event(), True
        super().__init__({"/generate": self._generate, "/tokenize": self._tokenize})
        self.tells("/model_info", {"model_path": "fake", "tokenizer_path": "fake", "weight_version": "3"})
        self.tells("/server_info", {"version": "fake", "context_length": 32768})

    def reply_to(self, request) -> Callable:
        """What answers a request; one teacher a conversation would look at its routing key."""
        return self.reply

    async def _generate(self, request):
        body = await request.json()
        asked = introduced(self.tokenizer, body.get("text", body.get("input_ids")))
        if asked is not None:
            told = {"finish_reason": {"type": "length"}, "output_token_logprobs": [[-0.25, i, None] for i in asked.ids]}
            return web.json_response(
                {
                    "output_ids": asked.ids,
                    "text": asked.text,
                    "meta_info": {**told, "prompt_tokens": asked.prompt_tokens},
                }
            )
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
        meta = {"finish_reason": finish, "output_token_logprobs": pairs, "weight_version": "3", **self.told(body, ids)}
        return web.json_response({"text": said, "output_ids": ids, "meta_info": meta})

    async def _tokenize(self, request):
        body = await request.json()
        text = body.get("prompt") or self.tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True
        )
        return web.json_response({"tokens": self.tokenizer.encode(text, add_special_tokens=False)})

    def told(self, body, ids):
        """The counts and records of `meta_info`. Half of each prompt was in the prefix cache, which no server here has."""
        sent, params = len(body["input_ids"]), body["sampling_params"]
        told = {"prompt_tokens": sent, "completion_tokens": len(ids), "cached_tokens": sent // 2}
        if self.replays and (params.get("custom_params") or {}).get("return_top_p_token_ids"):
            kept = [[i, i + 1] for i in ids]
            told |= {
                "top_p_token_ids": int32(i for pair in kept for i in pair),
                "top_p_token_offsets": int32(range(0, 2 * len(ids) + 1, 2)),
            }
        if self.replays and body.get("return_routed_experts"):
            first = 0 if self.replays == "whole" else body.get("routed_experts_start_len", 0)
            rows = range(first, sent + len(ids) - 1)
            told["routed_experts"] = int32(
                expert(row, layer, k) for row in rows for layer in range(LAYERS) for k in range(TOP_K)
            )
        return told


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


def cut_in_three():
    """The teacher, whose first turn a weight update cuts into three requests, the second of them without a token."""
    whole, said = teacher_reply(), {}

    def reply(prompt, n):
        if n == 0:
            said["all"] = whole(prompt, n)
            return said["all"][:5], "abort"
        if n == 1:
            return "", "abort"
        return said["all"][5:] if n == 2 else whole(prompt.replace(said["all"], ""), n)

    return reply
