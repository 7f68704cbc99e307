"""What one sample's reward is in training: the filters, the reward hook and the log must mean the same by it."""

from __future__ import annotations

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import info
from slime_tau2.rewards.shaping import shaped
from slime_tau2.terminations import Termination


def ran_out(sample: Sample) -> bool:
    """Whether the sample's episode ran out of tokens or steps."""
    termination = info(sample).get("termination")
    return termination is not None and Termination(termination).exhausted


def training_reward(config: Tau2Config, sample: Sample, raw: float) -> float:
    """The shaped reward of one sample, less the penalty of one that ran out of tokens or steps where there is one."""
    told = info(sample)
    domain, card = sample.metadata.get("domain", ""), told.get("card_components")
    penalty = config.overlong_penalty if config.overlong == "penalty" and ran_out(sample) else 0.0
    if plugins.named(config.shaping):
        return float(plugins.load(config.shaping, "shaping")(raw, {"domain": domain, **told})) - penalty
    return shaped(config.shaping, raw, told.get("partial", 0.0), config.alpha, domain, card) - penalty
