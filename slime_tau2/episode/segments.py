"""The token record of one episode as it is made: one ledger, or several segments.

A segment is a prompt as the server saw it, and what was sampled behind it. Where the template keeps history the first
one grows to the end. Where it rewrites history, each turn's prompt is what one rendering of the whole conversation
gives; the segment goes on where that text begins with all that it has sent and sampled, and else the next begins.
So there are as few segments as exactness allows.
"""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2.episode.chat import ChatMessage, ChatRenderer
from slime_tau2.ledger import Ids, TokenLedger


class Segments:
    """One episode's.

    Attributes:
        ledgers: in order; the last is open.
    """

    def __init__(self, chat: ChatRenderer):
        self.chat = chat
        self.ledgers: list[TokenLedger] = []
        self._conversation: list[ChatMessage] = []  # where history is rewritten: all of it, as it was said
        self._written = ""  # and the text of the last ledger

    def hear(self, messages: Sequence[ChatMessage]) -> TokenLedger:
        """What the policy reads before its next turn; returns the ledger that the turn belongs to."""
        if not self.chat.keeps_history:
            return self._rendered_whole(messages)
        if self.ledgers:
            self.ledgers[-1].append_context(self.chat.delta(messages))
        else:
            self.ledgers.append(TokenLedger(self.chat.prompt(messages)))
        return self.ledgers[-1]

    def say(self, parts: Sequence[tuple[list[int], list[float] | None]], words: str) -> None:
        """The turn that followed.

        Args:
            parts: ids and their log-probs in order; None for ids that were not sampled.
            words: the turn's text, without what ended it.
        """
        ledger = self.ledgers[-1]
        for ids, log_probs in parts:
            if log_probs is None:
                ledger.append_context(Ids.of(ids))
            else:
                ledger.append_sampled(ids, log_probs)
        if not self.chat.keeps_history:
            self._conversation.append({"role": "assistant", "content": self.chat.opening + words})
            self._written += self.chat.decode([i for ids, _ in parts for i in ids])

    def close(self) -> None:
        """End the turn in the policy's stead, untrained: the server stopped it before it had said its end."""
        if len(self.chat.ends) == 1:  # else the mark is that of whoever speaks next
            self.ledgers[-1].append_context(Ids.of(self.chat.ends))
            self._written += self.chat.decode(self.chat.ends)

    def _rendered_whole(self, messages: Sequence[ChatMessage]) -> TokenLedger:
        chat = self.chat
        self._conversation += messages
        text = chat.render(self._conversation, chat.tools, True)
        if self.ledgers and text.startswith(self._written):
            self.ledgers[-1].append_context(Ids.of(chat.encode(text[len(self._written) :])))
        else:
            prompt = chat.whole(text)
            kept = _common(self.ledgers[-1].tokens, prompt.values) if self.ledgers else 0
            self.ledgers.append(TokenLedger(prompt, kept=kept))
        self._written = text
        return self.ledgers[-1]


def _common(before: Sequence[int], after: Sequence[int]) -> int:
    """How many ids the two begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after)))
