"""`--custom-rm-path` and `--custom-reward-post-process-path`.

`reward` hands back what `generate` has already set: tau2's reward, binary in the benchmarks. `reward_post_process` sees
whole groups, so all group maths happens there: shaping; then normalisation within `group_index`, over the episodes that
count; then, with credit by turn or call, one advantage per token, which `hooks.advantages` copies in the trainer. An
episode of several samples counts once, and each of them has its advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import overload

from slime_tau2.config import Tau2Config
from slime_tau2.hooks import advantages, current, fan_out
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import info, task_reward
from slime_tau2.hooks.training_reward import training_reward
from slime_tau2.masks import spans
from slime_tau2.rewards import credit, groups
from slime_tau2.types import CallGain, is_success

PATH = f"{__name__}.reward_post_process"


@overload
async def reward(args: object, sample: Sample, **kwargs: object) -> float: ...
@overload
async def reward(args: object, sample: list[Sample], **kwargs: object) -> list[float]: ...
async def reward(args: object, sample: Sample | list[Sample], **kwargs: object) -> float | list[float]:
    """tau2's reward of one sample, or of each of a list."""
    if isinstance(sample, list):
        return [task_reward(s) for s in sample]
    return task_reward(sample)


def reward_post_process(args: object, samples: list[Sample]) -> tuple[list[float], list[float]]:
    """(tau2's rewards, advantages), one of each per sample, in order.

    Closes the samples' groups in our data source, and so tells the curriculum. With credit by turn or call every sample
    also gets its advantages per token.

    Raises:
        ConfigError: the options will not do, or such credit cannot reach the trainer.
    """
    config = Tau2Config.from_args(args)
    source = current.data_source()
    if source is not None:
        source.end_rollout(samples)
    decided = decide(config, samples)
    if decided.per_token is not None:
        advantages.check(args, config)  # whoever brings a data source of his own is told here
        for s, per_token in zip(samples, decided.per_token):
            setattr(s, advantages.FIELD, per_token)
    return [task_reward(s) for s in samples], decided.advantages


@dataclass(frozen=True)
class Decided:
    """What the group maths gives: an advantage per sample, and with credit by turn or call one per response token."""

    advantages: list[float]
    per_token: list[list[float]] | None


def decide(config: Tau2Config, samples: Sequence[Sample]) -> Decided:
    """The advantages of samples whose groups are whole. Pure."""
    played = fan_out.episodes(samples)
    firsts = [episode[0] for episode in played]
    rewards = [training_reward(config, s, task_reward(s)) for s in firsts]
    valid = [not s.remove_sample for s in firsts]
    keys = [s.group_index if s.group_index is not None else id(s) for s in firsts]
    normalised = groups.normalise(rewards, keys, valid, config.advantage)
    by_sample = {id(s): a for episode, a in zip(played, normalised) for s in episode}
    whole = [by_sample[id(s)] for s in samples]
    if config.credit == "episode":
        return Decided(whole, None)
    by_call = config.credit == "call"
    credited = [_credited(episode, a, by_call) for episode, a in zip(played, normalised)]
    discount = config.credit_discount if config.credit == "turn_discounted" else 0.0
    spread = credit.token_advantages(credited, keys, discount)
    per_token = {
        id(s): tokens[start:end]
        for episode, tokens in zip(played, spread)
        for s, (start, end) in zip(episode, _places(episode))
    }
    return Decided(whole, [per_token[id(s)] for s in samples])


def _places(episode: Sequence[Sample]) -> list[tuple[int, int]]:
    """Where each sample's response stands where they stand one behind the other."""
    borders = list(accumulate((len(s.loss_mask or []) for s in episode), initial=0))
    return list(pairwise(borders))


def _credited(episode: Sequence[Sample], advantage: float, by_call: bool) -> credit.Credited:
    turns: list[tuple[int, int]] = []
    numbers: list[int] = []
    gains: dict[int, float] = {}
    calls: list[list[CallGain]] = []
    for s, (at, _) in zip(episode, _places(episode)):
        left, mask = info(s), s.loss_mask or []
        own = left.get("turn_spans", spans(mask))
        known = left.get("turn_numbers", range(len(turns), len(turns) + len(own)))
        turns += [(at + start, at + end) for start, end in own]
        numbers += known
        gains |= zip(known, left.get("turn_gains", []))
        for turn in left.get("turn_calls", []) if by_call else ():
            calls.append([CallGain(c["start"] + at, c["end"] + at, c["gain"], c["wrong"]) for c in turn])
    order = sorted(gains)
    place = {number: n for n, number in enumerate(order)}
    return credit.Credited(
        advantage=advantage,
        success=is_success(task_reward(episode[0])),
        valid=not episode[0].remove_sample,
        loss_mask=[bit for s in episode for bit in s.loss_mask or []],
        turns=turns,
        gains=[gains[number] for number in order],
        calls=calls,
        of=[place[number] for number in numbers] if set(numbers) == set(place) else (),
    )
