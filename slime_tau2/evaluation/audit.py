"""Counts token mismatches: does an episode's ledger hold what one rendering of the whole conversation would?

Independent of how the ledger was built: the conversation is rendered in one go by the tokenizer's own template, from
the texts of the turns. Where every sampled turn is what the tokenizer would have written, the ids must be equal; where
the policy sampled another spelling of the same text, the decoded texts must be.
"""

from __future__ import annotations

from slime_tau2.data.traces import spoken
from slime_tau2.episode.chat import AWAITED, END_OF_TURN, ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.types import Episode


def is_mismatch(
    episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native = PROTOCOLS["native"]
) -> bool:
    """True when the ledger differs from the one-shot rendering. Episodes without a ledger have nothing to compare."""
    ledger = episode.ledger
    if ledger is None or not episode.turns:
        return False
    said, last = spoken(episode.messages, protocol), episode.turns[-1]
    sent = [t.text for t in episode.turns if t.sent]
    agents = [n for n, m in enumerate(said) if m["role"] == "assistant"]
    for n, text in zip(
        agents[len(agents) - len(sent) :], sent
    ):  # those before were not sampled: a greeting, a history, a prefix
        said[n] = {"role": "assistant", "content": chat.opening + text}
    messages = [{"role": "system", "content": system_prompt}, *said]
    written = chat.tokenizer.decode(ledger.tokens, skip_special_tokens=False)
    waits = ledger.loss_mask[-1:] == [0] and written.endswith(AWAITED + chat.opening)
    if waits or not last.sent:  # a turn that never came, or one that ended the episode
        messages += protocol.chat(_unanswered(episode))
    if (
        not waits and not last.sent
    ):  # a budget that is used up before the turn leaves a turn in which nothing was sampled
        messages.append({"role": "assistant", "content": chat.opening + last.text})
    whole = chat.render(messages, chat.tools, waits)
    if not whole.startswith(written) or whole[len(written) :] not in ("", "\n", f"{END_OF_TURN}\n"):
        return True
    response = ledger.tokens[ledger.prompt_length :]
    spans = [response[start:end] for start, end in ledger.spans()]
    canonical = all(
        chat.tokenizer.encode(chat.tokenizer.decode(s, skip_special_tokens=False), add_special_tokens=False) == s
        for s in spans
    )
    return canonical and chat.tokenizer.encode(written, add_special_tokens=False) != ledger.tokens


def _unanswered(episode: Episode) -> list[dict]:
    """What the agent had read before a turn that was never sent."""
    tail: list[dict] = []
    for m in reversed(episode.messages):
        if m["role"] == "assistant":
            break
        tail.insert(0, m)
    return tail
