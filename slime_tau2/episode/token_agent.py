"""The policy as an agent: one call a turn, in the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slime_tau2 import bench
from slime_tau2.episode.agents import AgentAction, as_json, parts
from slime_tau2.episode.chat import ChatMessage
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.recorder import Recorder, acted
from slime_tau2.ledger import Ids, TokenLedger
from slime_tau2.terminations import Termination


@dataclass(kw_only=True)
class TokenAgent:
    """The policy. Its turns are the ledger's spans."""

    recorder: Recorder
    system_prompt: str
    protocol: Native = PROTOCOLS["native"]

    @property
    def ledger(self) -> TokenLedger | None:
        return self.recorder.ledger

    async def act(self, history: Sequence[bench.Message], message: bench.Delivered) -> AgentAction:
        sampled = await self.recorder.call(self._new(history, message))
        text = self.recorder.text(sampled)
        if sampled.ended is not None:
            return acted([sampled], None, text=text, termination=sampled.ended, detail=sampled.detail)
        turn = self.protocol.read(self.recorder.chat.opening + text)
        if turn.message is None:
            return acted([sampled], None, text=text, termination=Termination.AGENT_ERROR, detail="an empty turn")
        spans = self.recorder.spans(sampled, turn)
        return acted([sampled], turn.message, text=text, malformed=turn.malformed, last=turn.last, spans=spans)

    def _new(self, history: Sequence[bench.Message], message: bench.Delivered) -> Ids:
        """The ids of what is new; the first turn begins with the prompt."""
        chat = self.recorder.chat
        if self.ledger is None:
            system: ChatMessage = {"role": "system", "content": self.system_prompt}
            return chat.prompt([system, *self.protocol.chat(as_json(history))])
        return chat.delta(self.protocol.chat(as_json(parts(message))))
