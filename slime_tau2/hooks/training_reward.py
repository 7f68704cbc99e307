"""What one sample's reward is in training: the filters, the reward hook and the log must mean the same by it."""

from __future__ import annotations

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import info
from slime_tau2.rewards import shaping


def training_reward(config: Tau2Config, sample: Sample, reward: float) -> float:
    """The training reward (`rewards.shaping`) of a sample whose task reward is `reward`, as the options have it."""
    own = plugins.named(config.shaping)
    return shaping.training_reward(
        reward,
        {"domain": sample.metadata.get("domain", ""), **info(sample)},
        shaping=plugins.load(config.shaping, "tau2_shaping") if own else config.shaping,
        alpha=config.alpha,
        overlong_penalty=config.overlong_penalty if config.overlong == "penalty" else 0.0,
    )
