"""Builds helpdesk's tokenizer from the domain's own conversations: `python -m slime_tau2.experiments.build_tokenizer`.

Byte-level BPE, so any UTF-8 text round-trips; vocabulary exactly 1,536. Two choices make the domain learnable by a
model of half a million parameters: every name is one token (nothing to copy piece by piece), and merges may cross
spaces (a fixed phrase is a few tokens). The result is committed as the domain's; a test rebuilds it and compares.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, cast

from slime_tau2 import bench
from slime_tau2.data.traces import until_last_turn
from slime_tau2.domains.helpdesk import CONTEXT, TOKENIZER
from slime_tau2.domains.helpdesk.tasks import AMOUNTS, ITEMS, LINE_IDS, ORDER_IDS
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.chat import ChatMessage
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.splits import WHOLE
from slime_tau2.episode.users import DomainUser

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

VOCABULARY = 1536
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
NAMES = (*ORDER_IDS, *LINE_IDS, *ITEMS, *AMOUNTS)
HEADER = "assistant\n"
HEADS = 40  # how often the constant head of every prompt is counted: enough to shorten it, not to starve the rest


def _conversations() -> list[list[ChatMessage]]:
    world = worlds.load("helpdesk")

    async def run() -> list[list[ChatMessage]]:
        out = []
        for n, task_id in enumerate(world.task_ids(WHOLE)):
            agent = CallableAgent(Teacher(n, flaws=float(n % 2)).act)
            episode = await run_episode(world, task_id, agent, DomainUser(), seed=n)
            out.append(until_last_turn(episode.messages))
        return out

    return asyncio.run(run())


def build() -> PreTrainedTokenizerBase:
    """The tokenizer, the same in every call."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    template = (TOKENIZER / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer = Tokenizer(models.BPE())
    # a turn's header stands alone: what is sampled after it must not merge with it
    apart_header = pre_tokenizers.Split(Regex(re.escape(HEADER)), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([apart_header, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = _wrapped(tokenizer, template)
    world = worlds.load("helpdesk")
    head: list[Any] = [{"role": "system", "content": bench.agent_prompt(world.policy)}]
    texts: list[Any] = [
        wrapped.apply_chat_template(cast(Any, m), tokenize=False, add_generation_prompt=True) for m in _conversations()
    ]
    texts += [wrapped.apply_chat_template(head, tools=list(world.tool_schemas), tokenize=False)] * HEADS
    apart = re.compile(
        "|".join([re.escape(t) for t in (*SPECIAL, *MARKUP)] + [rf"(?<!\w){re.escape(n)}(?!\w)" for n in NAMES])
    )
    pieces = [piece for text in texts for piece in apart.split(text) if piece]
    merges = VOCABULARY - len(SPECIAL) - len(MARKUP) - len(NAMES)
    trainer = trainers.BpeTrainer(
        vocab_size=merges,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=64,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in MARKUP])
    tokenizer.add_tokens([AddedToken(n, single_word=True, normalized=False) for n in NAMES])
    return _wrapped(tokenizer, template)


def _wrapped(tokenizer: Tokenizer, template: str) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer, as `transformers` has them."""
    from transformers import PreTrainedTokenizerFast

    wrapped: PreTrainedTokenizerBase = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
        chat_template=template,
    )
    return wrapped


if __name__ == "__main__":
    build().save_pretrained(TOKENIZER)
    print(f"wrote {TOKENIZER}")
