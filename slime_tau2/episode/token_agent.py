"""The policy as an agent: token ids through a server, recorded in segments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from slime_tau2 import bench
from slime_tau2.episode import thoughts, toolcalls, usage
from slime_tau2.episode.agents import AgentAction, as_json, parts
from slime_tau2.episode.chat import ChatMessage, ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.segments import Segments
from slime_tau2.errors import PolicyAborted
from slime_tau2.ledger import TokenLedger
from slime_tau2.seeds import derive_seed
from slime_tau2.terminations import Termination
from slime_tau2.types import Reply

MAX_INTERRUPTIONS = 64
"""Aborted requests within one turn before the episode is given up (about two minutes of a server that aborts
everything).
"""


@dataclass(kw_only=True)
class _Sampled:
    """What one turn of a segment has so far; `parts` are its ids piece by piece, as `Segments.say` takes them."""

    segment: int
    start: int
    ids: list[int] = field(default_factory=list)
    parts: list[tuple[list[int], list[float] | None]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    finish_reason: str = "stop"
    detail: str = ""
    replies: list[Reply] = field(default_factory=list)

    def add(self, ids: list[int], log_probs: list[float], meta: dict[str, Any]) -> None:
        """Take one reply."""
        at = self.start + len(self.ids)
        self.replies.append(Reply(at, at + len(ids), meta, self.segment))
        self.ids += ids
        self.parts.append((ids, log_probs))
        if meta.get("weight_version") is not None:
            self.versions.append(str(meta["weight_version"]))

    def put(self, ids: list[int]) -> None:
        """Take ids that the policy did not sample."""
        self.ids += ids
        self.parts.append((ids, None))


@dataclass(kw_only=True)
class TokenAgent:
    """The policy.

    Attributes:
        sampling: parameters that go to the server.
        max_turn_tokens: bounds one turn.
        max_thinking_tokens: bounds the thoughts of one turn; 0: nothing does but the turn's bound.
        cut_thoughts: what becomes of a turn whose thoughts reach that bound: `close` ends them, untrained, and the turn
            goes on; `length` ends the episode.
        max_response_tokens: bounds the episode after its prompts.
        max_context_tokens: bounds prompt and response together.
        stop_at_tool_call: stop sampling at `</tool_call>`.
        seed: from which the sampling of each turn derives; None leaves it to the server.
        routing_key: the same for all requests of the episode, for a router in front of several servers.
        aborted: whether the rollout itself was aborted.
        routed_experts: ask for the experts of each token.

    A request that the server aborts while `aborted()` is False was cut by a weight update: the ids sampled so far are
    kept with their log-probs, and the same turn goes on behind them. Where it is True the rollout itself was aborted,
    and the episode ends.

    A turn enters its segment whole, when it has ended: one that a failure or the episode's deadline cuts leaves nothing
    there.

    With `routed_experts` (a mixture of experts whose routing the trainer replays) each request asks for the experts of
    the tokens that no earlier one of its segment has told of, so that the answers add up to one row per token.
    """

    client: PolicyClient
    chat: ChatRenderer
    system_prompt: str
    sampling: Mapping[str, Any]
    max_turn_tokens: int
    max_response_tokens: int
    max_context_tokens: int
    max_thinking_tokens: int = 0
    cut_thoughts: Literal["close", "length"] = "close"
    stop_at_tool_call: bool = False
    seed: int | None = None
    routing_key: str | None = None
    aborted: Callable[[], bool] = lambda: False
    protocol: Native = PROTOCOLS["native"]
    routed_experts: bool = False
    turn: int = field(default=0, init=False)
    _experts_known: int = field(default=0, init=False, repr=False)  # tokens whose experts are known

    def __post_init__(self) -> None:
        self._record = Segments(self.chat)

    @property
    def segments(self) -> Sequence[TokenLedger]:
        return self._record.ledgers

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        ledger = self._read(history, message)
        segment, start = len(self.segments) - 1, ledger.response_length
        taken = sum(one.response_length for one in self.segments)
        left = min(self.max_response_tokens - taken, self.max_context_tokens - len(ledger) - 1)
        if left <= 0:
            return AgentAction(
                None,
                termination=Termination.CONTEXT_OVERFLOW,
                detail=f"{len(ledger)} tokens fill the episode's budget",
                segment=segment,
                start=start,
                end=start,
                thought=start,
            )
        sampled = await self._sample(ledger, segment, min(self.max_turn_tokens, left))
        text = self._text(sampled)
        self._record.say(sampled.parts, text)
        opened = len(self.chat.opening)  # the template said it, no id of the turn did
        whole = self.chat.opening + text
        thought = start + self._thought(sampled, text, thoughts.length(whole) - opened)
        usage.think("policy", thoughts.split(whole)[0])

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
                segment=segment,
                start=start,
                end=start + len(sampled.ids),
                thought=thought,
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
            full = left <= self.max_turn_tokens and not sampled.detail
            over = Termination.CONTEXT_OVERFLOW if full else Termination.LENGTH
            return action(None, over, sampled.detail or f"{len(sampled.ids)} tokens without an end of turn")
        if sampled.ids[-1] not in self.chat.ends:  # stopped at </tool_call>
            self._record.close()
        turn = self.protocol.read(whole)
        if turn.message is None:
            return action(None, Termination.AGENT_ERROR, "an empty turn")
        spans = self.chat.token_spans.find(sampled.ids, text, [(a - opened, b - opened) for a, b in turn.spans])
        return action(turn.message, malformed=turn.malformed, last=turn.last, spans=spans)

    def _read(self, history: Sequence[bench.Message], message: bench.Delivered) -> TokenLedger:
        """Append what is new to the record; the first turn begins it with the prompt."""
        if self.segments:
            heard = self.protocol.chat(as_json(parts(message)))
        else:
            system: ChatMessage = {"role": "system", "content": self.system_prompt}
            heard = [system, *self.protocol.chat(as_json(history))]
        before, ledger = len(self.segments), self._record.hear(heard)
        if len(self.segments) > before:
            self._experts_known = 0
        return ledger

    def _text(self, sampled: _Sampled) -> str:
        """What was sampled, as text, without the token that ended it."""
        ended = bool(sampled.ids) and sampled.ids[-1] in self.chat.ends
        return self.chat.decode(sampled.ids[:-1] if ended else sampled.ids)

    def _thought(self, sampled: _Sampled, text: str, characters: int) -> int:
        """How many of the turn's ids hold its first characters."""
        if characters <= 0 or not sampled.ids:
            return 0
        return self.chat.token_spans.find(sampled.ids, text, [(0, characters)])[0][1]

    async def _sample(self, ledger: TokenLedger, segment: int, budget: int) -> _Sampled:
        """Sample one turn of at most `budget` tokens behind the ledger's, over the weight updates that cut it and the
        bound on its thoughts.
        """
        sampled, params = _Sampled(segment=segment, start=ledger.response_length), dict(self.sampling)
        bound = min(self.max_thinking_tokens or budget, budget)
        if self.stop_at_tool_call:
            params["stop_token_ids"] = [self.chat.tokenizer.convert_tokens_to_ids(toolcalls.CLOSE)]
        for attempt in range(MAX_INTERRUPTIONS):
            if bound <= len(sampled.ids) < budget:
                bound = budget
                if not self._thought_goes_on(sampled, budget):
                    break
            params["max_new_tokens"] = bound - len(sampled.ids)
            if self.seed is not None:
                params["sampling_seed"] = derive_seed(self.seed, self.turn, *([attempt] if attempt else []))
            try:
                out = await self.client.generate(ledger.ids_json(sampled.ids), params, self.routing_key, self._more())
            except PolicyAborted as cut:
                sampled.add(cut.token_ids, cut.log_probs, cut.meta)
                self._note_experts(cut.meta, len(ledger) + len(sampled.ids))
                sampled.finish_reason = "abort"
                sampled.detail = str(cut)
                if self.aborted():
                    break
                if len(sampled.ids) >= budget:
                    sampled.finish_reason, sampled.detail = "length", ""
                    break
                await asyncio.sleep(min(0.05 * 2**attempt, 2.0))  # the server is loading weights
                if self.aborted():
                    break
                continue
            sampled.add(out.ids, out.log_probs, out.meta)
            self._note_experts(out.meta, len(ledger) + len(sampled.ids))
            sampled.finish_reason, sampled.detail = out.finish_reason, ""
            if out.finish_reason != "length" or not bound <= len(sampled.ids) < budget:
                break
        self.turn += 1
        return sampled

    def _thought_goes_on(self, sampled: _Sampled, budget: int) -> bool:
        """Whether a turn that has used up what its thoughts may take goes on; a thought is closed for that."""
        if not thoughts.unfinished(self.chat.opening + self.chat.decode(sampled.ids)):
            return True
        closing = self.chat.encode(thoughts.CUT)
        if self.cut_thoughts == "length" or len(sampled.ids) + len(closing) >= budget:
            sampled.finish_reason, sampled.detail = "length", f"{len(sampled.ids)} tokens of thoughts without an end"
            return False
        sampled.put(closing)
        return True

    def _more(self) -> dict[str, Any]:
        if not self.routed_experts:
            return {}
        return {"return_routed_experts": True, "routed_experts_start_len": self._experts_known}

    def _note_experts(self, meta: dict[str, Any], tokens: int) -> None:
        if meta.get("routed_experts") is not None:
            self._experts_known = tokens - 1  # the last token has not been through the model
