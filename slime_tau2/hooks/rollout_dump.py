"""Writes the dump of a rollout (`dumps.format`) when it has ended: rows of all its groups, and the tokens of
`tau2_dump` of them.

Under `tau2_rollouts` in slime's `--dump-details`, else `--save`; without either nothing is written. A disk that is full
stops no rollout.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

import slime_tau2
from slime_tau2.config import Tau2Config
from slime_tau2.dumps.arrays import checksum, pack_floats, pack_ids
from slime_tau2.dumps.format import FORMAT, GroupRow, RolloutPart, SampleTokens, TurnRow
from slime_tau2.dumps.store import FOLDER, Dump
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.rollout_rows import segments
from slime_tau2.hooks.samples import SampleInfo, info
from slime_tau2.masks import spans

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_BYTES = 16 * 2**20
"""Most bytes of the tokens of one rollout, before compression: some 1.5 million sampled tokens."""
RECIPE = (
    "shaping",
    "alpha",
    "advantage",
    "credit",
    "credit_discount",
    "overlong",
    "overlong_penalty",
    "curriculum",
    "domains",
    "split",
    "seed",
)
"""The options that a part repeats."""


class Decoder(Protocol):
    """What is used here of a tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...


def dump_of(args: object) -> Dump | None:
    """Where this job's dump goes; None where its arguments name no place, or no model, as in tests of a hook alone."""
    directory: str | None = option(args, "dump_details", None) or option(args, "save", None)
    return Dump(Path(directory) / FOLDER) if directory and option(args, "hf_checkpoint", None) else None


@dataclass(kw_only=True)
class Told:
    """What is known of a rollout when it has ended."""

    rollout: int
    seconds: float
    figures: Mapping[str, float]
    rows: Sequence[GroupRow]
    waiting: int
    """Groups that are out."""
    samples: Sequence[Sample]
    """Those that train."""
    per_token: Sequence[Sequence[float] | None]
    """For each of them its advantages, one per response token; None where it does not train, or they are not known."""


def write(args: object, config: Tau2Config, told: Told, tokenizer: Decoder) -> None:
    """Write a rollout's part. A full disk, or a number that JSON does not have, is logged and stops nothing."""
    dump = dump_of(args)
    if dump is None:
        return
    try:
        dump.write_rollout(part(config, told, tokenizer))
    except (OSError, ValueError) as error:
        log.error("the dump of rollout %d was not written to %s: %s", told.rollout, dump.directory, error)


def part(config: Tau2Config, told: Told, tokenizer: Decoder) -> RolloutPart:
    """The part of a rollout; pure but for the clock."""
    chosen = evenly(_groups(told.samples, told.per_token), config.dump)
    tokens, left_out = Tokens(), 0
    for group in chosen:
        if left_out or not tokens.add(group):
            left_out += 1
    options = config.model_dump(mode="json")
    return RolloutPart(
        format=FORMAT,
        writer=f"slime_tau2 {slime_tau2.__version__}",
        rollout=told.rollout,
        written=time.time(),
        seconds=told.seconds,
        options={name: options[name] for name in RECIPE},
        figures={key: float(value) for key, value in told.figures.items() if math.isfinite(value)},
        waiting=told.waiting,
        groups=list(told.rows),
        prompts=tokens.packed_prompts(),
        pieces=tokens.pieces(tokenizer),
        samples=tokens.samples,
        left_out=left_out,
    )


Advantages: TypeAlias = Sequence[float] | None
"""Of one sample: one per response token, or not known."""


def _groups(samples: Sequence[Sample], per_token: Sequence[Advantages]) -> list[list[tuple[Sample, Advantages]]]:
    groups: dict[int | None, list[tuple[Sample, Advantages]]] = {}
    for sample, own in zip(samples, per_token, strict=True):
        groups.setdefault(sample.group_index, []).append((sample, own))
    return list(groups.values())


def evenly(groups: Sequence[T], count: int) -> list[T]:
    """At most `count` of the groups, evenly spread."""
    count = min(count, len(groups))
    return [groups[n * len(groups) // count] for n in range(count)]


@dataclass
class Tokens:
    """The tokens of some samples, up to `MAX_BYTES`."""

    samples: list[SampleTokens] = field(default_factory=list)
    prompts: dict[tuple[int, ...], int] = field(default_factory=dict)
    """{a prompt: its place}."""
    met: set[int] = field(default_factory=set)
    """The ids that occur."""
    size: int = 0

    def packed_prompts(self) -> list[str]:
        """The prompts, each once."""
        return [pack_ids(prompt) for prompt in self.prompts]

    def pieces(self, tokenizer: Decoder) -> dict[str, str]:
        """The text of each id that occurs."""
        return {str(token): tokenizer.decode([token], skip_special_tokens=False) for token in sorted(self.met)}

    def add(self, group: Sequence[tuple[Sample, Advantages]]) -> bool:
        """Take a group in, with its advantages; False where it does not fit any more."""
        samples = [s for s, _ in group]
        heads = {tuple(s.tokens[: len(s.tokens) - s.response_length]) for s in samples}
        new = sum(len(head) for head in heads if head not in self.prompts)
        size = 4 * (new + sum(s.response_length + 2 * sum(s.loss_mask or ()) for s in samples))
        if self.size + size > MAX_BYTES:
            return False
        self.size += size
        for (s, advantages), segment in zip(group, segments(samples)):
            head = tuple(s.tokens[: len(s.tokens) - s.response_length])
            place = self.prompts.setdefault(head, len(self.prompts))
            self.met.update(s.tokens)
            self.samples.append(_sample_tokens(s, segment, place, advantages))
        return True


def _sample_tokens(sample: Sample, segment: int, prompt: int, per_token: Advantages) -> SampleTokens:
    mask, episode = sample.loss_mask or [], info(sample)
    turns = spans(mask)
    return SampleTokens(
        sample=sample.index,
        segment=segment,
        prompt=prompt,
        ids=pack_ids(sample.tokens[len(sample.tokens) - sample.response_length :]),
        crc=checksum(sample.tokens),
        trained=[[start, end] for start, end in turns],
        log_probs=pack_floats(sampled(sample.rollout_log_probs or [], turns)),
        advantages=None if per_token is None else pack_floats(sampled(per_token, turns)),
        turns=[_turn_row(episode, span, turns) for span in turns],
    )


def _turn_row(episode: SampleInfo, span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> TurnRow:
    """What one of the runs of sampled tokens earned: its turn's gain, and the calls within it."""
    told = zip(episode.get("turn_spans", spans), episode.get("turn_gains", []), episode.get("turn_calls", []))
    for (start, end), gain, calls in told:
        if start <= span[0] < end:
            return TurnRow(gain=gain, calls=[c for c in calls if span[0] <= c["start"] < span[1]])
    return TurnRow(gain=None, calls=[])


def sampled(values: Sequence[float], turns: Iterable[Sequence[int]]) -> list[float]:
    """Of values per response token, those of the sampled ones."""
    return [value for start, end in turns for value in values[start:end]]
