"""Client of `/chat/completions`, for the user simulator and the judge: a local SGLang and OpenAI's API alike.

Messages and tool schemas arrive as JSON bytes, each serialised once by whoever owns it. Which key a server sees, and whether it is told
which requests are one conversation's, is decided in `credentials.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from slime_tau2.episode import credentials, strict_json, thoughts, usage
from slime_tau2.episode.endpoint import ROUTING_HEADER, Endpoint, Garbage, Transport
from slime_tau2.errors import ConfigError, InfrastructureError


@dataclass(frozen=True)
class ChatReply:
    """The assistant's message: text (None if blank), tool calls in order with arguments parsed, and what it thought before them."""

    text: str | None
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    reasoning: str = ""


class ChatClient:
    """One OpenAI-compatible server and one model of it. Share it between all episodes of a process.

    Args:
        key_env: the environment variable that was named for this server's key; None is `credentials.variable`'s own answer.
        options: JSON fields of every request, e.g. temperature.
        failure: makes the error that is raised when the server fails for good; its component is the role under which tokens are counted.

    Raises:
        ConfigError: no URL of a server, or one to which a key would go in the clear.
    """

    def __init__(
        self, base_url: str, model: str, key_env: str | None, failure: Callable[[str], InfrastructureError], options: dict[str, Any],
        concurrency: int = 128, timeout_s: float = 120.0, retries: int = 3, backoff_s: float = 0.5, transport: Transport | None = None,
    ):  # fmt: skip
        self.base_url, self.model, self.key_env = base_url.rstrip("/"), model, credentials.variable(base_url, key_env)
        self.role = failure("").component
        self._head = json.dumps({"model": model, **options}, ensure_ascii=False)[:-1].encode()
        self.endpoint = Endpoint(
            f"{self.base_url}/chat/completions", lambda message: failure(f"{model}: {message}"), concurrency, timeout_s, retries,
            backoff_s, credentials.hint(self.key_env), lambda answer: usage.add(self.role, usage.of_openai(answer)), transport,
        )  # fmt: skip

    async def complete(
        self, messages: Sequence[bytes], tools: bytes | None = None, seed: int = 0, accept: Callable[[ChatReply], None] | None = None,
        routing_key: str | None = None,
    ) -> ChatReply:  # fmt: skip
        """One completion. A failure, an empty reply and malformed arguments are retried, each try with another seed.

        Args:
            messages, tools: JSON of each message and of the list of tool schemas.
            accept: raises ValueError for a reply that will not do; that is retried too.
            routing_key: the same for all requests of one conversation; a router keeps them on one server and its cached prefix.

        Raises:
            InfrastructureError: the client's `failure`, when the tries run out.
        """
        offered = b',"tools":%b,"tool_choice":"auto"' % tools if tools else b""
        body = b'%b%b,"messages":[%b],"seed":' % (self._head, offered, b",".join(messages))

        def read(answer: dict) -> ChatReply:
            reply = _reply(answer)
            if accept is not None:
                accept(reply)
            return reply

        headers = credentials.headers(self.key_env)
        if routing_key and credentials.is_ours(self.base_url):
            headers[ROUTING_HEADER] = routing_key
        reply = await self.endpoint.post(lambda attempt: b"%b%d}" % (body, seed + attempt), read, headers)
        usage.think(self.role, reply.reasoning)
        return reply

    async def close(self) -> None:
        """Close this event loop's connections."""
        await self.endpoint.close()


def thinking(asked: str, base_url: str, option: str) -> dict[str, Any]:
    """The fields of a request for a hybrid model such as Qwen3-4B, in the form of SGLang and vLLM: none where `asked` is auto.

    Raises:
        ConfigError: on or off is asked of OpenAI's API, which refuses the field; names the `option`.
    """
    if asked == "auto":
        return {}
    if credentials.is_openai(base_url):
        raise ConfigError(f"{option} = {asked}: {base_url} has no such switch; use auto, and choose by the model's name whether it thinks")
    return {"chat_template_kwargs": {"enable_thinking": asked == "on"}}


def _reply(answer: dict) -> ChatReply:
    said = answer["choices"][0]["message"]
    calls = tuple((c["function"]["name"], _arguments(c["function"]["arguments"])) for c in said.get("tool_calls") or [])
    strict_json.check_text(said.get("content") or "")
    reasoning, text = thoughts.of_message(said)
    if not text.strip() and not calls:
        raise Garbage("empty", "an empty reply")
    return ChatReply(text or None, calls, reasoning)


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        value = strict_json.loads(text or "{}")
    except ValueError as error:
        raise Garbage("malformed_arguments", f"malformed tool arguments {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise Garbage("malformed_arguments", f"tool arguments are {type(value).__name__}, not an object")
    return value
