"""The losses, with slime's names and meanings. Pure functions of tensors.

Shapes: every argument is a list with one 1-D float tensor a sample, aligned with its response tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LossOptions:
    """slime's arguments of the same names.

    `eps_clip_high` None means `eps_clip`. `use_tis` weighs each token by exp(train - rollout log-prob), clamped to
    [`tis_clip_low`, `tis_clip`]. `calculate_per_token_loss` averages over all tokens instead of per sample first.
    """

    eps_clip: float = 0.2
    eps_clip_high: float | None = None
    eps_clip_c: float | None = None
    use_kl_loss: bool = False
    kl_loss_coef: float = 0.0
    kl_loss_type: str = "low_var_kl"
    entropy_coef: float = 0.0
    use_tis: bool = False
    tis_clip: float = 2.0
    tis_clip_low: float = 0.0
    calculate_per_token_loss: bool = False


def reduce(values: list[torch.Tensor], masks: list[torch.Tensor], denominator: float, per_token: bool) -> torch.Tensor:
    """Sum over samples of each one's masked mean, over `denominator` samples; or masked sum over `denominator` tokens."""
    if per_token:
        return torch.stack([(v * m).sum() for v, m in zip(values, masks, strict=True)]).sum() / max(denominator, 1)
    return torch.stack([(v * m).sum() / m.sum().clamp(min=1) for v, m in zip(values, masks, strict=True)]).sum() / max(denominator, 1)


def policy_loss(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, options: LossOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped loss a token, and whether it was clipped (1.0 or 0.0). arXiv 1707.06347; clip-higher: 2503.14476."""
    ratio = (log_probs - old_log_probs).exp()
    high = options.eps_clip if options.eps_clip_high is None else options.eps_clip_high
    plain, clipped = -ratio * advantages, -ratio.clamp(1 - options.eps_clip, 1 + high) * advantages
    loss = torch.maximum(plain, clipped)
    if options.eps_clip_c is not None:  # dual clip bounds the loss of negative advantages; arXiv 1912.09729
        loss = torch.where(advantages < 0, torch.minimum(loss, -options.eps_clip_c * advantages), loss)
    return loss, (clipped > plain).float()


def tis_weights(old_log_probs: torch.Tensor, rollout_log_probs: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """Truncated importance weight a token: trainer's over sampler's probability."""
    return (old_log_probs - rollout_log_probs).exp().clamp(options.tis_clip_low, options.tis_clip)


def approx_kl(log_probs: torch.Tensor, ref_log_probs: torch.Tensor, kind: str) -> torch.Tensor:
    """Estimate of KL(policy || reference) a token: k1, k2, k3 or low_var_kl (k3 clamped to [-10, 10])."""
    log_ratio = log_probs - ref_log_probs
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return log_ratio**2 / 2
    if kind in ("k3", "low_var_kl"):
        kl = (-log_ratio).exp() - 1 + log_ratio
        return kl.clamp(-10, 10) if kind == "low_var_kl" else kl
    raise ValueError(f"unknown kl_loss_type {kind!r}; known: k1, k2, k3, low_var_kl")
