"""Counts token mismatches: does an episode's ledger hold what one rendering of the whole conversation would?

Independent of how the ledger was built: the conversation is rendered in one go by the tokenizer's own template, from
the texts of the turns. Where every sampled turn is what the tokenizer would have written, the ids must be equal; where
the policy sampled another spelling of the same text, the decoded texts must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from slime_tau2.data.traces import until_last_turn
from slime_tau2.episode.chat import AWAITED, END_OF_TURN, ChatMessage, ChatRenderer, ToolSchema
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.ledger import TokenLedger
from slime_tau2.record import MessageRecord
from slime_tau2.types import Episode


def is_mismatch(
    episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native = PROTOCOLS["native"]
) -> bool:
    """True when the ledger differs from the one-shot rendering. Episodes without a ledger have nothing to compare.

    Where an agent of one's own wrote the prompts, the conversation is that of its transcript, and `chat` lends its
    template alone.
    """
    ledger = episode.ledger
    if ledger is None or not episode.turns:
        return False
    if episode.transcript is not None:
        whole = episode.transcript
        read, asked = cast(list[ChatMessage], whole.messages), whole.messages[-1]["role"] != "assistant"
        return _differs(ledger, chat, read, tools=whole.tools, waits=asked, spans=whole.spans)
    last = episode.turns[-1]
    system: ChatMessage = {"role": "system", "content": system_prompt}
    messages = [system, *_as_sampled(episode, chat, protocol)]
    written = chat.tokenizer.decode(ledger.tokens, skip_special_tokens=False)
    waits = ledger.loss_mask[-1:] == [0] and written.endswith(AWAITED + chat.opening)
    if waits or not last.sent:  # a turn that never came, or one that ended the episode
        messages += protocol.chat(_unanswered(episode))
    if not waits and not last.sent:  # a budget used up before the turn leaves a turn in which nothing was sampled
        messages.append({"role": "assistant", "content": chat.opening + last.text})
    return _differs(ledger, chat, messages, tools=chat.tools, waits=waits, spans=ledger.spans())


def _differs(
    ledger: TokenLedger,
    chat: ChatRenderer,
    messages: Sequence[ChatMessage],
    *,
    tools: Sequence[ToolSchema] | None,
    waits: bool,
    spans: Sequence[tuple[int, int]],
) -> bool:
    """Whether the ledger holds something else than the messages, rendered in one go. `spans` are what was sampled."""
    written = chat.tokenizer.decode(ledger.tokens, skip_special_tokens=False)
    whole = chat.render(messages, tools, waits)
    if not whole.startswith(written) or whole[len(written) :] not in ("", "\n", f"{END_OF_TURN}\n"):
        return True

    def encoded(text: str) -> list[int]:
        return list(chat.tokenizer.encode(text, add_special_tokens=False))

    response = ledger.tokens[ledger.prompt_length :]
    sampled = [response[start:end] for start, end in spans]
    canonical = all(encoded(chat.tokenizer.decode(span, skip_special_tokens=False)) == span for span in sampled)
    return canonical and encoded(written) != ledger.tokens


def _as_sampled(episode: Episode, chat: ChatRenderer, protocol: Native) -> list[ChatMessage]:
    """The conversation as chat messages, each turn with the text that was sampled rather than what was read in it."""
    messages = until_last_turn(episode.messages, protocol)
    texts = [turn.text for turn in episode.turns if turn.sent]
    agents = [n for n, m in enumerate(messages) if m["role"] == "assistant"]
    # the agent's earlier messages were not sampled: a greeting, a history, a prefix
    for n, text in zip(agents[len(agents) - len(texts) :], texts):
        messages[n] = {"role": "assistant", "content": chat.opening + text}
    return messages


def _unanswered(episode: Episode) -> list[MessageRecord]:
    """What the agent had read before a turn that was never sent."""
    tail: list[MessageRecord] = []
    for m in reversed(episode.messages):
        if m["role"] == "assistant":
            break
        tail.insert(0, m)
    return tail
