"""`--custom-rm-path` and `--custom-reward-post-process-path`.

`reward` hands back what `generate` has already set: tau2's reward, binary in the benchmarks. `reward_post_process` sees
whole groups, so all group maths happens there: shaping; then normalisation within `group_index`, over the samples that
count; then, with credit by turn or call, one advantage per token, which `hooks.advantages` copies in the trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from slime_tau2.config import Tau2Config
from slime_tau2.hooks import advantages, current
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import info, task_reward
from slime_tau2.hooks.training_reward import training_reward
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
    valid = [not s.remove_sample for s in samples]
    rewards = [training_reward(config, s, task_reward(s)) for s in samples]
    keys = [s.group_index if s.group_index is not None else id(s) for s in samples]
    normalised = groups.normalise(rewards, keys, valid, config.advantage)
    if config.credit == "episode":
        return Decided(normalised, None)
    by_call = config.credit == "call"
    credited = [_credited(s, a, ok, by_call) for s, a, ok in zip(samples, normalised, valid)]
    discount = config.credit_discount if config.credit == "turn_discounted" else 0.0
    return Decided(normalised, credit.token_advantages(credited, keys, discount))


def _credited(sample: Sample, advantage: float, valid: bool, by_call: bool) -> credit.Credited:
    left = info(sample)
    calls = left.get("turn_calls", []) if by_call else []
    return credit.Credited(
        advantage=advantage,
        success=is_success(task_reward(sample)),
        valid=valid,
        loss_mask=sample.loss_mask or [],
        gains=left.get("turn_gains", []),
        calls=[[CallGain(**call) for call in turn] for turn in calls],
    )
