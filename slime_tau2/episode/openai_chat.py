"""Client of `/chat/completions`, for the user simulator, the judge and policies that are asked for text: a local SGLang
and OpenAI's API alike.

Messages and tool schemas arrive as JSON bytes, each serialised once by whoever owns it. Which key a server sees, and
whether it is told which requests are one conversation's, is decided in `credentials.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from slime_tau2.episode import credentials, hosted, model_names, strict_json, thoughts, toolcalls, usage
from slime_tau2.episode.endpoint import ROUTING_HEADER, Endpoint, Garbage
from slime_tau2.episode.transport import Transport
from slime_tau2.errors import ConfigError, InfrastructureError
from slime_tau2.hosts import NOTHING_SAID, Access
from slime_tau2.limits import CHAT_RETRIES, Retries

_json = json.JSONEncoder(ensure_ascii=False).encode


def message_bytes(message: Mapping[str, Any]) -> bytes:
    """A message's JSON, as `ChatClient.complete` takes it."""
    return _json(message).encode()


@dataclass(frozen=True)
class ChatReply:
    """The assistant's message.

    Attributes:
        text: None if blank.
        calls: (name, arguments) of each tool call, in order.
        reasoning: what the model thought before it.
        malformed: calls whose arguments could not be read (a policy's only; a user's reply is asked for again).
        finish_reason: the server's.
    """

    text: str | None
    _: KW_ONLY
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    reasoning: str = ""
    malformed: int = 0
    finish_reason: str = "stop"


class ChatClient:
    """One OpenAI-compatible server and one model of it. Share it between all episodes of a process.

    Args:
        key_env: the environment variable that was named for this server's key; None is `credentials.variable`'s own
            answer.
        access: what the configuration says of hosts.
        options: JSON fields of every request, e.g. temperature.
        max_tokens: longest reply; None leaves that to the server.
        failure: the error that is raised when the server fails for good; its role is the one under which tokens are
            counted.

    Raises:
        ConfigError: a server that cannot be asked so (`hosted.Server.of`), or a model named as LiteLLM would
            (`model_names`).
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        failure: type[InfrastructureError],
        options: Mapping[str, Any],
        max_tokens: int | None = None,
        key_env: str | None = None,
        concurrency: int = 128,
        retries: Retries = CHAT_RETRIES,
        transport: Transport | None = None,
        access: Access = NOTHING_SAID,
    ):
        self.role = failure.role
        self.failure: Callable[[str], InfrastructureError] = lambda message: failure(f"{model}: {message}")
        self.server = hosted.Server.of(base_url, model, key_env, access)
        model_names.check(model, base_url, access)
        self._head = json.dumps({"model": model, **options}, ensure_ascii=False)[:-1].encode()
        self._ours = credentials.is_ours(base_url)
        self._limit = b"" if max_tokens is None else self._limit_of(max_tokens)
        self.answered_as: str | None = None
        """The model that answered, by the server's own word (`gpt-4.1-2025-04-14` to `gpt-4.1`); None until it has."""
        self.endpoint = Endpoint(
            url=self.server.url,
            failure=self.failure,
            concurrency=concurrency,
            hint=credentials.hint(self.server.variable),
            spent=self._note,
            transport=transport,
            connect=self.server.connect,
            retries=retries,
        )

    def _note(self, answer: Any) -> None:
        """Keep what an answer says beside its message: its tokens, and which model it is of."""
        usage.add(self.role, usage.of_openai(answer))
        model = answer.get("model") if isinstance(answer, dict) else None
        if isinstance(model, str):
            self.answered_as = model

    def _limit_of(self, tokens: int) -> bytes:
        name = b"max_completion_tokens" if credentials.is_openai(self.server.base_url) else b"max_tokens"
        return b',"%b":%d' % (name, tokens)

    async def complete(
        self,
        messages: Sequence[bytes],
        tools: bytes | None = None,
        seed: int = 0,
        *,
        accept: Callable[[ChatReply], None] | None = None,
        routing_key: str | None = None,
        read: Callable[[dict[str, Any]], ChatReply] | None = None,
    ) -> ChatReply:
        """One completion. A failure, an empty reply and malformed arguments are retried, each try with another seed.

        Args:
            messages, tools: JSON of each message and of the list of tool schemas.
            accept: raises ValueError for a reply that will not do; that is retried too.
            read: takes the reply out of the answer in another way (`policy_reply`).
            routing_key: the same for all requests of one conversation; a router keeps them on one server and its cached
                prefix.

        Raises:
            InfrastructureError: the client's `failure`, when the tries run out.
        """
        offered = (b',"tools":', tools, b',"tool_choice":"auto"') if tools else ()
        said = b",".join(messages)
        body = b"".join((self._head, self._limit, *offered, b',"messages":[', said, b'],"seed":'))

        def accepted(answer: dict[str, Any]) -> ChatReply:
            reply = (read or _reply)(answer)
            if accept is not None:
                accept(reply)
            return reply

        headers = await self.headers()
        if routing_key and self._ours:
            headers[ROUTING_HEADER] = routing_key
        reply = await self.endpoint.post(lambda attempt: b"".join((body, b"%d}" % (seed + attempt))), accepted, headers)
        usage.think(self.role, reply.reasoning)
        return reply

    async def probe(self, timeout_s: float) -> None:
        """The smallest request that a model answers, once.

        Raises:
            InfrastructureError: the client's `failure`, with the cause.
        """
        limit = self._limit_of(16 if credentials.is_openai(self.server.base_url) else 1)
        body = b'%b,"messages":[{"role":"user","content":"Hi"}]%b}' % (self._head, limit)
        await self.endpoint.once(body, lambda answer: answer["choices"][0]["message"], await self.headers(), timeout_s)

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def model(self) -> str:
        return self.server.model

    async def headers(self) -> dict[str, str]:
        """The headers of one request.

        Raises:
            InfrastructureError: the client's `failure`, where a token is to be had and is not.
        """
        try:
            return await self.server.headers()
        except RuntimeError as error:
            raise self.failure(str(error)) from error

    async def close(self) -> None:
        """Close this event loop's connections."""
        await self.endpoint.close()


