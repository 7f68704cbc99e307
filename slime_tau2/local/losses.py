"""The losses, with slime's names and meanings. Pure functions of tensors.

Shapes: every tensor is 1-D, one float per response token of one sample; a list has one such tensor per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from slime_tau2.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """slime's arguments of the same names. docs/cookbook.md says what each does to long episodes and where it comes
    from.
    """

    advantage_estimator: str = "grpo"
    """`grpo`, one ratio per token, or `gspo`, one per sample."""
    eps_clip: float = 0.2
    """How far a ratio may fall below 1 before its loss is clipped."""
    eps_clip_high: float | None = None
    """How far it may rise above 1; None means `eps_clip`."""
    eps_clip_c: float | None = None
    """Dual clip: bound of the loss of a negative advantage, in multiples of it; None means no bound."""
    use_kl_loss: bool = False
    """Add `kl_loss_coef` times the KL to the reference model, estimated as `kl_loss_type` says."""
    kl_loss_coef: float = 0.0
    kl_loss_type: str = "low_var_kl"
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    use_tis: bool = False
    """Weigh each token by exp(trainer's - sampler's log-prob). `vanilla_tis_function` clamps the weight to
    [`tis_clip_low`, `tis_clip`]; `icepop_function` makes it 0 outside.
    """
    custom_tis_function: str = "vanilla_tis_function"
    tis_clip: float = 2.0
    tis_clip_low: float = 0.0
    use_opsm: bool = False
    """Drop the tokens with a negative advantage of a sample whose mean log-ratio is beyond `opsm_delta`: the policy has
    left it.
    """
    opsm_delta: float = 1e-4
    calculate_per_token_loss: bool = False
    """Average over all tokens, instead of over each sample's tokens first and then over samples."""
    dr_grpo: bool = False
    """Divide the policy term by a constant instead (`hooks.reducers`)."""

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"{name} = {value!r}; there are {', '.join(known)}")
        if self.dr_grpo and self.calculate_per_token_loss:
            raise ConfigError(
                "dr_grpo cannot be combined with calculate_per_token_loss: two divisors; drop one of them"
            )

    @classmethod
    def of(cls, changed: dict[str, Any], source: str) -> LossOptions:
        """The quickstart's options (clip-higher, truncated importance sampling) with some changed.

        Raises:
            ConfigError: an option that does not exist, or a value it cannot have.
        """
        known = [f.name for f in fields(cls)]
        for name in changed:
            if name not in known:
                raise ConfigError(f"{source}: unknown option {name}; known: {', '.join(known)}")
        return cls(**{"eps_clip_high": 0.28, "use_tis": True, **changed})


_KNOWN = {
    "advantage_estimator": ("grpo", "gspo"),
    "kl_loss_type": ("k1", "k2", "k3", "low_var_kl"),
    "custom_tis_function": ("vanilla_tis_function", "icepop_function"),
}


def reduce(
    values: list[torch.Tensor],
    masks: list[torch.Tensor],
    denominator: float,
    per_token: bool,
    counts: Sequence[int] | None = None,
) -> torch.Tensor:
    """One scalar: the sum over samples of their masked means, divided by `denominator` samples.

    With `per_token`, the sum over all tokens whose mask is 1, divided by `denominator` tokens.

    Args:
        counts: what each sample's mean is divided by, where it is one of several of an episode: the trained tokens of
            all of them.
    """
    sums = [(v * m).sum() for v, m in zip(values, masks, strict=True)]
    if not per_token:
        divisors = [m.sum() for m in masks] if counts is None else [m.new_tensor(n) for m, n in zip(masks, counts)]
        sums = [total / divisor.clamp(min=1) for total, divisor in zip(sums, divisors, strict=True)]
    return torch.stack(sums).sum() / max(denominator, 1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens whose mask is 1; 0 where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def policy_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    options: LossOptions,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(PPO's clipped loss per token, 1.0 where it was clipped and 0.0 elsewhere). arXiv 1707.06347; clip-higher:
    2503.14476.

    `gspo` (2507.18071) has one ratio per sample: the geometric mean of its tokens' ratios.
    """
    log_ratio = log_probs - old_log_probs
    if options.advantage_estimator == "gspo":
        log_ratio = masked_mean(log_ratio, mask).expand_as(log_probs)
    ratio = log_ratio.exp()
    high = options.eps_clip if options.eps_clip_high is None else options.eps_clip_high
    plain = -ratio * advantages
    clipped = -ratio.clamp(1 - options.eps_clip, 1 + high) * advantages
    loss = torch.maximum(plain, clipped)
    if options.eps_clip_c is not None:  # dual clip bounds the loss of negative advantages; arXiv 1912.09729
        loss = torch.where(advantages < 0, torch.minimum(loss, -options.eps_clip_c * advantages), loss)
    return loss, (clipped > plain).float()


def tis_weights(old_log_probs: torch.Tensor, rollout_log_probs: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """Importance weight per token, trainer's over sampler's probability: truncated, or (IcePop, 2510.18855) 0 outside
    the bounds.
    """
    ratio = (old_log_probs - rollout_log_probs).exp()
    if options.custom_tis_function == "icepop_function":
        within = (ratio >= options.tis_clip_low) & (ratio <= options.tis_clip)
        return torch.where(within, ratio, torch.zeros_like(ratio))
    return ratio.clamp(options.tis_clip_low, options.tis_clip)


def opsm_mask(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, delta: float
) -> torch.Tensor:
    """Off-policy sequence mask: 0.0 at the negative advantages of a sample whose mean log-ratio is beyond `delta`."""
    gone = masked_mean(old_log_probs - log_probs.detach(), mask) > delta
    return 1.0 - ((advantages < 0) & gone).float()


def approx_kl(log_probs: torch.Tensor, ref_log_probs: torch.Tensor, kind: str) -> torch.Tensor:
    """Estimate of KL(policy || reference) per token: k1, k2, k3 or low_var_kl (k3 clamped to [-10, 10])."""
    log_ratio = log_probs - ref_log_probs
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return log_ratio**2 / 2
    kl = (-log_ratio).exp() - 1 + log_ratio
    return kl.clamp(-10, 10) if kind == "low_var_kl" else kl
