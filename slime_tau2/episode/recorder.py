"""The policy's side of one episode: each call's ids are sent and sampled, and recorded in segments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from slime_tau2 import bench
from slime_tau2.episode import thoughts, toolcalls, usage
from slime_tau2.episode.agents import AgentAction
from slime_tau2.episode.chat import ChatMessage, ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import AgentTurn
from slime_tau2.episode.segments import Segments
from slime_tau2.errors import PolicyAborted
from slime_tau2.ledger import TokenLedger
from slime_tau2.seeds import derive_seed
from slime_tau2.terminations import Termination
from slime_tau2.types import Reply

MAX_INTERRUPTIONS = 64
"""Aborted requests within one call before the episode is given up (about two minutes of a server that aborts
everything).
"""


@dataclass(kw_only=True)
class Sampled:
    """What one call sampled.

    Attributes:
        number: of the call in its episode.
        record: the conversation that it belongs to.
        segment: the segment that holds it.
        start: where its ids begin in that segment's response.
        ids: the token that ended it included, and what was put between them in the policy's stead.
        parts: the same piece by piece, as `Segments.say` takes them.
        text: without the token that ended it.
        thought: where the thoughts at its beginning end in the segment's response; `start` without any.
        finish_reason: `stop`, `length` or `abort`.
        versions: one per request, of the weights that sampled it.
        replies: one per request, what the server answered.
        trained: whether its ids are for training.
        ended: the episode ends with this call, in this way; None where it goes on.
        detail: why it ends.
    """

    number: int
    record: Segments = field(repr=False)
    segment: int
    start: int
    ids: list[int] = field(default_factory=list)
    parts: list[tuple[list[int], list[float] | None]] = field(default_factory=list)
    text: str = ""
    thought: int = 0
    versions: list[str] = field(default_factory=list)
    finish_reason: str = "stop"
    replies: list[Reply] = field(default_factory=list)
    trained: bool = True
    ended: Termination | None = None
    detail: str = ""

    @property
    def end(self) -> int:
        return self.start + len(self.ids)

    def add(self, ids: list[int], log_probs: list[float], meta: dict[str, Any]) -> None:
        """Take one reply of the server."""
        self.replies.append(
            Reply(
                start=self.end,
                end=self.end + len(ids),
                meta=meta,
                segment=self.segment,
                call=self.number,
                trained=self.trained,
            )
        )
        self.put(ids, log_probs if self.trained else None)
        if meta.get("weight_version") is not None:
            self.versions.append(str(meta["weight_version"]))

    def put(self, ids: list[int], log_probs: list[float] | None = None) -> None:
        """Take ids; without log-probs they train nothing."""
        self.ids += ids
        self.parts.append((ids, log_probs))


@dataclass(kw_only=True)
class Recorder:
    """The policy, call by call. One call at a time.

    Attributes:
        sampling: parameters that go to the server.
        max_turn_tokens: bounds one call.
        max_thinking_tokens: bounds the thoughts of one call; 0: nothing does but the call's bound.
        cut_thoughts: what becomes of a call whose thoughts reach that bound: `close` ends them, untrained, and the call
            goes on; `length` ends the episode.
        max_response_tokens: bounds the episode after its prompts.
        max_context_tokens: bounds prompt and response together.
        stop_at_tool_call: stop sampling at `</tool_call>`.
        seed: from which the sampling of each call derives; None leaves it to the server.
        routing_key: the same for all requests of the episode, for a router in front of several servers.
        aborted: whether the rollout itself was aborted.
        routed_experts: ask for the experts of each token.

    A request that the server aborts while `aborted()` is False was cut by a weight update: the ids sampled so far are
    kept with their log-probs, and the same call goes on behind them. Where it is True the rollout itself was aborted,
    and the episode ends.

    What a call sampled enters its segment whole, when it has ended: one that a failure or the episode's deadline cuts
    leaves nothing there.

    With `routed_experts` (a mixture of experts whose routing the trainer replays) each request asks for the experts of
    the tokens that no earlier one of its segment has told of, so that the answers add up to one row per token.
    """

    client: PolicyClient
    chat: ChatRenderer
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
    routed_experts: bool = False
    calls: int = field(default=0, init=False)
    segments: list[TokenLedger] = field(default_factory=list, init=False)
    _experts_known: dict[int, int] = field(default_factory=dict, init=False, repr=False)  # tokens, by segment

    def conversation(self, chat: ChatRenderer | None = None) -> Segments:
        """A conversation whose calls this records."""
        return Segments(chat or self.chat, self.segments)

    async def call(
        self,
        record: Segments,
        new: Sequence[ChatMessage],
        *,
        limit: int | None = None,
        trained: bool = True,
        deliver: Callable[[Sampled], Awaitable[None]] | None = None,
    ) -> Sampled:
        """Send what is new behind what there is, and sample.

        Args:
            record: the conversation.
            new: what the policy reads now: the whole prompt in the first call, then what was said since the last one;
                nothing where the last one failed and is made again.
            limit: a bound of the caller's own on this call, in tokens. One that it cuts is closed, untrained, and the
                episode goes on.
            trained: False records what was sampled as the policy's past, and trains nothing of it.
            deliver: awaited before what was sampled is recorded; where it raises, nothing of it is.

        Raises:
            PolicyError: the server failed for good; the segment then ends with `new`.
        """
        ledger = record.hear(new) if new else record.open
        assert record.number is not None, "something was heard"
        sampled = Sampled(
            number=self.calls,
            record=record,
            segment=record.number,
            start=ledger.response_length,
            thought=ledger.response_length,
            trained=trained,
        )
        taken = sum(one.response_length for one in self.segments)
        left = min(self.max_response_tokens - taken, self.max_context_tokens - len(ledger) - 1)
        if left <= 0:
            sampled.ended = Termination.CONTEXT_OVERFLOW
            sampled.detail = f"{len(ledger)} tokens fill the episode's budget"
            return sampled
        allowed = min(self.max_turn_tokens, left)
        await self._sample(sampled, ledger, allowed if limit is None else min(limit, allowed))
        self._read(sampled)
        if sampled.finish_reason == "abort":
            sampled.ended = Termination.ABORTED
        elif sampled.finish_reason == "length" and (sampled.detail or limit is None or limit >= allowed):
            full = left <= self.max_turn_tokens and not sampled.detail
            sampled.ended = Termination.CONTEXT_OVERFLOW if full else Termination.LENGTH
            sampled.detail = sampled.detail or f"{len(sampled.ids)} tokens without an end of turn"
        if deliver is not None:
            await deliver(sampled)
        record.say(sampled.parts, sampled.text)
        usage.think("policy", thoughts.split(record.chat.opening + sampled.text)[0])
        if sampled.ended is None and sampled.ids[-1] not in record.chat.ends:
            record.close()
        return sampled

    def _read(self, sampled: Sampled) -> None:
        """The text of what was sampled, and which of its ids are thoughts."""
        chat = sampled.record.chat
        ended = bool(sampled.ids) and sampled.ids[-1] in chat.ends
        sampled.text = chat.decode(sampled.ids[:-1] if ended else sampled.ids)
        thought = chat.thought_length(sampled.ids, sampled.text)
        if thought:
            sampled.thought += thought
            sampled.replies = [replace(reply, thought=sampled.thought) for reply in sampled.replies]

    def spans(self, sampled: Sampled, turn: AgentTurn) -> tuple[tuple[int, int], ...]:
        """The ids of each tool call that `turn` reads in what was sampled, [start, end) in its segment's response."""
        chat = sampled.record.chat
        opened = len(chat.opening)  # the template said it, no id of the turn did
        pieces = [(start - opened, end - opened) for start, end in turn.spans]
        found = chat.token_spans.find(sampled.ids, sampled.text, pieces)
        return tuple((sampled.start + first, sampled.start + end) for first, end in found)

    async def _sample(self, sampled: Sampled, ledger: TokenLedger, budget: int) -> None:
        """Sample at most `budget` tokens behind the ledger's, over the weight updates that cut the call and the bound
        on its thoughts.
        """
        params = dict(self.sampling)
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
                params["sampling_seed"] = derive_seed(self.seed, self.calls, *([attempt] if attempt else []))
            try:
                out = await self.client.generate(
                    ledger.ids_json(sampled.ids), params, self.routing_key, self._more(sampled)
                )
            except PolicyAborted as cut:
                sampled.add(cut.token_ids, cut.log_probs, cut.meta)
                self._note_experts(cut.meta, sampled, ledger)
                sampled.finish_reason, sampled.detail = "abort", str(cut)
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
            self._note_experts(out.meta, sampled, ledger)
            sampled.finish_reason, sampled.detail = out.finish_reason, ""
            if out.finish_reason != "length" or not bound <= len(sampled.ids) < budget:
                break
        self.calls += 1

    def _thought_goes_on(self, sampled: Sampled, budget: int) -> bool:
        """Whether a call that has used up what its thoughts may take goes on; a thought is closed for that."""
        chat = sampled.record.chat
        if not thoughts.unfinished(chat.opening + chat.decode(sampled.ids)):
            return True
        closing = chat.encode(thoughts.CUT)
        if self.cut_thoughts == "length" or len(sampled.ids) + len(closing) >= budget:
            sampled.finish_reason, sampled.detail = "length", f"{len(sampled.ids)} tokens of thoughts without an end"
            return False
        sampled.put(closing)
        return True

    def _more(self, sampled: Sampled) -> dict[str, Any]:
        if not self.routed_experts:
            return {}
        return {"return_routed_experts": True, "routed_experts_start_len": self._experts_known.get(sampled.segment, 0)}

    def _note_experts(self, meta: dict[str, Any], sampled: Sampled, ledger: TokenLedger) -> None:
        if meta.get("routed_experts") is not None:  # the last token has not been through the model
            self._experts_known[sampled.segment] = len(ledger) + len(sampled.ids) - 1


def acted(
    calls: Sequence[Sampled],
    message: bench.AssistantMessage | None,
    *,
    text: str,
    termination: Termination | None = None,
    detail: str = "",
    malformed: int = 0,
    last: bool = False,
    spans: Sequence[tuple[int, int]] = (),
) -> AgentAction:
    """What an agent does after the calls of a turn, of which there is at least one. Its place is what they sampled in
    the segment of the last.
    """
    here = [call for call in calls if call.segment == calls[-1].segment]
    return AgentAction(
        message,
        termination=termination,
        detail=detail,
        text=text,
        segment=here[0].segment,
        start=here[0].start,
        end=here[-1].end,
        thought=here[0].thought,
        malformed=malformed,
        finish_reason=calls[-1].finish_reason,
        weight_versions=tuple(version for call in calls for version in call.versions),
        replies=tuple(reply for call in calls for reply in call.replies),
        last=last,
        spans=tuple(spans),
    )
