"""A small policy server that speaks SGLang's protocol on transformers weights.

`/generate`, `/health`, `/model_info`, `/abort_request`, `/update_weights_from_disk`, `/flush_cache`, `/v1/loads`,
`/server_info`, `/pause_generation` and `/continue_generation`, with SGLang's field names and status codes, so that
whatever talks to SGLang talks to this: slime's trainer takes it as an external engine
(`--rollout-external-engine-addrs`, weights over the disk). It runs in a process of its own (invariant 6): the engine's
thread owns the model, the event loop owns the sockets.

Binds to loopback unless told otherwise. Not a production server: one model, one device, no tensor parallelism.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from aiohttp import web

from slime_tau2.local.engine import Engine, Request
from slime_tau2.local.engine_thread import EngineThread
from slime_tau2.local.information import Information
from slime_tau2.local.sampling import sampling_params
from slime_tau2.tokenizer import Tokenizer

MAX_CONVERSATIONS = 4096
"""How many conversations are remembered, to check that the next request extends the last one."""


class Server(Information):
    """The HTTP face of an engine.

    Args:
        tokenizer: decodes for the `text` field and answers `/tokenize`; what is sampled never passes it.
        load_weights: replaces the engine's weights by those of a directory.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, model_path: str, load_weights: Callable[[str], None]):
        self.engine = engine
        self.tokenizer = tokenizer
        self.model_path = model_path
        self.weight_version = "0"
        self.served = 0
        self.prefix_checked = 0
        self.prefix_mismatches = 0
        self._load_weights = load_weights
        self._counter = itertools.count()
        self._conversations: OrderedDict[str, list[int]] = OrderedDict()  # what each has sent and sampled

    def app(self) -> web.Application:
        """The routes; the engine's thread starts with them."""
        app = web.Application(client_max_size=64 * 2**20)
        app.on_startup.append(self._start)
        ok = self._ok
        app.add_routes(
            [
                web.post("/generate", self.generate),
                web.post("/abort_request", self.abort),
                web.post("/update_weights_from_disk", self.update_weights),
                web.post("/pause_generation", self.pause),
                web.post("/continue_generation", self.resume),
                web.post("/flush_cache", self.flush),
                web.get("/flush_cache", self.flush),
                web.get("/health", ok),
                web.get("/health_generate", ok),
                web.get("/v1/loads", self.loads),
                web.get("/workers", self.workers),
                web.get("/model_info", self.model_info),
                web.get("/get_model_info", self.model_info),
                web.get("/server_info", self.server_info),
                web.get("/get_server_info", self.server_info),
                web.post("/tokenize", self.tokenize),
            ]
        )
        return app

    async def _start(self, _: web.Application) -> None:
        self.thread = EngineThread(self.engine, self._load_weights)
        self._open = asyncio.Event()  # cleared while generation is paused
        self._open.set()

    async def _ok(self, _: web.Request) -> web.Response:
        return web.Response()

    async def generate(self, http: web.Request) -> web.Response:
        """Sample one completion. 400 where the request will not do, 500 where the engine failed."""
        started = time.perf_counter()
        request: Request | None = None
        try:
            body = await http.json()
            ids = body.get("input_ids")
            if ids is None:
                ids = self.tokenizer.encode(body["text"], add_special_tokens=False)
            if not isinstance(ids, list) or not all(type(i) is int for i in ids):
                raise ValueError("input_ids must be one list of integers (one request per call)")
            request = Request(
                rid=str(body.get("rid") or f"r{next(self._counter)}"),
                input_ids=ids,
                params=sampling_params(body.get("sampling_params") or {}),
            )
            while not self._open.is_set():
                await self._open.wait()
            future = self.thread.submit("generate", request)
            done: Request = await future
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": {"message": str(error)}}, status=400)
        except asyncio.CancelledError:
            if request is not None:
                self.thread.submit("abort", request.rid)  # the client is gone; free its slot
            raise
        except Exception as error:
            return web.json_response({"error": {"message": f"{type(error).__name__}: {error}"}}, status=500)
        self.served += 1
        self._check_prefix(http.headers.get("X-SMG-Routing-Key"), ids, done)
        meta = {
            "id": done.rid,
            "finish_reason": _finish_reason(done),
            "prompt_tokens": len(ids),
            "completion_tokens": len(done.output_ids),
            "cached_tokens": done.cached_tokens,
            "weight_version": self.weight_version,
            "e2e_latency": time.perf_counter() - started,
        }
        if body.get("return_logprob"):
            meta["output_token_logprobs"] = [[lp, i, None] for lp, i in zip(done.log_probs, done.output_ids)]
        return web.json_response(
            {"text": self.tokenizer.decode(done.output_ids), "output_ids": done.output_ids, "meta_info": meta}
        )

    def _check_prefix(self, conversation: str | None, ids: list[int], done: Request) -> None:
        """Count requests that do not extend what their conversation had sent and sampled (invariant 1, from here)."""
        if conversation is None:
            return
        before = self._conversations.pop(conversation, None)
        if before is not None:
            self.prefix_checked += 1
            self.prefix_mismatches += len(ids) <= len(before) or ids[: len(before)] != before
        if done.finish == "stop":
            self._conversations[conversation] = ids + done.output_ids
            while len(self._conversations) > MAX_CONVERSATIONS:
                self._conversations.popitem(last=False)

    async def abort(self, http: web.Request) -> web.Response:
        """End the request `rid`, or with `abort_all` every one; each answers with what it has sampled."""
        body = await http.json()
        rid = None if body.get("abort_all") else body.get("rid")
        if rid is None and not body.get("abort_all"):
            return web.json_response({"error": {"message": "name a rid, or abort_all"}}, status=400)
        await self.thread.submit("abort", rid)
        return web.Response()

    async def update_weights(self, http: web.Request) -> web.Response:
        """Load the weights at `model_path`; 400 where they cannot be had, and the old ones stay."""
        body = await http.json()
        try:
            await self.thread.submit("weights", body["model_path"])
        except Exception as error:  # whatever a reader of weights stumbles over; the engine keeps those it has
            message = f"cannot load weights from {body.get('model_path')!r}: {type(error).__name__}: {error}"
            return web.json_response({"success": False, "message": message}, status=400)
        self.model_path = body["model_path"]
        self.weight_version = str(body.get("weight_version") or int(self.weight_version) + 1)
        return web.json_response({"success": True, "message": "ok"})

    async def flush(self, _: web.Request) -> web.Response:
        """Forget the keys and values of all conversations."""
        await self.thread.submit("flush", None)
        return web.Response()

    async def pause(self, http: web.Request) -> web.Response:
        """Abort what is being sampled, and hold new requests until `/continue_generation`."""
        body = await http.json() if http.can_read_body else {}
        if body.get("mode", "abort") != "abort":
            return web.json_response(
                {"error": {"message": f"mode {body['mode']!r} is not supported; use abort"}}, status=400
            )
        self._open.clear()
        await self.thread.submit("abort", None)
        return web.json_response({"status": "ok", "message": "Generation paused successfully."})

    async def resume(self, _: web.Request) -> web.Response:
        """Take up the requests that were held."""
        self._open.set()
        return web.json_response({"status": "ok", "message": "Generation continued successfully."})


def _finish_reason(done: Request) -> dict[str, Any]:
    """Why a request ended, as SGLang says it."""
    if done.finish == "stop":
        return {"type": "stop", "matched": done.output_ids[-1]}
    if done.finish == "length":
        return {"type": "length", "length": done.params.max_new_tokens}
    return {"type": done.finish, "message": "aborted"}
