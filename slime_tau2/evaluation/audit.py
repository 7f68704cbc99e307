"""Counts token mismatches: does an episode's token record hold what one rendering of the whole conversation would?

Independent of how the record was made: the conversation is rendered in one go by the tokenizer's own template, from
the texts of the turns. Where every sampled turn is what the tokenizer would have written, the ids must be equal; where
the policy sampled another spelling of the same text, the decoded texts must be.

Where the template rewrites history, that is asked at each turn: what stands before it in its segment must be the
rendering of the conversation up to there, a prompt id for id. And no segment may begin where the one before could have
gone on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from slime_tau2.data.traces import until_last_turn
from slime_tau2.episode.chat import ChatMessage, ChatRenderer, ToolSchema
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.template_probes import AWAITED, END_OF_TURN
from slime_tau2.ledger import TokenLedger
from slime_tau2.masks import spans
from slime_tau2.record import MessageRecord
from slime_tau2.types import Episode, Transcript


def is_mismatch(
    episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native = PROTOCOLS["native"]
) -> bool:
    """True when the record differs from the one-shot rendering. Episodes without tokens have nothing to compare.

    Where an agent of one's own wrote the prompts, the conversations are those of its transcripts, and `chat` lends its
    template alone.
    """
    if not episode.segments or not episode.turns:
        return False
    if episode.transcripts:
        return any(_is_otherwise(whole, episode.segments, chat) for whole in episode.transcripts)
    if not chat.keeps_history:
        messages = _conversation(episode, chat, system_prompt, protocol)
        return _rewritten_wrongly(episode.segments, _calls(episode), chat, messages, chat.tools)
    (ledger,) = episode.segments
    last = episode.turns[-1]
    system: ChatMessage = {"role": "system", "content": system_prompt}
    messages = [system, *_as_sampled(episode, chat, protocol)]
    written = chat.tokenizer.decode(ledger.tokens, skip_special_tokens=False)
    waits = ledger.loss_mask[-1:] == [0] and written.endswith(AWAITED + chat.opening)
    if waits or not last.sent:  # a turn that never came, or one that ended the episode
        messages += protocol.chat(_unanswered(episode))
    if not waits and not last.sent:  # a budget used up before the turn leaves a turn in which nothing was sampled
        messages.append({"role": "assistant", "content": chat.opening + last.text})
    return _differs(ledger, chat, messages, tools=chat.tools, waits=waits, sampled=ledger.spans())


def _is_otherwise(whole: Transcript, segments: Sequence[TokenLedger], chat: ChatRenderer) -> bool:
    """Whether a conversation's segments hold something else than its transcript."""
    if not whole.calls:  # the policy never answered
        return False
    read = cast(list[ChatMessage], whole.messages)
    if not chat.keeps_history:
        return _rewritten_wrongly(segments, whole.calls, chat, read, whole.tools)
    (number,) = {number for number, _, _ in whole.calls}
    sampled = [(start, end) for _, start, end in whole.calls]
    waits = read[-1]["role"] != "assistant"
    return _differs(segments[number], chat, read, tools=whole.tools, waits=waits, sampled=sampled)


def _differs(
    ledger: TokenLedger,
    chat: ChatRenderer,
    messages: Sequence[ChatMessage],
    *,
    tools: Sequence[ToolSchema] | None,
    waits: bool,
    sampled: Sequence[tuple[int, int]],
) -> bool:
    """Whether the ledger holds something else than the messages, rendered in one go. `sampled` are spans of it."""
    written = chat.tokenizer.decode(ledger.tokens, skip_special_tokens=False)
    whole = chat.render(messages, tools, waits)
    if not whole.startswith(written) or whole[len(written) :] not in ("", "\n", f"{END_OF_TURN}\n"):
        return True

    def encoded(text: str) -> list[int]:
        return list(chat.tokenizer.encode(text, add_special_tokens=False))

    response = ledger.tokens[ledger.prompt_length :]
    ids = [response[start:end] for start, end in sampled]
    canonical = all(encoded(chat.tokenizer.decode(span, skip_special_tokens=False)) == span for span in ids)
    return canonical and encoded(written) != ledger.tokens


def _calls(episode: Episode) -> list[tuple[int, int, int]]:
    """(segment, start, end) of each call to the policy, whether it trains or not, that sampled something."""
    calls: dict[int, tuple[int, int, int]] = {}
    for reply in episode.replies:
        _, start, _ = calls.get(reply.call, (reply.segment, reply.start, reply.end))
        calls[reply.call] = reply.segment, start, reply.end
    return [call for call in calls.values() if call[2] > call[1]]


def _conversation(episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native) -> list[ChatMessage]:
    system: ChatMessage = {"role": "system", "content": system_prompt}
    messages = [system, *_as_sampled(episode, chat, protocol)]
    last = episode.turns[-1]
    if not last.sent and last.end > last.start:
        messages += [*protocol.chat(_unanswered(episode)), {"role": "assistant", "content": chat.opening + last.text}]
    return messages


def _rewritten_wrongly(
    segments: Sequence[TokenLedger],
    calls: Sequence[tuple[int, int, int]],
    chat: ChatRenderer,
    messages: Sequence[ChatMessage],
    tools: Sequence[ToolSchema] | None,
) -> bool:
    """Whether a call stands behind something else than the rendering of the messages before it.

    Args:
        calls: (segment, start, end) of each; the last of the assistant's messages are theirs.
    """
    said = [n for n, m in enumerate(messages) if m["role"] == "assistant"]
    last, written = -1, ""  # the segment of the call before, and what it holds with it
    for (number, start, end), n in zip(calls, said[len(said) - len(calls) :], strict=True):
        ledger = segments[number]
        before = chat.decode(ledger.tokens[: ledger.prompt_length + start])
        after = chat.decode(ledger.tokens[ledger.prompt_length + start : ledger.prompt_length + end])
        text = chat.render(messages[:n], tools, True)
        words = messages[n]["content"].removeprefix(chat.opening)
        if before != text or after not in (words, *(words + chat.decode([i]) for i in chat.ends)):
            return True
        if number != last and (_prompt(ledger, chat) or (last >= 0 and text.startswith(written))):
            return True
        last, written = number, before + after
    return any(_contexts(segments[number], chat) for number in {number for number, _, _ in calls})


def _prompt(ledger: TokenLedger, chat: ChatRenderer) -> bool:
    """Whether a prompt is not what the tokenizer makes of its text."""
    prompt = ledger.tokens[: ledger.prompt_length]
    return chat.encode(chat.decode(prompt)) != prompt


def _contexts(ledger: TokenLedger, chat: ChatRenderer) -> bool:
    """Whether what was put between sampled ids is not what the tokenizer makes of its text."""
    response = ledger.tokens[ledger.prompt_length :]
    runs = [response[start:end] for start, end in spans([1 - bit for bit in ledger.loss_mask])]
    return any(chat.encode(chat.decode(run)) != run for run in runs)


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
