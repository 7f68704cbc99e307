"""The policy behind OpenAI's chat completions, for agents whose code cannot be changed: one address, a key an episode.

What a request says becomes a call of the episode's `Model`, so that its tokens are recorded as those of every other
agent. A reply is recorded once it is sent: a client that hung up before has heard nothing, and may ask again.

Listens on loopback alone. A key is drawn for each episode, and is worth nothing after it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from slime_tau2.episode.model import Completion, Model

log = logging.getLogger(__name__)
MODEL = "policy"
"""The name of the only model; a request may say any."""
MAX_BODY = 64 * 2**20
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "tool_choice": (None, "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "stop": (None, [], ""),
    "logprobs": (None, False),
    "functions": (None, []),
    "function_call": (None, "auto"),
    "logit_bias": (None, {}),
    "prediction": (None,),
}
"""{field: the values that mean what this server does}."""
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
"""Fields that are not taken: what is sampled is trained, so the run's own sampling counts."""


class Refused(Exception):
    """A request that will not do; the client is told."""

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class Access:
    """The endpoint of one episode. It is opened on first use of its address.

    Attributes:
        model: what to name as the model.
    """

    model = MODEL

    def __init__(self, endpoint: Callable[[], OpenAIEndpoint]):
        self._endpoint = endpoint
        self._opened: tuple[OpenAIEndpoint, str] | None = None
        self._of: Model | None = None

    @property
    def base_url(self) -> str:
        """As the openai package's `base_url`, or OPENAI_BASE_URL of a process of your own."""
        return self._open()[0].base_url

    @property
    def api_key(self) -> str:
        """The episode's key, by which its calls are known: as `api_key`, or OPENAI_API_KEY."""
        return self._open()[1]

    def open(self, model: Model) -> None:
        """The episode's model, from its first turn on."""
        self._of = model

    def close(self) -> None:
        """The episode has ended, and its key is worth nothing."""
        if self._opened is not None:
            endpoint, key = self._opened
            endpoint.models.pop(key, None)

    def _open(self) -> tuple[OpenAIEndpoint, str]:
        if self._opened is None:
            assert self._of is not None, "an agent is made in its first turn"
            endpoint, key = self._endpoint(), f"tau2-{secrets.token_urlsafe(24)}"
            endpoint.models[key] = self._of
            self._opened = endpoint, key
        return self._opened


class OpenAIEndpoint:
    """One event loop's server. It takes connections as soon as it is made; call in a running loop.

    Attributes:
        models: {key: model of a running episode}.
    """

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_told])
        app.add_routes([web.post("/v1/chat/completions", self._complete), web.get("/v1/models", self._list)])
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        self._warned: set[str] = set()
        self._starting = asyncio.ensure_future(self._start())

    async def _start(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def close(self) -> None:
        """Close its socket and what is connected."""
        await self._starting
        await self._runner.cleanup()
        self._socket.close()

    async def _list(self, request: web.Request) -> web.Response:
        self._asked(request)
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tau2"}]})

    def _asked(self, request: web.Request) -> Model:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        model = self.models.get(key)
        if model is None:
            raise Refused("no episode has this key; it has ended, or this is not the api_key of its brief", 401)
        return model

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        model = self._asked(request)
        body = await _body(request)
        self._check(body)
        sent: list[web.StreamResponse] = []

        async def deliver(completion: Completion) -> None:
            sent.append(await (_streamed if body.get("stream") else _whole)(request, body, completion))

        asking = asyncio.get_running_loop().create_task(
            model.complete(body["messages"], body.get("tools") or [], max_tokens=_limit(body), deliver=deliver),
            context=model.context,
        )
        model.asking.add(asking)
        asking.add_done_callback(model.asking.discard)
        try:
            await asking
        except asyncio.CancelledError:
            asking.cancel()
            if not model.over.done():
                raise  # the client has gone
            raise Refused(f"the episode has ended: {_why(model)}") from None
        except ConnectionError:
            return web.Response(status=499)  # the client has gone before it was told, and nothing is on record
        return sent[0]

    def _check(self, body: Mapping[str, Any]) -> None:
        if not isinstance(body.get("messages"), list):
            raise Refused("messages: a list is needed")
        for field, allowed in _ONLY.items():
            if body.get(field) not in allowed:
                raise Refused(f"{field} = {body[field]!r}: this server takes {field} = {allowed[-1]!r} alone")
        for field in _SAMPLING:
            if body.get(field) is not None and field not in self._warned:
                self._warned.add(field)
                log.warning("%s = %r of a client is not used: the run's own sampling counts", field, body[field])


@web.middleware
async def _told(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Answer what is refused as OpenAI does."""
    try:
        return await handler(request)
    except Refused as refusal:
        error = {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": None}
        return web.json_response({"error": error}, status=refusal.status)


def _why(model: Model) -> str:
    over = model.over
    if over.cancelled():
        return "it was left"
    error = over.exception()
    return str(error) if error is not None else str(over.result().ended or "")


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise Refused(f"the request is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused("the request is no JSON object")
    return body


def _limit(body: Mapping[str, Any]) -> int | None:
    for field in ("max_completion_tokens", "max_tokens"):
        value = body.get(field)
        if value is not None:
            if type(value) is not int or value < 1:
                raise Refused(f"{field} = {value!r}: a whole number from 1 on")
            return value
    return None


def _head(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": str(body.get("model") or MODEL),
    }


def _usage(completion: Completion) -> dict[str, int]:
    prompt, sampled = completion.prompt_tokens, completion.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}


def _message(completion: Completion) -> dict[str, Any]:
    thought = {"reasoning_content": completion.reasoning} if completion.reasoning else {}
    return {**completion.message, **thought}


async def _whole(request: web.Request, body: Mapping[str, Any], completion: Completion) -> web.StreamResponse:
    choice = {
        "index": 0,
        "message": _message(completion),
        "finish_reason": completion.finish_reason,
        "logprobs": None,
    }
    answer = {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(completion)}
    return await _sent(request, "application/json", [json.dumps(answer).encode()])


async def _streamed(request: web.Request, body: Mapping[str, Any], completion: Completion) -> web.StreamResponse:
    """The reply in chunks, though it is whole: first its words, then its calls, then why it ended."""
    head, message = _head(body, "chat.completion.chunk"), _message(completion)
    calls = [{**call, "index": n} for n, call in enumerate(message.pop("tool_calls", []))]
    deltas: list[tuple[dict[str, Any], str | None]] = [(message, None)]
    deltas += [({"tool_calls": calls}, None)] if calls else []
    deltas += [({}, completion.finish_reason)]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": _usage(completion)})
    lines = [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks]
    return await _sent(request, "text/event-stream", [*lines, b"data: [DONE]\n\n"])


async def _sent(request: web.Request, kind: str, pieces: list[bytes]) -> web.StreamResponse:
    """Send it, and wait until it is on its way. Raises ConnectionError where the client has gone."""
    response = web.StreamResponse(headers={"Content-Type": kind})
    response.content_length = sum(map(len, pieces))
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response
