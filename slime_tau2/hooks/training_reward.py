"""What one sample's reward is in training: the filters, the reward hook and the log must mean the same by it."""

from __future__ import annotations

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import ended, info
from slime_tau2.rewards.shaping import shaped


def exhausted(sample: Sample) -> bool:
    """Whether its episode ran out of tokens or steps, which `tau2_overlong` is about."""
    termination = ended(sample)
    return termination is not None and termination.exhausted


def training_reward(config: Tau2Config, sample: Sample, reward: float) -> float:
    """The training reward of a sample whose task reward (tau2's) is `reward`.

    It is shaped by `tau2_shaping`, less the penalty of `tau2_overlong: penalty` where tokens or steps ran out.
    """
    penalty = config.overlong_penalty if config.overlong == "penalty" and exhausted(sample) else 0.0
    episode = info(sample)
    domain: str = sample.metadata.get("domain", "")
    if plugins.named(config.shaping):
        shape = plugins.load(config.shaping, "shaping")
        return float(shape(reward, {"domain": domain, **episode})) - penalty
    card = episode.get("card_components")
    return shaped(config.shaping, reward, episode.get("partial", 0.0), config.alpha, domain, card) - penalty
