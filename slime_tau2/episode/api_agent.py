"""An agent behind an OpenAI-compatible server: a teacher whose traces are collected, or a model that is only evaluated.

It speaks through chat completions with the domain's tools; there are no tokens to train on.
"""

from __future__ import annotations

import json
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.agents import AgentAction
from slime_tau2.episode.ledger import TokenLedger
from slime_tau2.episode.openai_chat import ChatClient


class ApiAgent:
    """One conversation. Each message is serialised when it is first seen."""

    ledger: TokenLedger | None = None

    def __init__(self, client: ChatClient, system_prompt: str, tools: bytes | None, seed: int):
        self.client, self.tools, self.seed, self._seen = client, tools, seed, 0
        self.messages: list[bytes] = []
        self._hears({"role": "system", "content": system_prompt})

    async def act(self, history: list, message: Any) -> AgentAction:
        for one in history[self._seen :]:
            self._reads(one)
        self._seen = len(history)
        reply = await self.client.complete(self.messages, self.tools, self.seed)
        calls = [bench.ToolCall(name=name, arguments=arguments) for name, arguments in reply.calls]
        said = bench.AssistantMessage(role="assistant", content=reply.text, tool_calls=calls or None, cost=0.0)
        return AgentAction(said, text=reply.text or "")

    def _reads(self, message: Any) -> None:
        """What tau2 recorded and the agent may see: the user's own calls and their results are not among it."""
        if isinstance(message, bench.ToolMessage):
            if message.requestor == "assistant":
                self._hears({"role": "tool", "tool_call_id": message.id, "content": message.content or ""})
        elif isinstance(message, bench.AssistantMessage):
            made = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                for c in message.tool_calls or []
            ]
            self._hears({"role": "assistant", "content": message.content, **({"tool_calls": made} if made else {})})
        elif not message.tool_calls:
            self._hears({"role": "user", "content": message.content or ""})

    def _hears(self, message: dict[str, Any]) -> None:
        self.messages.append(json.dumps(message, ensure_ascii=False).encode())
