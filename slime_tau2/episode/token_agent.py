"""The policy as an agent: one call a turn, in the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slime_tau2 import bench
from slime_tau2.episode.agents import AgentAction, as_json, parts
from slime_tau2.episode.chat import ChatMessage
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.recorder import Recorder, acted
from slime_tau2.ledger import TokenLedger
from slime_tau2.terminations import Termination


@dataclass(kw_only=True)
class TokenAgent:
    """The policy."""

    recorder: Recorder
    system_prompt: str
    protocol: Native = PROTOCOLS["native"]

    def __post_init__(self) -> None:
        self._record = self.recorder.conversation()

    @property
    def segments(self) -> Sequence[TokenLedger]:
        return self.recorder.segments

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        sampled = await self.recorder.call(self._record, self._heard(history, message))
        text = sampled.text
        if sampled.ended is not None:
            return acted([sampled], None, text=text, termination=sampled.ended, detail=sampled.detail)
        turn = self.protocol.read(self._record.chat.opening + text)
        if turn.message is None:
            return acted([sampled], None, text=text, termination=Termination.AGENT_ERROR, detail="an empty turn")
        spans = self.recorder.spans(sampled, turn)
        return acted([sampled], turn.message, text=text, malformed=turn.malformed, last=turn.last, spans=spans)

    def _heard(self, history: Sequence[bench.Message], message: bench.Delivered) -> list[ChatMessage]:
        """What the policy reads before this turn; before the first, the prompt too."""
        if self.segments:
            return self.protocol.chat(as_json(parts(message)))
        return [{"role": "system", "content": self.system_prompt}, *self.protocol.chat(as_json(history))]
