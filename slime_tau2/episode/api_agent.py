"""Agents behind an OpenAI-compatible server: a teacher whose traces are collected, or a model that is only evaluated.

`ApiAgent` speaks through chat completions with the domain's tools, `TextApiAgent` in texts alone, by a protocol that
needs no more. There are no tokens to train on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import api_messages
from slime_tau2.episode.agents import AgentAction, as_json
from slime_tau2.episode.chat import ChatMessage
from slime_tau2.episode.openai_chat import ChatClient, ChatReply, message_bytes, policy_reply
from slime_tau2.episode.protocols import Native
from slime_tau2.errors import PolicyError
from slime_tau2.ledger import TokenLedger
from slime_tau2.terminations import Termination


class ApiAgent:
    """One conversation. Each message is serialised when it is first seen."""

    segments: Sequence[TokenLedger] = ()

    def __init__(
        self,
        client: ChatClient,
        *,
        system_prompt: str,
        tools: bytes | None,
        seed: int,
        routing_key: str | None = None,
    ):
        self.client = client
        self.tools = tools
        self.seed = seed
        self.routing_key = routing_key
        self._seen = 0
        self.messages: list[bytes] = []
        self._hears({"role": "system", "content": system_prompt})

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        for heard in api_messages.heard(history[self._seen :]):
            self._hears(heard)
        self._seen = len(history)
        reply = await _asked(self.client, self.messages, self.tools, self.seed, self.routing_key)
        if isinstance(reply, AgentAction):
            return reply
        calls = [bench.ToolCall(name=name, arguments=arguments) for name, arguments in reply.calls]
        answer = bench.AssistantMessage(role="assistant", content=reply.text, tool_calls=calls or None, cost=0.0)
        return AgentAction(answer, text=reply.text or "", malformed=reply.malformed)

    def _hears(self, message: dict[str, Any]) -> None:
        self.messages.append(message_bytes(message))


class TextApiAgent:
    """One conversation in texts: the protocol makes them of tau2's messages, and reads the reply."""

    segments: Sequence[TokenLedger] = ()

    def __init__(
        self,
        client: ChatClient,
        *,
        system_prompt: str,
        protocol: Native,
        seed: int,
        routing_key: str | None = None,
    ):
        self.client = client
        self.protocol = protocol
        self.seed = seed
        self.routing_key = routing_key
        self.messages: list[ChatMessage] = [{"role": "system", "content": system_prompt}]
        self._seen = 0

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        fresh = list(history[self._seen :])
        if self._seen > 0:  # from now on the assistant's words are ours, and kept as they were said
            fresh = [m for m in fresh if not isinstance(m, bench.AssistantMessage)]
        self.messages += self.protocol.chat(as_json(fresh))
        self._seen = len(history)
        sent = [message_bytes(m) for m in self.messages]
        reply = await _asked(self.client, sent, None, self.seed, self.routing_key)
        if isinstance(reply, AgentAction):
            return reply
        text = reply.text or ""
        self.messages.append({"role": "assistant", "content": text})
        turn = self.protocol.read(text)
        if turn.message is None:
            return AgentAction(None, termination=Termination.AGENT_ERROR, detail="an empty turn", text=text)
        return AgentAction(turn.message, text=text, malformed=turn.malformed, last=turn.last)


TOO_LONG = re.compile(r"context[_ ](length|window)|maximum context", re.IGNORECASE)
"""How OpenAI, vLLM and SGLang say, with HTTP 400, that a conversation is longer than the model's context."""


async def _asked(
    client: ChatClient, messages: list[bytes], tools: bytes | None, seed: int, routing_key: str | None
) -> ChatReply | AgentAction:
    """What the policy says, or how it ends the episode: scored as with tokens, never left out like a server's fault."""
    try:
        reply = await client.complete(messages, tools, seed, routing_key=routing_key, read=policy_reply)
    except PolicyError as error:
        if error.kind == "http_400" and TOO_LONG.search(str(error)):
            return AgentAction(
                None, termination=Termination.CONTEXT_OVERFLOW, detail=str(error), finish_reason="length"
            )
        raise
    if reply.finish_reason == "length":
        return AgentAction(
            None,
            termination=Termination.LENGTH,
            detail="the server's limit on a reply",
            text=reply.text or "",
            finish_reason="length",
        )
    if reply.text is None and not reply.calls:
        return AgentAction(None, termination=Termination.AGENT_ERROR, detail="an empty turn")
    return reply
