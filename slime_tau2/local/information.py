"""What the policy server says about itself: load, workers, model and, under SGLang's names, how it was started."""

from __future__ import annotations

import os
import resource
from typing import Any

from aiohttp import web

from slime_tau2.local.engine import Engine
from slime_tau2.local.engine_thread import EngineThread
from slime_tau2.tokenizer import Tokenizer


class Information:
    """The read-only endpoints; `Server` has the state that they read."""

    engine: Engine
    thread: EngineThread
    tokenizer: Tokenizer
    model_path: str
    weight_version: str
    served: int
    prefix_checked: int
    prefix_mismatches: int

    async def loads(self, _: web.Request) -> web.Response:
        """How many requests run, and how many wait."""
        load = {
            "num_running_reqs": len(self.engine.running),
            "num_waiting_reqs": len(self.engine.waiting) + self.thread.inbox.qsize(),
        }
        return web.json_response({"loads": [load]})

    async def workers(self, http: web.Request) -> web.Response:
        """A router's list of its workers: this server alone."""
        return web.json_response({"workers": [{"id": "local", "url": f"http://{http.host}"}]})

    async def model_info(self, _: web.Request) -> web.Response:
        """Where the model came from, the version of its weights and the length of its context."""
        info: dict[str, Any] = {
            "model_path": self.model_path,
            "tokenizer_path": self.model_path,
            "is_generation": True,
            "weight_version": self.weight_version,
            "context_length": self.engine.context_length,
        }
        return web.json_response(info)

    async def tokenize(self, http: web.Request) -> web.Response:
        """The ids of `prompt`, or of `messages` by the chat template, as SGLang and vLLM answer."""
        body = await http.json()
        try:
            text = body.get("prompt")
            if text is None:
                text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
            ids = self.tokenizer.encode(text, add_special_tokens=False)
        except (KeyError, TypeError, ValueError) as error:
            return web.json_response({"error": {"message": f"name a prompt, or messages: {error}"}}, status=400)
        return web.json_response({"tokens": ids, "count": len(ids), "max_model_len": self.engine.context_length})

    async def server_info(self, _: web.Request) -> web.Response:
        """The layout, as SGLang names it, then figures of ours. slime compares the layout with what it expects."""
        info: dict[str, Any] = {
            "version": "slime_tau2.local",
            "model_path": self.model_path,
            "weight_version": self.weight_version,
            "context_length": self.engine.context_length,
            "tp_size": 1,
            "pp_size": 1,
            "dp_size": 1,
            "ep_size": 1,
            "enable_memory_saver": False,
            "served_requests": self.served,
            "near_ties": self.engine.near_ties,
            "prefix_checked": self.prefix_checked,
            "prefix_mismatches": self.prefix_mismatches,
            "device": str(self.engine.device),
            "pid": os.getpid(),
        }
        return web.json_response(info | {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024})
