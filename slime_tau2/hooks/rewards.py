"""`--custom-rm-path` and `--custom-reward-post-process-path`.

`reward` hands back what `generate` has already set: tau2's reward, binary in the benchmarks. `reward_post_process` sees
whole
groups, so all group maths happens there: shaping, then normalisation within `group_index`, over the samples that count,
then, with turn-level credit, one advantage a token, which `hooks.advantages` copies in the trainer.
"""

from __future__ import annotations

from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.hooks import data_source
from slime_tau2.hooks.advantages import FIELD, check
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import info
from slime_tau2.hooks.training_reward import training_reward
from slime_tau2.rewards import credit, groups
from slime_tau2.types import is_success


async def reward(args: Any, sample: Sample | list[Sample], **kwargs: Any) -> float | list[float]:
    """tau2's reward of one sample, or of each of a list."""
    if isinstance(sample, list):
        return [float(s.reward or 0.0) for s in sample]
    return float(sample.reward or 0.0)


def reward_post_process(args: Any, samples: list[Sample]) -> tuple[list[float], list[float]]:
    """(tau2's rewards, advantages), one each a sample, in order. Closes their groups in our data source, and so tells
    the curriculum.
    """
    config = Tau2Config.from_args(args)
    raw = [float(s.reward or 0.0) for s in samples]
    valid = [not s.remove_sample for s in samples]
    rewards = [training_reward(config, s, r) for s, r in zip(samples, raw)]
    source = data_source.current()
    if source is not None:
        source.end_rollout(samples)
    keys = [s.group_index if s.group_index is not None else id(s) for s in samples]
    advantages = groups.normalise(rewards, keys, valid, config.advantage)
    if config.credit != "episode":
        check(args, config)  # whoever brings a data source of his own is told here
        credited = [_credited(s, a, ok) for s, a, ok in zip(samples, advantages, valid)]
        discount = config.credit_discount if config.credit == "turn_discounted" else 0.0
        for s, tokens in zip(samples, credit.token_advantages(credited, keys, discount)):
            setattr(s, FIELD, tokens)
    return raw, advantages


def _credited(sample: Sample, advantage: float, valid: bool) -> credit.Credited:
    gains = info(sample).get("turn_gains", ())
    return credit.Credited(advantage, is_success(sample.reward), valid, sample.loss_mask or [], gains)
