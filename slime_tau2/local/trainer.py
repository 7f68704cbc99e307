"""The small trainer: SFT and GRPO steps in torch on one device, with slime's options.

It is for first contact, tests and debugging. The model, optimizer and schedule live here; what to train on comes in,
what happened goes out. Production is slime's Megatron trainer, which the same hooks feed.

What differs from GRPO as slime v0.3.1 does it with Megatron:

1. One device, float32, padded micro-batches with a shared prefix. There it is bfloat16 with float32 main weights, and
   packed sequences over ranks.
2. A sample that is not to be trained on is left out. There its mask becomes 0, so that it still counts among the
   samples that the loss is divided by.
3. The log-probs before the step ("old") are scored beforehand only where a rollout is trained on in several steps. In a
   single step they are the step's own, detached: the ratio is exactly 1. There they are always scored beforehand.
4. Figures are means over trained tokens. There they are reduced as the loss is, by default over samples.
5. Weight decay reaches all parameters. Megatron spares vectors (the norms).
6. A step whose gradient is not finite is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch

from slime_tau2.hooks.advantages import FIELD
from slime_tau2.hooks.reducers import dr_grpo
from slime_tau2.local.batches import Row, by_episode, micro_batches, score_tokens
from slime_tau2.local.causal_lm import CausalLM
from slime_tau2.local.losses import LossOptions, approx_kl, opsm_mask, policy_loss, reduce, tis_weights


class TrainSample(Protocol):
    """What a GRPO step reads of slime's Sample. Lists align with the last `response_length` tokens."""

    tokens: list[int]
    response_length: int
    loss_mask: list[int] | None
    rollout_log_probs: list[float] | None
    remove_sample: bool
    rollout_id: int | None
    """Shared by the samples of one episode, which have one mean among them; None: an episode of its own."""


