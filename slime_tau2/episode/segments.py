"""The token record of one conversation with the policy as it is made: one ledger, or several segments. An episode is
one conversation, unless an agent of one's own holds several.

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
    """One conversation's.

    Args:
        ledgers: the segments of all conversations of the episode, in order of their beginnings; those of this one are
            added to it.

    Attributes:
        number: of this conversation's open segment in `ledgers`; None before the first.
    """

    def __init__(self, chat: ChatRenderer, ledgers: list[TokenLedger] | None = None):
        self.chat = chat
        self.ledgers: list[TokenLedger] = [] if ledgers is None else ledgers
        self.number: int | None = None
        self._conversation: list[ChatMessage] = []  # where history is rewritten: all of it, as it was said
        self._written = ""  # and the text of the last ledger

    def hear(self, messages: Sequence[ChatMessage]) -> TokenLedger:
        """What the policy reads before its next turn; returns the ledger that the turn belongs to."""
        if not self.chat.keeps_history:
            return self._rendered_whole(messages)
        if self.number is None:
            self._begin(self.chat.prompt(messages))
        else:
            self.open.append_context(self.chat.delta(messages))
        return self.open

    @property
    def open(self) -> TokenLedger:
        """The segment to which what follows is appended."""
        assert self.number is not None, "something was heard"
        return self.ledgers[self.number]

    def say(self, parts: Sequence[tuple[list[int], list[float] | None]], words: str) -> None:
        """The turn that followed.

        Args:
            parts: ids and their log-probs in order; None for ids that were not sampled.
            words: the turn's text, without what ended it.
        """
        ledger = self.open
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
            self.open.append_context(Ids.of(self.chat.ends))
            self._written += self.chat.decode(self.chat.ends)

    def _rendered_whole(self, messages: Sequence[ChatMessage]) -> TokenLedger:
        chat = self.chat
        self._conversation += messages
        text = chat.render(self._conversation, chat.tools, True)
        if self.number is not None and text.startswith(self._written):
            self.open.append_context(Ids.of(chat.encode(text[len(self._written) :])))
        else:
            self._begin(chat.whole(text))
        self._written = text
        return self.open

    def _begin(self, prompt: Ids) -> None:
        kept = _common(self.ledgers[-1].columns().ids, prompt.values) if self.ledgers else 0
        self.ledgers.append(TokenLedger(prompt, kept=kept))
        self.number = len(self.ledgers) - 1


def _common(before: Sequence[int], after: Sequence[int]) -> int:
    """How many ids the two begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after)))
