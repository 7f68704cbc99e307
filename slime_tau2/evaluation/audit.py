"""Counts token mismatches: does an episode's ledger hold what one rendering of the whole conversation would?

Independent of how the ledger was built: the conversation is rendered in one go by the tokenizer's own template, from the
texts of the turns. Where every sampled turn is what the tokenizer would have written, the ids must be equal; where the
policy sampled another spelling of the same text, the decoded texts must be.
"""

from __future__ import annotations

from slime_tau2.data.traces import spoken
from slime_tau2.episode.chat import END_OF_TURN, ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.types import Episode

AWAITED = "<|im_start|>assistant\n"  # the template's generation prompt


def is_mismatch(episode: Episode, chat: ChatRenderer, system_prompt: str, protocol: Native = PROTOCOLS["native"]) -> bool:
    """True when the ledger differs from the one-shot rendering. Episodes without a ledger have nothing to compare."""
    ledger = episode.ledger
    if ledger is None or not episode.turns:
        return False
    texts = iter(t.text for t in episode.turns)
    messages: list[dict] = [{"role": "system", "content": system_prompt}]
    before = episode.prefix_turns  # agent turns that the policy did not sample
    for message in spoken(episode.messages, protocol):
        if message["role"] == "assistant" and any(m["role"] == "user" for m in messages):
            if before == 0:
                message = {"role": "assistant", "content": next(texts)}
            before = max(0, before - 1)
        messages.append(message)
    written = chat.tokenizer.decode(ledger.tokens, skip_special_tokens=False)
    last, waits = next(texts, None), ledger.loss_mask[-1:] == [0] and written.endswith(AWAITED)
    if last is not None or waits:  # a turn that ended the episode and was never sent to tau2, or one that never came
        messages += protocol.chat(_unanswered(episode))
    if last is not None and not waits:  # a budget that is used up before the turn leaves a turn in which nothing was sampled
        messages.append({"role": "assistant", "content": last})
    whole = chat.tokenizer.apply_chat_template(messages, tools=chat.tools, tokenize=False, add_generation_prompt=waits)
    if not whole.startswith(written) or whole[len(written) :] not in ("", "\n", f"{END_OF_TURN}\n"):
        return True
    response = ledger.tokens[ledger.prompt_length :]
    spans = [response[start:end] for start, end in ledger.spans()]
    canonical = all(
        chat.tokenizer.encode(chat.tokenizer.decode(s, skip_special_tokens=False), add_special_tokens=False) == s for s in spans
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
