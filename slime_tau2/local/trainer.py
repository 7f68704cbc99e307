"""The small trainer: SFT and GRPO steps in torch on one device, with slime's options.

It is for first contact, tests and debugging. The model, optimizer and schedule live here; what to train on comes in,
what happened goes out. Production is slime's Megatron trainer, which the same hooks feed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slime_tau2.hooks.advantages import FIELD
from slime_tau2.hooks.reducers import dr_grpo
from slime_tau2.local.batches import Row, micro_batches, score_tokens
from slime_tau2.local.losses import LossOptions, approx_kl, opsm_mask, policy_loss, reduce, tis_weights

_MEANS = ("clip_fraction", "entropy", "mismatch", "mismatch_kl", "kl", "tis_weight")


@dataclass(frozen=True)
class TrainOptions:
    """slime's and Megatron's arguments of the same names. `train_iters` is the schedule's length, in
    optimizer steps.
    """

    lr: float = 1e-3
    min_lr: float = 0.0
    lr_warmup_iters: int = 0
    lr_decay_style: str = "constant"
    train_iters: int = 0
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    clip_grad: float = 1.0
    max_tokens_per_gpu: int = 8192
    num_steps_per_rollout: int = 1
    rollout_temperature: float = 1.0
    loss: LossOptions = field(default_factory=LossOptions)


class Trainer:
    """Owns one model and its optimizer. `ref` is a frozen model for the KL term, or None."""

    def __init__(self, model: Any, options: TrainOptions, ref: Any | None = None):
        self.model, self.options, self.ref, self.step_count = model, options, ref, 0
        if options.loss.use_kl_loss and ref is None:
            raise ValueError("use_kl_loss needs a reference model")
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=options.lr,
            betas=(options.adam_beta1, options.adam_beta2),
            weight_decay=options.weight_decay,
        )

    def learning_rate(self) -> float:
        """Of the next step: linear warm-up, then constant, linear or cosine to `min_lr`."""
        o, done = self.options, self.step_count
        if done < o.lr_warmup_iters:
            return o.lr * (done + 1) / o.lr_warmup_iters
        if o.lr_decay_style == "constant":
            return o.lr
        share = min(1.0, (done - o.lr_warmup_iters) / max(1, o.train_iters - o.lr_warmup_iters))
        scale = (1 + math.cos(math.pi * share)) / 2 if o.lr_decay_style == "cosine" else 1 - share
        return o.min_lr + (o.lr - o.min_lr) * scale

    def _step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_grad))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        return norm

    def sft_step(self, rows: Sequence[Row]) -> dict[str, float]:
        """One optimizer step on the mean negative log-likelihood a trained token (slime's `sft_loss` with per-token
        loss).
        """
        self.model.train()
        tokens, total, correct = sum(sum(r.loss_mask or []) for r in rows), 0.0, 0
        for batch in micro_batches(rows, self.options.max_tokens_per_gpu):
            part = [rows[n] for n in batch]
            scores = score_tokens(self.model, part)
            masks = [self._mask(r) for r in part]
            loss = reduce([-lp for lp in scores.log_probs], masks, tokens, per_token=True)
            loss.backward()
            total += float(loss.detach())
            correct += sum(int(((lp > math.log(0.5)) & (m > 0)).sum()) for lp, m in zip(scores.log_probs, masks))
        return {
            "loss": total,
            "grad_norm": self._step(),
            "confident": correct / max(tokens, 1),
            "lr": self.learning_rate(),
        }

    def grpo_step(self, samples: Sequence[Any], advantages: Sequence[float]) -> dict[str, float]:
        """Train on one rollout.

        Args:
            samples: slime Samples (tokens, loss_mask, rollout_log_probs, remove_sample).
            advantages: one a sample (`reward_post_process`); its tokens' own, where `tau2_credit: turn` has set them.

        Returns:
            Means over the rollout's trained tokens. `mismatch` is the absolute difference of the trainer's and the
            sampler's log-probs, `mismatch_kl` the k3 estimate of KL(sampler || trainer); both are there whether or not
            they are corrected for.
        """
        self.model.train()
        used = [(s, a) for s, a in zip(samples, advantages, strict=True) if not s.remove_sample and sum(s.loss_mask)]
        if not used:
            return {"loss": 0.0, "trained_samples": 0}
        rows = [s for s, _ in used]
        gains = [self._advantages(s, a) for s, a in used]
        steps = self.options.num_steps_per_rollout
        old = self._score_frozen(self.model, rows) if steps > 1 else None
        ref = self._score_frozen(self.ref, rows) if self.options.loss.use_kl_loss else None
        report: dict[str, float] = {}
        for part in _split(len(rows), steps):
            sums = self._policy_step(
                [rows[n] for n in part], [gains[n] for n in part], _pick(old, part), _pick(ref, part)
            )
            for key, value in sums.items():
                report[key] = report.get(key, 0.0) + value / steps
        return report | {"trained_samples": len(rows), "lr": self.learning_rate()}

    def _policy_step(
        self, rows: list[Any], gains: list[torch.Tensor], old: list | None, ref: list | None
    ) -> dict[str, float]:
        o, sums = self.options.loss, dict.fromkeys(_MEANS, 0.0) | {"loss": 0.0}
        tokens = sum(sum(r.loss_mask) for r in rows)
        denominator = tokens if o.calculate_per_token_loss else len(rows)
        for batch in micro_batches(rows, self.options.max_tokens_per_gpu):
            part = [rows[n] for n in batch]
            scores = score_tokens(self.model, part, self.options.rollout_temperature, entropy=True)
            masks, policy, others = [self._mask(r) for r in part], [], []
            for n, log_probs, mask, spread in zip(batch, scores.log_probs, masks, scores.entropy or []):
                before = log_probs.detach() if old is None else old[n]
                loss, clipped = policy_loss(log_probs, before, gains[n], mask, o)
                if o.use_opsm:
                    loss = loss * opsm_mask(log_probs, before, gains[n], mask, o.opsm_delta)
                behaviour = torch.tensor(rows[n].rollout_log_probs, device=self.model.device)
                weights = tis_weights(before, behaviour, o)
                policy.append(loss * weights if o.use_tis else loss)
                other, kl = -o.entropy_coef * spread, torch.zeros_like(spread)
                if ref is not None:
                    kl = approx_kl(log_probs, ref[n], o.kl_loss_type)
                    other = other + o.kl_loss_coef * kl
                others.append(other)
                told = (clipped, spread, (before - behaviour).abs(), approx_kl(behaviour, before, "k3"), kl, weights)
                for key, values in zip(_MEANS, told, strict=True):
                    sums[key] += _total(values, mask) / tokens
            loss = self._reduced(policy, masks, denominator) + reduce(
                others, masks, denominator, o.calculate_per_token_loss
            )
            loss.backward()
            sums["loss"] += float(loss.detach())
        return sums | {"grad_norm": self._step()}

    def _reduced(self, losses: list[torch.Tensor], masks: list[torch.Tensor], denominator: int) -> torch.Tensor:
        o = self.options.loss
        if not o.dr_grpo:
            return reduce(losses, masks, denominator, o.calculate_per_token_loss)
        lengths = [len(m) for m in masks]
        return dr_grpo(lengths, lengths, masks)(torch.cat(losses)) / max(denominator, 1)

    @torch.no_grad()
    def _score_frozen(self, model: Any, rows: list[Any]) -> list[torch.Tensor]:
        out: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for batch in micro_batches(rows, self.options.max_tokens_per_gpu):
            scores = score_tokens(model, [rows[n] for n in batch], self.options.rollout_temperature)
            for n, log_probs in zip(batch, scores.log_probs):
                out[n] = log_probs
        return out

    def _advantages(self, sample: Any, advantage: float) -> torch.Tensor:
        own = getattr(sample, FIELD, None)
        return torch.tensor(own if own is not None else [advantage] * sample.response_length, device=self.model.device)

    def _mask(self, row: Row) -> torch.Tensor:
        return torch.tensor(row.loss_mask, dtype=torch.float32, device=self.model.device)


def _split(count: int, parts: int) -> list[range]:
    """`parts` consecutive ranges; a trailing remainder joins the last."""
    size = max(1, count // parts)
    return [range(n * size, count if n == parts - 1 else (n + 1) * size) for n in range(parts) if n * size < count]


def _pick(values: list | None, indices: range) -> list | None:
    return None if values is None else [values[n] for n in indices]


def _total(values: torch.Tensor, mask: torch.Tensor) -> float:
    return float((values.detach() * mask).sum())
