"""The policy as an agent: token ids through a server, recorded in a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import toolcalls
from slime_tau2.episode.agents import AgentAction, as_json, parts
from slime_tau2.episode.chat import ChatMessage, ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.errors import PolicyAborted
from slime_tau2.ledger import Ids, TokenLedger
from slime_tau2.seeds import derive_seed
from slime_tau2.terminations import Termination
from slime_tau2.types import Reply

MAX_INTERRUPTIONS = 64
"""Aborted requests within one turn before the episode is given up (about two minutes of a server that aborts
everything).
"""


@dataclass(kw_only=True)
class _Sampled:
    """What one turn sampled so far."""

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    finish_reason: str = "stop"
    detail: str = ""
    replies: list[Reply] = field(default_factory=list)

    def add(self, start: int, ids: list[int], log_probs: list[float], meta: dict[str, Any]) -> None:
        """Take one reply; `start` is where the turn starts in the response."""
        self.replies.append(Reply(start + len(self.ids), start + len(self.ids) + len(ids), meta))
        self.ids += ids
        self.log_probs += log_probs
        if meta.get("weight_version") is not None:
            self.versions.append(str(meta["weight_version"]))


@dataclass(kw_only=True)
class TokenAgent:
    """The policy.

    Attributes:
        sampling: parameters that go to the server.
        max_turn_tokens: bounds one turn.
        max_response_tokens: bounds the episode after its prompt.
        max_context_tokens: bounds prompt and response together.
        stop_at_tool_call: stop sampling at `</tool_call>`.
        seed: from which the sampling of each turn derives; None leaves it to the server.
        routing_key: the same for all requests of the episode, for a router in front of several servers.
        aborted: whether the rollout itself was aborted.
        routed_experts: ask for the experts of each token.

    A request that the server aborts while `aborted()` is False was cut by a weight update: the ids sampled so far are
    kept with their log-probs, and the same turn goes on behind them. Where it is True the rollout itself was aborted,
    and the episode ends.

    A turn enters the ledger whole, when it has ended: one that a failure or the episode's deadline cuts leaves nothing
    there, so that the ledger's spans always are the episode's turns.

    With `routed_experts` (a mixture of experts whose routing the trainer replays) each request asks for the experts of
    the tokens that no earlier one has told of, so that the answers of an episode add up to one row per token.
    """

    client: PolicyClient
    chat: ChatRenderer
    system_prompt: str
    sampling: Mapping[str, Any]
    max_turn_tokens: int
    max_response_tokens: int
    max_context_tokens: int
    stop_at_tool_call: bool = False
    seed: int | None = None
    routing_key: str | None = None
    aborted: Callable[[], bool] = lambda: False
    protocol: Native = PROTOCOLS["native"]
    routed_experts: bool = False
    ledger: TokenLedger | None = field(default=None, init=False)
    turn: int = field(default=0, init=False)
    _experts_known: int = field(default=0, init=False, repr=False)  # tokens whose experts are known

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        ledger = self._read(history, message)
        start = ledger.response_length
        left = min(self.max_response_tokens - start, self.max_context_tokens - len(ledger) - 1)
        if left <= 0:
            return AgentAction(
                None,
                termination=Termination.CONTEXT_OVERFLOW,
                detail=f"{len(ledger)} tokens fill the episode's budget",
                start=start,
                end=start,
            )
        sampled = await self._sample(ledger, min(self.max_turn_tokens, left))
        ledger.append_sampled(sampled.ids, sampled.log_probs)
        text = self._text(sampled)

        def action(
            message: bench.AssistantMessage | None,
            termination: Termination | None = None,
            detail: str = "",
            *,
            malformed: int = 0,
            last: bool = False,
            spans: Sequence[tuple[int, int]] = (),
        ) -> AgentAction:
            return AgentAction(
                message,
                termination=termination,
                detail=detail,
                text=text,
                start=start,
                end=start + len(sampled.ids),
                malformed=malformed,
                finish_reason=sampled.finish_reason,
                weight_versions=tuple(sampled.versions),
                replies=tuple(sampled.replies),
                last=last,
                spans=tuple((start + first, start + end) for first, end in spans),
            )

        if sampled.finish_reason == "abort":
            return action(None, Termination.ABORTED, sampled.detail)
        if sampled.finish_reason == "length":
            over = Termination.CONTEXT_OVERFLOW if left <= self.max_turn_tokens else Termination.LENGTH
            return action(None, over, f"{len(sampled.ids)} tokens without an end of turn")
        if sampled.ids[-1] != self.chat.end_of_turn:  # stopped at </tool_call>: the template closes the turn, untrained
            ledger.append_context(Ids.of([self.chat.end_of_turn]))
        turn = self.protocol.read(self.chat.opening + text)
        if turn.message is None:
            return action(None, Termination.AGENT_ERROR, "an empty turn")
        opened = len(self.chat.opening)  # the template said it, no id of the turn did
        spans = self.chat.token_spans.find(sampled.ids, text, [(a - opened, b - opened) for a, b in turn.spans])
        return action(turn.message, malformed=turn.malformed, last=turn.last, spans=spans)

    def _read(self, history: Sequence[bench.Message], message: bench.Delivered) -> TokenLedger:
        """Append what is new to the ledger; the first turn begins it with the prompt."""
        if self.ledger is None:
            system: ChatMessage = {"role": "system", "content": self.system_prompt}
            self.ledger = TokenLedger(self.chat.prompt([system, *self.protocol.chat(as_json(history))]))
        else:
            self.ledger.append_context(self.chat.delta(self.protocol.chat(as_json(parts(message)))))
        return self.ledger

    def _text(self, sampled: _Sampled) -> str:
        """What was sampled, as text, without the token that ended it."""
        ended = sampled.ids[-1:] == [self.chat.end_of_turn]
        return self.chat.decode(sampled.ids[:-1] if ended else sampled.ids)

    async def _sample(self, ledger: TokenLedger, budget: int) -> _Sampled:
        """Sample one turn of at most `budget` tokens behind the ledger's, over the weight updates that cut it."""
        sampled, params, start = _Sampled(), dict(self.sampling), ledger.response_length
        if self.stop_at_tool_call:
            params["stop_token_ids"] = [self.chat.tokenizer.convert_tokens_to_ids(toolcalls.CLOSE)]
        for attempt in range(MAX_INTERRUPTIONS):
            params["max_new_tokens"] = budget - len(sampled.ids)
            if self.seed is not None:
                params["sampling_seed"] = derive_seed(self.seed, self.turn, *([attempt] if attempt else []))
            try:
                out = await self.client.generate(ledger.ids_json(sampled.ids), params, self.routing_key, self._more())
            except PolicyAborted as cut:
                sampled.add(start, cut.token_ids, cut.log_probs, cut.meta)
                self._note_experts(cut.meta, len(ledger) + len(sampled.ids))
                sampled.finish_reason = "abort"
                sampled.detail = str(cut)
                if self.aborted():
                    break
                if len(sampled.ids) >= budget:
                    sampled.finish_reason = "length"
                    break
                await asyncio.sleep(min(0.05 * 2**attempt, 2.0))  # the server is loading weights
                if self.aborted():
                    break
                continue
            sampled.add(start, out.ids, out.log_probs, out.meta)
            self._note_experts(out.meta, len(ledger) + len(sampled.ids))
            sampled.finish_reason = out.finish_reason
            break
        self.turn += 1
        return sampled

    def _more(self) -> dict[str, Any]:
        if not self.routed_experts:
            return {}
        return {"return_routed_experts": True, "routed_experts_start_len": self._experts_known}

    def _note_experts(self, meta: dict[str, Any], tokens: int) -> None:
        if meta.get("routed_experts") is not None:
            self._experts_known = tokens - 1  # the last token has not been through the model