Scored: TypeAlias = Callable[[TrainSample, torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """slime's and Megatron's arguments of the same names."""

    lr: float = 1e-3
    min_lr: float = 0.0
    lr_warmup_iters: int = 0
    lr_decay_style: str = "constant"
    """`constant`, `linear` or `cosine`."""
    train_iters: int = 0
    """Length of the schedule, in optimizer steps."""
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    clip_grad: float = 1.0
    max_tokens_per_gpu: int = 8192
    """Most tokens of a micro-batch, padding included."""
    num_steps_per_rollout: int = 1
    rollout_temperature: float = 1.0
    """The sampler's temperature: log-probs are compared with its own."""
    loss: LossOptions = field(default_factory=LossOptions)


class Trainer:
    """Owns one model and its optimizer.

    Args:
        ref: a frozen model for the KL term, or None.

    Raises:
        ValueError: `use_kl_loss` without a reference model.
    """

    def __init__(self, model: CausalLM, options: TrainOptions, ref: CausalLM | None = None):
        if options.loss.use_kl_loss and ref is None:
            raise ValueError("use_kl_loss needs a reference model")
        self.model = model
        self.options = options
        self.ref = ref
        self.step_count = 0
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=options.lr,
            betas=(options.adam_beta1, options.adam_beta2),
            weight_decay=options.weight_decay,
        )

    def learning_rate(self) -> float:
        """The next step's: linear warm-up, then constant, linear or cosine to `min_lr`."""
        o = self.options
        if self.step_count < o.lr_warmup_iters:
            return o.lr * (self.step_count + 1) / o.lr_warmup_iters
        if o.lr_decay_style == "constant":
            return o.lr
        share = min(1.0, (self.step_count - o.lr_warmup_iters) / max(1, o.train_iters - o.lr_warmup_iters))
        scale = (1 + math.cos(math.pi * share)) / 2 if o.lr_decay_style == "cosine" else 1 - share
        return o.min_lr + (o.lr - o.min_lr) * scale

    def _optimizer_step(self) -> float:
        """Apply the accumulated gradient; returns its norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_grad))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        return norm

    # --- SFT ---------------------------------------------------------------------------------------------------------

    def sft_step(self, rows: Sequence[Row]) -> dict[str, float]:
        """One optimizer step on the mean negative log-likelihood per trained token (slime's `sft_loss`, per token).

        Returns:
            `loss`; `grad_norm` before clipping; `confident`, the share of trained tokens with a probability above 1/2;
            `lr`, the next step's learning rate; `trained_samples` and `trained_tokens`.
        """
        self.model.train()
        tokens = sum(sum(r.loss_mask or ()) for r in rows)
        total, confident = 0.0, 0
        for batch in micro_batches(rows, self.options.max_tokens_per_gpu):
            part = [rows[n] for n in batch]
            log_probs = score_tokens(self.model, part).log_probs
            masks = [self._mask(r) for r in part]
            loss = reduce([-lp for lp in log_probs], masks, tokens, per_token=True)
            torch.autograd.backward(loss)
            total += float(loss.detach())
            confident += sum(int(((lp > math.log(0.5)) & (m > 0)).sum()) for lp, m in zip(log_probs, masks))
        norm = self._optimizer_step()
        return {
            "loss": total,
            "grad_norm": norm,
            "confident": confident / max(tokens, 1),
            "lr": self.learning_rate(),
            "trained_samples": len(rows),
            "trained_tokens": tokens,
        }

    # --- GRPO --------------------------------------------------------------------------------------------------------

    def grpo_step(
        self, samples: Sequence[TrainSample], advantages: Sequence[float], scored: Scored | None = None
    ) -> dict[str, float]:
        """Train on one rollout, in `num_steps_per_rollout` optimizer steps.

        Args:
            advantages: one per sample (`reward_post_process`). With credit by turn or call (`tau2_credit`) a sample
                carries one per response token, which is taken instead.
            scored: called with each sample that trains, its log-probs before the rollout's first step, and its
                advantages: 1-D, over its response tokens; log-probs are 0 where the mask is.

        Returns:
            `trained_samples`, `trained_tokens`; `lr`, the next step's learning rate; and, as means over the steps,
            `loss`, `grad_norm` and these means over a step's trained tokens: `clip_fraction`, `entropy`, `kl` (to the
            reference model), `tis_weight`, `mismatch` (absolute difference of trainer's and sampler's log-probs) and
            `mismatch_kl` (k3 estimate of KL(sampler || trainer)). The last two are there whether or not they are
            corrected for.
            Where no sample can be trained on, only `loss`, `trained_samples` and `trained_tokens`, all 0: no step is
            taken.
        """
        self.model.train()
        pairs = zip(samples, advantages, strict=True)
        used = [(s, a) for s, a in pairs if not s.remove_sample and any(s.loss_mask or ())]
        if not used:
            return {"loss": 0.0, "trained_samples": 0, "trained_tokens": 0}
        rows = [s for s, _ in used]
        per_token = [self._advantages(s, a) for s, a in used]
        steps = self.options.num_steps_per_rollout
        old = self._score_frozen(self.model, rows) if steps > 1 else None
        ref = None
        if self.options.loss.use_kl_loss and self.ref is not None:
            ref = self._score_frozen(self.ref, rows)
        episodes = by_episode(rows)
        parts = [[n for episode in episodes[part] for n in episode] for part in _split(len(episodes), steps)]
        report: dict[str, float] = {}
        for part in parts:
            figures = self._policy_step(
                [rows[n] for n in part],
                [per_token[n] for n in part],
                None if old is None else [old[n] for n in part],
                None if ref is None else [ref[n] for n in part],
                scored or (lambda sample, log_probs, advantages: None),
            )
            for key, value in figures.items():
                report[key] = report.get(key, 0.0) + value / len(parts)
        tokens = sum(sum(row.loss_mask or ()) for row in rows)
        return report | {"trained_samples": len(rows), "trained_tokens": tokens, "lr": self.learning_rate()}

    def _policy_step(
        self,
        rows: Sequence[TrainSample],
        advantages: Sequence[torch.Tensor],
        old: Sequence[torch.Tensor] | None,
        ref: Sequence[torch.Tensor] | None,
        scored: Scored,
    ) -> dict[str, float]:
        """One optimizer step: the loss and the means of `grpo_step`.

        Args:
            advantages, old, ref: one 1-D tensor per row, aligned with its response tokens. `old` are log-probs before
                the rollout's first step (None: this is the only one), `ref` the reference model's (None: no KL term).
        """
        o = self.options.loss
        trained = [sum(r.loss_mask or ()) for r in rows]
        tokens, episodes = sum(trained), by_episode(rows)
        denominator = tokens if o.calculate_per_token_loss else len(episodes)
        shared = {n: sum(trained[m] for m in episode) for episode in episodes for n in episode}
        sums: dict[str, float] = {}
        for batch in micro_batches(rows, self.options.max_tokens_per_gpu):
            part = [rows[n] for n in batch]
            masks, counts = [self._mask(r) for r in part], [shared[n] for n in batch]

            # 1. what the policy says now
            scores = score_tokens(self.model, part, self.options.rollout_temperature, entropy=True)
            assert scores.entropy is not None

            # 2. the loss of each token; everything below is 1-D over the response tokens of row n
            policy_losses: list[torch.Tensor] = []
            regularizers: list[torch.Tensor] = []
            for n, log_probs, mask, entropy in zip(batch, scores.log_probs, masks, scores.entropy):
                before = log_probs.detach() if old is None else old[n]
                scored(rows[n], before, advantages[n])
                sampled = torch.tensor(rows[n].rollout_log_probs, device=self.model.device)

                loss, clipped = policy_loss(log_probs, before, advantages[n], mask, o)
                if o.use_opsm:
                    loss = loss * opsm_mask(log_probs, before, advantages[n], mask, o.opsm_delta)
                weights = tis_weights(before, sampled, o)
                if o.use_tis:
                    loss = loss * weights
                policy_losses.append(loss)

                regularizer = -o.entropy_coef * entropy
                kl = torch.zeros_like(entropy)
                if ref is not None:
                    kl = approx_kl(log_probs, ref[n], o.kl_loss_type)
                    regularizer = regularizer + o.kl_loss_coef * kl
                regularizers.append(regularizer)

                figures = {
                    "clip_fraction": clipped,
                    "entropy": entropy,
                    "mismatch": (before - sampled).abs(),
                    "mismatch_kl": approx_kl(sampled, before, "k3"),
                    "kl": kl,
                    "tis_weight": weights,
                }
                for key, values in figures.items():
                    sums[key] = sums.get(key, 0.0) + _total(values, mask) / tokens

            # 3. one number, whose gradient adds up over the micro-batches
            policy_term = self._reduced(policy_losses, masks, counts, denominator)
            total = policy_term + reduce(regularizers, masks, denominator, o.calculate_per_token_loss, counts)
            torch.autograd.backward(total)
            sums["loss"] = sums.get("loss", 0.0) + float(total.detach())
        return sums | {"grad_norm": self._optimizer_step()}

    def _reduced(
        self, losses: list[torch.Tensor], masks: list[torch.Tensor], counts: list[int], denominator: int
    ) -> torch.Tensor:
        """The policy term: a mean over episodes or tokens, or Dr.GRPO's sum over a constant."""
        if not self.options.loss.dr_grpo:
            return reduce(losses, masks, denominator, self.options.loss.calculate_per_token_loss, counts)
        lengths = [len(m) for m in masks]
        summed: torch.Tensor = dr_grpo(lengths, lengths, masks)(torch.cat(losses))
        return summed / max(denominator, 1)

    @torch.no_grad()
    def _score_frozen(self, model: CausalLM, rows: Sequence[TrainSample]) -> list[torch.Tensor]:
        """Log-probs of each row's response tokens, without a gradient."""
        out: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for batch in micro_batches(rows, self.options.max_tokens_per_gpu):
            scores = score_tokens(model, [rows[n] for n in batch], self.options.rollout_temperature)
            for n, log_probs in zip(batch, scores.log_probs):
                out[n] = log_probs
        return out

    def _advantages(self, sample: TrainSample, advantage: float) -> torch.Tensor:
        """One float per response token: the sample's own where it carries them, else `advantage` at each."""
        carried: list[float] | None = getattr(sample, FIELD, None)
        per_token = [advantage] * sample.response_length if carried is None else carried
        return torch.tensor(per_token, device=self.model.device)

    def _mask(self, row: Row) -> torch.Tensor:
        return torch.tensor(row.loss_mask, dtype=torch.float32, device=self.model.device)


def _split(count: int, parts: int) -> list[slice]:
    """At most `parts` consecutive slices of `count` episodes; a remainder joins the last."""
    parts = min(parts, count)
    size = count // parts
    return [slice(n * size, count if n == parts - 1 else (n + 1) * size) for n in range(parts)]


def _total(values: torch.Tensor, mask: torch.Tensor) -> float:
    return float((values.detach() * mask).sum())