def thinking(asked: str, base_url: str, option: str) -> dict[str, Any]:
    """The fields of a request for a hybrid model such as Qwen3-4B, in the form of SGLang and vLLM: none where `asked`
    is auto.

    Raises:
        ConfigError: on or off is asked of OpenAI's API, which refuses the field; names the `option`.
    """
    if asked == "auto":
        return {}
    if credentials.is_openai(base_url):
        raise ConfigError(
            f"{option} = {asked}: {base_url} has no such switch; use auto, and choose by the model's name whether "
            "it thinks"
        )
    return {"chat_template_kwargs": {"enable_thinking": asked == "on"}}


BROKEN_OFF = ("error", "abort", "content_filter")
"""Finish reasons that are the server's, not the model's."""


def policy_reply(answer: dict[str, Any]) -> ChatReply:
    """A reply as it is, for a policy: what it says badly is its own fault, and scored, so that nothing is asked again.

    A call whose arguments cannot be read becomes the call that `toolcalls` puts in its place; half a surrogate pair
    becomes U+FFFD.
    """
    choice = answer["choices"][0]
    if choice.get("finish_reason") in BROKEN_OFF:
        raise Garbage("cut_off", f"a reply that the server broke off: finish_reason {choice['finish_reason']}")
    message = {**choice["message"], "content": choice["message"].get("content") or choice["message"].get("refusal")}
    reasoning, text = thoughts.of_message(message)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    calls: list[tuple[str, dict[str, Any]]] = []
    malformed = 0
    for call in message.get("tool_calls") or []:
        try:
            calls.append((str(call["function"]["name"]), _arguments(call["function"]["arguments"])))
        except Garbage as error:
            stand_in = toolcalls.malformed(str(error), "")
            calls.append((stand_in.name, stand_in.arguments))
            malformed += 1
    return ChatReply(
        text if text.strip() else None,
        calls=tuple(calls),
        reasoning=reasoning,
        malformed=malformed,
        finish_reason=choice.get("finish_reason") or "stop",
    )


def _reply(answer: dict[str, Any]) -> ChatReply:
    choice = answer["choices"][0]
    message = choice["message"]
    if choice.get("finish_reason") in ("length", *BROKEN_OFF):
        raise Garbage("cut_off", f"a reply that is not whole: finish_reason {choice['finish_reason']}")
    calls = tuple(
        (c["function"]["name"], _arguments(c["function"]["arguments"])) for c in message.get("tool_calls") or []
    )
    strict_json.check_text(message.get("content") or "")
    reasoning, text = thoughts.of_message(message)
    if not text.strip() and not calls:
        raise Garbage("empty", "an empty reply")
    return ChatReply(text or None, calls=calls, reasoning=reasoning)


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        value = strict_json.loads(text or "{}")
    except ValueError as error:
        raise Garbage("malformed_arguments", f"malformed tool arguments {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise Garbage("malformed_arguments", f"tool arguments are {type(value).__name__}, not an object")
    return value
