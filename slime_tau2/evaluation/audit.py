"""Counts token mismatches: does an episode's token record hold what one rendering of the whole conversation would?

Independent of how the record was made: the conversation is rendered in one go by the tokenizer's own template, from
the texts of the turns. Where every sampled turn is what the tokenizer would have written, the ids must be equal; where
the policy sampled another spelling of the same text, the decoded texts must be.

Where the template rewrites history, that is asked at each turn: what stands before it in its segment must be the
rendering of the conversation up to there, a prompt id for id. And no segment may begin where the one before could have
gone on.
"""

from __future__ import annotations

from slime_tau2.data.traces import until_last_turn
from slime_tau2.episode.chat import ChatMessage, ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.template_probes import AWAITED, END_OF_TURN
from slime_tau2.ledger import TokenLedger
from slime_tau2.masks import spans
from slime_tau2.record import MessageRecord
from slime_tau2.types import Episode, Turn


def is_mismatch(
    episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native = PROTOCOLS["native"]
) -> bool:
    """True when the record differs from the one-shot rendering. Episodes without tokens have nothing to compare."""
    if not episode.segments or not episode.turns:
        return False
    if not chat.keeps_history:
        return _rewritten_wrongly(episode, chat, system_prompt, protocol)
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
    whole = chat.render(messages, chat.tools, waits)
    if not whole.startswith(written) or whole[len(written) :] not in ("", "\n", f"{END_OF_TURN}\n"):
        return True

    def encoded(text: str) -> list[int]:
        return list(chat.tokenizer.encode(text, add_special_tokens=False))

    response = ledger.tokens[ledger.prompt_length :]
    spans = [response[start:end] for start, end in ledger.spans()]
    canonical = all(encoded(chat.tokenizer.decode(span, skip_special_tokens=False)) == span for span in spans)
    return canonical and encoded(written) != ledger.tokens


def _rewritten_wrongly(episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native) -> bool:
    system: ChatMessage = {"role": "system", "content": system_prompt}
    messages = [system, *_as_sampled(episode, chat, protocol)]
    last = episode.turns[-1]
    if not last.sent:
        messages += [*protocol.chat(_unanswered(episode)), {"role": "assistant", "content": chat.opening + last.text}]
    said = [n for n, m in enumerate(messages) if m["role"] == "assistant"]
    begun = [chat.render(messages[:n], chat.tools, True) for n in said[len(said) - len(episode.turns) :]]
    written = ""  # what the segment holds with the turn before
    for number, (turn, text) in enumerate(zip(episode.turns, begun, strict=True)):
        ledger = episode.segments[turn.segment]
        opens = number == 0 or turn.segment != episode.turns[number - 1].segment
        before, after = _texts(ledger, turn, chat)
        if before != text or after != _until(after, turn.text, chat):
            return True
        if opens and (_prompt(ledger, chat) or (number > 0 and text.startswith(written))):
            return True
        written = before + after
    return any(_contexts(ledger, chat) for ledger in episode.segments)


def _texts(ledger: TokenLedger, turn: Turn, chat: ChatRenderer) -> tuple[str, str]:
    """What stands before a turn in its segment, and the turn."""
    start, end = ledger.prompt_length + turn.start, ledger.prompt_length + turn.end
    return chat.decode(ledger.tokens[:start]), chat.decode(ledger.tokens[start:end])


def _until(after: str, text: str, chat: ChatRenderer) -> str:
    """A turn's text with the mark that ended it, where one did."""
    return next((text + end for end in map(chat.decode, ([i] for i in chat.ends)) if after == text + end), text)


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
