"""The policy's side of one episode: each call's ids are sent and sampled, and recorded in one ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import toolcalls
from slime_tau2.episode.agents import AgentAction
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import AgentTurn
from slime_tau2.errors import PolicyAborted
from slime_tau2.ledger import Ids, TokenLedger
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
        start: where its ids begin in the ledger's response.
        ids: the token that ended it included.
        finish_reason: `stop`, `length` or `abort`.
        versions: one per request, of the weights that sampled it.
        replies: one per request, what the server answered.
        trained: whether its ids are for training.
        ended: the episode ends with this call, in this way; None where it goes on.
        detail: why it ends.
    """

    start: int
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
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
        self.replies.append(Reply(self.end, self.end + len(ids), meta, self.trained))
        self.ids += ids
        self.log_probs += log_probs
        if meta.get("weight_version") is not None:
            self.versions.append(str(meta["weight_version"]))


@dataclass(kw_only=True)
class Recorder:
    """The policy, call by call. One call at a time.

    Attributes:
        sampling: parameters that go to the server.
        max_turn_tokens: bounds one call.
        max_response_tokens: bounds the episode after its prompt.
        max_context_tokens: bounds prompt and response together.
        stop_at_tool_call: stop sampling at `</tool_call>`.
        seed: from which the sampling of each call derives; None leaves it to the server.
        routing_key: the same for all requests of the episode, for a router in front of several servers.
        aborted: whether the rollout itself was aborted.
        routed_experts: ask for the experts of each token.

    A request that the server aborts while `aborted()` is False was cut by a weight update: the ids sampled so far are
    kept with their log-probs, and the same call goes on behind them. Where it is True the rollout itself was aborted,
    and the episode ends.

    What a call sampled enters the ledger whole, when it has ended: one that a failure or the episode's deadline cuts
    leaves nothing there, so that the ledger's spans always are whole calls, those that train.

    With `routed_experts` (a mixture of experts whose routing the trainer replays) each request asks for the experts of
    the tokens that no earlier one has told of, so that the answers of an episode add up to one row per token.
    """

    client: PolicyClient
    chat: ChatRenderer
    sampling: Mapping[str, Any]
    max_turn_tokens: int
    max_response_tokens: int
    max_context_tokens: int
    stop_at_tool_call: bool = False
    seed: int | None = None
    routing_key: str | None = None
    aborted: Callable[[], bool] = lambda: False
    routed_experts: bool = False
    ledger: TokenLedger | None = field(default=None, init=False)
    calls: int = field(default=0, init=False)
    _experts_known: int = field(default=0, init=False, repr=False)  # tokens whose experts are known

    async def call(
        self,
        new: Ids,
        *,
        limit: int | None = None,
        trained: bool = True,
        deliver: Callable[[Sampled], Awaitable[None]] | None = None,
    ) -> Sampled:
        """Send what is new behind what there is, and sample.

        Args:
            new: the ids that the policy reads now: of the whole prompt in the first call, then of what was said since
                the last one.
            limit: a bound of the caller's own on this call, in tokens. One that it cuts is closed, untrained, and the
                episode goes on.
            trained: False records what was sampled as the policy's past, and trains nothing of it.
            deliver: awaited before what was sampled is recorded; where it raises, nothing of it is.

        Raises:
            PolicyError: the server failed for good; the ledger then ends with `new`.
        """
        if self.ledger is None:
            self.ledger = TokenLedger(new)
        else:
            self.ledger.append_context(new)
        ledger = self.ledger
        left = min(self.max_response_tokens - ledger.response_length, self.max_context_tokens - len(ledger) - 1)
        if left <= 0:
            return Sampled(
                start=ledger.response_length,
                ended=Termination.CONTEXT_OVERFLOW,
                detail=f"{len(ledger)} tokens fill the episode's budget",
            )
        allowed = min(self.max_turn_tokens, left)
        sampled = await self._sample(ledger, allowed if limit is None else min(limit, allowed), trained)
        if sampled.finish_reason == "abort":
            sampled.ended = Termination.ABORTED
        elif sampled.finish_reason == "length" and not (limit is not None and limit < allowed):
            sampled.ended = Termination.CONTEXT_OVERFLOW if left <= self.max_turn_tokens else Termination.LENGTH
            sampled.detail = f"{len(sampled.ids)} tokens without an end of turn"
        if deliver is not None:
            await deliver(sampled)
        if trained:
            ledger.append_sampled(sampled.ids, sampled.log_probs)
        else:
            ledger.append_context(Ids.of(sampled.ids))
        if sampled.ended is None and sampled.ids[-1] != self.chat.end_of_turn:
            ledger.append_context(Ids.of([self.chat.end_of_turn]))  # the template closes the turn, untrained
        return sampled

    def text(self, sampled: Sampled) -> str:
        """What was sampled, as text, without the token that ended it."""
        ended = sampled.ids[-1:] == [self.chat.end_of_turn]
        return self.chat.decode(sampled.ids[:-1] if ended else sampled.ids)

    def spans(self, sampled: Sampled, turn: AgentTurn) -> tuple[tuple[int, int], ...]:
        """The ids of each tool call that `turn` reads in what was sampled, [start, end) in the ledger's response."""
        opened = len(self.chat.opening)  # the template said it, no id of the turn did
        pieces = [(start - opened, end - opened) for start, end in turn.spans]
        found = self.chat.token_spans.find(sampled.ids, self.text(sampled), pieces)
        return tuple((sampled.start + first, sampled.start + end) for first, end in found)

    async def _sample(self, ledger: TokenLedger, budget: int, trained: bool) -> Sampled:
        """Sample at most `budget` tokens behind the ledger's, over the weight updates that cut the call."""
        sampled = Sampled(start=ledger.response_length, trained=trained)
        params = dict(self.sampling)
        if self.stop_at_tool_call:
            params["stop_token_ids"] = [self.chat.tokenizer.convert_tokens_to_ids(toolcalls.CLOSE)]
        for attempt in range(MAX_INTERRUPTIONS):
            params["max_new_tokens"] = budget - len(sampled.ids)
            if self.seed is not None:
                params["sampling_seed"] = derive_seed(self.seed, self.calls, *([attempt] if attempt else []))
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
                    sampled.finish_reason = "length"
                    break
                await asyncio.sleep(min(0.05 * 2**attempt, 2.0))  # the server is loading weights
                if self.aborted():
                    break
                continue
            sampled.add(out.ids, out.log_probs, out.meta)
            self._note_experts(out.meta, len(ledger) + len(sampled.ids))
            sampled.finish_reason = out.finish_reason
            break
        self.calls += 1
        return sampled

    def _more(self) -> dict[str, Any]:
        if not self.routed_experts:
            return {}
        return {"return_routed_experts": True, "routed_experts_start_len": self._experts_known}

    def _note_experts(self, meta: dict[str, Any], tokens: int) -> None:
        if meta.get("routed_experts") is not None:
            self._experts_known = tokens - 1  # the last token has not been through the model


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
    """What an agent does after the calls of a turn, of which there is at least one."""
    return AgentAction(
        message,
        termination=termination,
        detail=detail,
        text=text,
        start=calls[0].start,
        end=calls[-1].end,
        malformed=malformed,
        finish_reason=calls[-1].finish_reason,
        weight_versions=tuple(version for call in calls for version in call.versions),
        replies=tuple(reply for call in calls for reply in call.replies),
        last=last,
        spans=tuple(spans),
    )
