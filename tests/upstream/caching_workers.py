"""Two servers of a model behind the real router, as far as routing and prefix caches go; the words are helpdesk's
teacher's and user's.

What a worker says is a function of the conversation alone, so that it does not matter which of the two is asked. It
remembers which conversation and which routing key came to it, and what of a prompt it had seen before: the longest
beginning, in blocks of 16 tokens (of 64 characters for chats), that any earlier prompt of its own had too. Nothing is
ever evicted.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict

from aiohttp import web
from fake_openai import completion
from fake_server import FakeServer

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.domains.helpdesk.teacher import Teacher

TOKENS_A_BLOCK, CHARACTERS_A_BLOCK = 16, 64


class CachingWorker(FakeServer):
    """`played` is a `FaultyServers` that fails never and lends its user. A conversation is told by its temperature
    (policy) or seed (user).
    """

    def __init__(self, played):
        self.played, self.tokenizer = played, played.tokenizer
        self.conversations: defaultdict[str, set] = defaultdict(set)  # {conversation: routing keys that came with it}
        self.sent = self.cached = 0
        self._seen: set[int] = set()
        super().__init__({"/generate": self._generate, "/v1/chat/completions": self._complete})
        model = {"model_path": str(TOKENIZER), "tokenizer_path": str(TOKENIZER), "is_generation": True}
        for path in ("/health", "/health_generate"):
            self.tells(path, {})
        for path in ("/get_model_info", "/model_info", "/server_info", "/get_server_info"):
            self.tells(path, {**model, "served_model_name": "sim", "tp_size": 1, "dp_size": 1})
        self.tells("/v1/models", {"data": [{"id": "sim"}]})

    def _remember(self, prompt, block: int) -> None:
        known, at = True, 0
        for end in range(block, len(prompt) + 1, block):
            name = hash(prompt[:end])
            known = known and name in self._seen
            at = end if known else at
            self._seen.add(name)
        self.sent += len(prompt)
        self.cached += at

    async def _generate(self, request):
        body = await request.json()
        self.conversations[f"{body['sampling_params']['temperature']:.3f}"].add(
            request.headers.get("X-SMG-Routing-Key")
        )
        self._remember(tuple(body["input_ids"]), TOKENS_A_BLOCK)
        text = self.tokenizer.decode(body["input_ids"])
        teacher, said = Teacher(0), None
        for block in re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", text, re.DOTALL):
            heard = block.replace("<tool_response>\n", "").replace("\n</tool_response>", "")
            said = teacher.act(heard, heard.startswith("Error"))
        calls = said.tool_calls or []
        reply = said.content or "".join(
            f"<tool_call>\n{json.dumps({'name': c.name, 'arguments': c.arguments})}\n</tool_call>" for c in calls
        )
        ids = [*self.tokenizer.encode(reply, add_special_tokens=False), self.tokenizer.eos_token_id]
        meta = {"finish_reason": {"type": "stop"}, "output_token_logprobs": [[-0.25, i, None] for i in ids]}
        return web.json_response({"text": reply, "output_ids": ids, "meta_info": meta})

    async def _complete(self, request):
        body = await request.json()
        self.conversations[str(body["seed"])].add(request.headers.get("X-SMG-Routing-Key"))
        self._remember(
            json.dumps(body.get("tools")) + "".join(json.dumps(m) for m in body["messages"]), CHARACTERS_A_BLOCK
        )
        said = self.played._user(body["messages"])
        calls = [(c.name, json.dumps(c.arguments)) for c in said.tool_calls or []]
        return completion(calls or said.content)
