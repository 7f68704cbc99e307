"""Messages as OpenAI's chat completions write them: what agents of one's own hear, say and send.

Tau2's messages and the chat template's are made of them, and they of tau2's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from slime_tau2 import bench
from slime_tau2.episode import strict_json
from slime_tau2.episode.chat import ChatCall, ChatMessage

ApiMessage: TypeAlias = dict[str, Any]
"""{"role": …, "content": …}, an assistant's with `tool_calls`, a tool's with `tool_call_id`."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class BadMessage(ValueError):
    """A message that no chat template takes; says what is wrong with it."""


def heard(messages: Iterable[bench.Message]) -> list[ApiMessage]:
    """tau2's messages as the agent hears them: the user's own calls and their results are not among them."""
    out: list[ApiMessage] = []
    for message in messages:
        if isinstance(message, bench.ToolMessage):
            if message.requestor == "assistant":
                out.append({"role": "tool", "tool_call_id": message.id, "content": message.content or ""})
        elif isinstance(message, bench.AssistantMessage):
            calls = [call(c.id, c.name, c.arguments) for c in message.tool_calls or []]
            out.append({"role": "assistant", "content": message.content, **({"tool_calls": calls} if calls else {})})
        elif not message.tool_calls:
            out.append({"role": "user", "content": message.content or ""})
    return out


def call(call_id: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call of an assistant's message."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def of_template(message: object) -> ChatMessage:
    """A message as the chat template takes it. A mapping, or an object of the openai package.

    Raises:
        BadMessage: it has another shape, or something in it that is no text.
    """
    given = _plain(message)
    role = _ROLES.get(str(given.get("role")))
    if role is None:
        raise BadMessage(f"role {given.get('role')!r}: there are {', '.join(_ROLES)}")
    out: ChatMessage = {"role": role, "content": _text(given.get("content"))}
    if given.get("tool_calls"):
        out["tool_calls"] = [_call(one) for one in given["tool_calls"]]
    return out


def answer(said: object) -> tuple[bench.AssistantMessage, list[str]]:
    """What an agent answers, as tau2 takes it, with the ids of its calls: a text, or an assistant's message.

    Raises:
        BadMessage: it is none.
    """
    if isinstance(said, bench.AssistantMessage):
        return said, [c.id for c in said.tool_calls or []]
    given: Mapping[str, Any] = {"role": "assistant", "content": said} if isinstance(said, str) else _plain(said)
    message = of_template(given)
    if message["role"] != "assistant":
        raise BadMessage(f"role {message['role']!r} of an answer: an agent answers as the assistant")
    calls = [c["function"] for c in message.get("tool_calls", ())]
    told = bench.AssistantMessage(
        role="assistant",
        content=message["content"] if message["content"].strip() else None,
        tool_calls=[bench.ToolCall(name=c["name"], arguments=cast(dict[str, Any], c["arguments"])) for c in calls]
        or None,
        cost=0.0,
    )
    return told, [str(_plain(c).get("id") or "") for c in given.get("tool_calls") or ()]


def _plain(message: object) -> Mapping[str, Any]:
    dump = getattr(message, "model_dump", None)  # the openai package's are pydantic's
    given = dump(exclude_none=True) if callable(dump) else message
    if not isinstance(given, Mapping):
        raise BadMessage(f"{type(message).__name__} is no message: an object with role and content is one")
    return given


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return _checked(content)
    if not isinstance(content, Sequence):
        raise BadMessage(f"content of type {type(content).__name__}: it is a text, or a list of parts of type text")
    parts: list[str] = []
    for part in content:
        given = _plain(part)
        if given.get("type") != "text" or not isinstance(given.get("text"), str):
            raise BadMessage(f"a part of type {given.get('type')!r} in content: the policy reads text alone")
        parts.append(_checked(given["text"]))
    return "\n".join(parts)


def _checked(text: str) -> str:
    try:
        strict_json.check_text(text)
    except ValueError as error:
        raise BadMessage(f"content: {error}") from error
    return text


def _call(one: object) -> ChatCall:
    function = _plain(_plain(one).get("function", {}))
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise BadMessage("a tool call without the name of its function")
    try:
        value = strict_json.loads(arguments or "{}") if isinstance(arguments, str | None) else arguments
    except ValueError as error:
        raise BadMessage(f"arguments of the call of {name} are no JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise BadMessage(f"arguments of the call of {name} are {type(value).__name__}, not an object")
    return {"type": "function", "function": {"name": name, "arguments": dict(value)}}
