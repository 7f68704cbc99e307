"""Agents: what speaks for the assistant in an episode.

Those without tokens are here: `ScriptedAgent` plays a list of messages (gold, do-nothing, transfer-only),
`CallableAgent` asks a function (the bundled domain's teacher). The policy itself is `token_agent.TokenAgent`;
`api_agent` has those of foreign servers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, cast

from slime_tau2 import bench
from slime_tau2.ledger import TokenLedger
from slime_tau2.record import MessageRecord
from slime_tau2.terminations import Termination
from slime_tau2.types import Reply


@dataclass(frozen=True)
class AgentAction:
    """What an agent does on its turn.

    Attributes:
        message: what it says or calls; None where there is nothing to send.
        termination: the episode ends here, in this way, and `message` is not sent.
        detail: why it ends.
        text: what was sampled, as text.
        segment: the segment that holds its tokens.
        start, end: its tokens in that segment's response; equal without tokens.
        thought: where the thoughts at its beginning end; `start` without any.
        malformed: calls among it that could not be parsed.
        finish_reason: why sampling stopped: `stop`, `length` or `abort`.
        weight_versions: one per request, of the weights that sampled it.
        replies: one per request, what the server answered.
        last: `message` is sent and ends the episode.
        spans: the tokens of each call of `message` in the segment's response, [start, end); none without tokens.
    """

    message: bench.AssistantMessage | None
    _: KW_ONLY
    termination: Termination | None = None
    detail: str = ""
    text: str = ""
    segment: int = 0
    start: int = 0
    end: int = 0
    thought: int = 0
    malformed: int = 0
    finish_reason: str = "stop"
    weight_versions: tuple[str, ...] = ()
    replies: tuple[Reply, ...] = ()
    last: bool = False
    spans: tuple[tuple[int, int], ...] = ()


class Agent(Protocol):
    """Awaited by the driver whenever tau2's next receiver is the agent."""

    @property
    def segments(self) -> Sequence[TokenLedger]:
        """Its token record (`episode.segments`); none where it has no tokens."""

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        """What the agent does now.

        Args:
            history: tau2's trajectory so far.
            message: what is addressed to the agent: the user's words, or tool results.
        """


class ScriptedAgent:
    """Plays a list of messages; the last one repeats."""

    segments: Sequence[TokenLedger] = ()

    def __init__(self, script: Sequence[bench.AssistantMessage]):
        self._script = script
        self._turn = 0

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        planned = self._script[min(self._turn, len(self._script) - 1)]
        self._turn += 1
        fresh = bench.AssistantMessage(
            role="assistant", content=planned.content, tool_calls=copy.deepcopy(planned.tool_calls), cost=0.0
        )
        return AgentAction(fresh, text=planned.content or "")


class CallableAgent:
    """Speaks through `reply(text, is_error)`, where text is what the agent has just read (the teacher's interface)."""

    segments: Sequence[TokenLedger] = ()

    def __init__(self, reply: Callable[[str, bool], bench.AssistantMessage]):
        self._reply = reply

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        delivered = parts(message)
        text = "\n".join(part.content or "" for part in delivered)
        reply = self._reply(text, any(isinstance(part, bench.ToolMessage) and part.error for part in delivered))
        return AgentAction(reply, text=reply.content or "")


def parts(message: bench.Delivered) -> list[bench.Message]:
    """The messages of one delivery: several tool results come as one."""
    return list(message.tool_messages) if isinstance(message, bench.MultiToolMessage) else [message]


def as_json(messages: Iterable[bench.Message]) -> list[MessageRecord]:
    """tau2's messages as JSON, as far as an agent hears them."""
    return [cast(MessageRecord, _heard(message)) for message in messages]


def _heard(message: bench.Message) -> dict[str, Any]:
    if isinstance(message, bench.ToolMessage):
        return {"role": message.role, "content": message.content, "requestor": message.requestor}
    calls = message.tool_calls
    called = calls if calls is None else [call.model_dump() for call in calls]
    return {"role": message.role, "content": message.content, "tool_calls": called}
