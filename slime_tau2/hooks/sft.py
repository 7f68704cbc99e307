"""slime's rollout of SFT: rows become the sequences that a rollout would have recorded, whatever the template does.

slime's own (`slime.rollout.sft_rollout`) renders each message by itself. That is another text than the model is served
where the template rewrites history, and it trains what thoughts there are; docs/training.md compares the two.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Protocol

from slime_tau2.config import Tau2Config
from slime_tau2.data import traces
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.fan_out import sibling
from slime_tau2.tokenizer import Tokenizer, load_tokenizer


class Rows(Protocol):
    """What is used here of slime's data source."""

    def get_samples(self, num_samples: int) -> list[list[Sample]]: ...


def generate_rollout(
    args: object, rollout_id: int, data_buffer: Rows, evaluation: bool = False
) -> list[list[list[Sample]]]:
    """A step's rows: for each the samples of its sequences, which share the row's `rollout_id`.

    Raises:
        ConfigError: a row that is none, or that trains nothing; asked for an evaluation.
        TemplateError: the chat template cannot be used, or does not take a row's turn.
    """
    if evaluation:
        raise ConfigError("--eval-interval: SFT has no evaluation; leave it out, and evaluate checkpoints")
    config = Tau2Config.from_args(args)
    path: str = option(args, "hf_checkpoint", "")
    return [
        [_samples(sample, path, config)] for (sample,) in data_buffer.get_samples(option(args, "rollout_batch_size", 1))
    ]


def _samples(sample: Sample, path: str, config: Tau2Config) -> list[Sample]:
    where = f"row {sample.index} of --prompt-data"
    tools = json.dumps(sample.metadata.get("tools") or [], ensure_ascii=False)
    row = traces.checked({"messages": sample.prompt, "tools": tools}, where)
    sequences = traces.tokenise(row, _chat(path, tools, config.thinking), train_thinking=config.train_thinking)
    if not sequences:
        raise ConfigError(f"{where} trains no token; `slime-tau2 check-sft` with --output writes those that do")
    samples = [sample, *(sibling(sample) for _ in sequences[1:])]
    for one, sequence in zip(samples, sequences):
        one.tokens, one.loss_mask = sequence.tokens, sequence.loss_mask
        one.response_length = len(sequence.loss_mask)
        one.reward, one.status = 0.0, Sample.Status.COMPLETED
        one.rollout_id = sample.index
    return samples


@cache
def _chat(path: str, tools: str, thinking: str) -> ChatRenderer:
    return ChatRenderer(_tokenizer(path), json.loads(tools), thinking)


@cache
def _tokenizer(path: str) -> Tokenizer:
    return load_tokenizer(Path(path))
