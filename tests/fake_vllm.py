"""vLLM's `/v1/completions` as 0.32 answers it, with replies that a test decides. Real HTTP, real token ids; only the
model is missing.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from fake_policy import FakePolicy, introduced

MODEL = "tiny"


class FakeVLLM(FakePolicy):
    """A `FakePolicy` that speaks vLLM's protocol: `fake.url` ends with /v1, `fake.requests` are its bodies.

    `returns_ids=False`: one before 0.10.2, which ignores `return_token_ids` as vLLM ignores every field that it does
    not know.
    """

    def __init__(self, tokenizer, reply, delay=0.0, returns_ids=True, context=32_768):
        super().__init__(tokenizer, reply, delay)
        self.returns_ids, self.context = returns_ids, context
        self.app.router.add_post("/v1/completions", self._completions)
        self.tells("/v1/models", {"data": [{"id": MODEL, "root": "/models/tiny", "max_model_len": context}]})
        self.tells("/version", {"version": "0.32.0"})

    async def __aenter__(self):
        await super().__aenter__()
        self.url += "/v1"
        return self

    async def _completions(self, request):
        body = await request.json()
        prompt, limit = body["prompt"], body.get("max_tokens") or 16
        if body["model"] != MODEL:
            return _error(404, f"The model `{body['model']}` does not exist. Valid aliases: {MODEL}.")
        sent = prompt if isinstance(prompt, list) else self.tokenizer.encode(prompt, add_special_tokens=False)
        if max(sent) >= len(self.tokenizer):
            return _error(400, f"Token id {max(sent)} is out of vocabulary")
        if (
            limit > self.context or len(sent) >= self.context
        ):  # what prompt and answer exceed it together is cut off, without a word
            return _error(400, f"max_tokens={limit} cannot be greater than max_model_len={self.context}")
        asked = introduced(self.tokenizer, prompt)
        if asked is not None:
            return self._answer(body, sent, asked.ids, asked.text, "length")
        self.requests.append(body)
        self.asked.set()
        await asyncio.sleep(self.delay)
        said = self.reply_to(request)(self.tokenizer.decode(sent), len(self.requests) - 1)
        if isinstance(said, web.Response):
            return said
        said, reason = said if isinstance(said, tuple) else (said, "stop")
        ids = self.tokenizer.encode(said, add_special_tokens=False)
        if reason == "stop":
            ids.append(self.tokenizer.eos_token_id)  # among the ids, not in the text
        return self._answer(body, sent, ids, said, reason)

    def _answer(self, body, sent, ids, text, reason):
        choice = {
            "index": 0,
            "text": text,
            "finish_reason": reason,
            "stop_reason": None,
            "logprobs": None,
            "token_ids": None,
        }
        if body.get("logprobs") is not None:
            choice["logprobs"] = {
                "token_logprobs": [-0.25] * len(ids),
                "tokens": [],
                "text_offset": [],
                "top_logprobs": [],
            }
        if body.get("return_token_ids") and self.returns_ids:
            choice |= {"token_ids": ids, "prompt_token_ids": sent}
        usage = {
            "prompt_tokens": len(sent),
            "completion_tokens": len(ids),
            "prompt_tokens_details": {"cached_tokens": len(sent) // 2},
        }
        return web.json_response({"model": MODEL, "choices": [choice], "usage": usage})


def _error(status, message):
    return web.json_response({"error": {"message": message, "code": status}}, status=status)
