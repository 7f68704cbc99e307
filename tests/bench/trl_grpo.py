"""The local trainer's GRPO update beside trl's GRPOTrainer: the same model, batch and options; gradients first, then
speed.

    pip install trl==1.16.0 accelerate
    python tests/bench/trl_grpo.py outputs/quickstart

The batch is the first 128 SFT traces of a quickstart: whole episodes of several turns, only the agent's tokens trained.
Log-probs of the sampler are perturbed so that ratios span 0.5 to 1.6, beyond both clipping borders; advantages are 1,
0.5 and -0.5. trl is given every micro-batch size in turn and its best counts. Both do forward, backward, clipping and
AdamW; runs alternate.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from slime_tau2.data import traces
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.hooks.compat import Sample
from slime_tau2.local.batches import score_tokens
from slime_tau2.local.losses import LossOptions
from slime_tau2.local.models import load_model
from slime_tau2.local.trainer import Trainer, TrainOptions
from slime_tau2.tokenizer import load_tokenizer

BATCH, ROUNDS, TRL_SIZES = 128, 5, (8, 16, 32, 64, 128)
EPS, EPS_HIGH, LR = 0.2, 0.28, 1e-6


def batch(directory: Path, model, tokenizer) -> tuple[list[Sample], list[float]]:
    chat = ChatRenderer(tokenizer, worlds.load("helpdesk").tool_schemas)
    rows = [
        one
        for row, _ in zip(traces.read_rows(directory / "data" / "sft.jsonl"), range(BATCH))
        for one in traces.tokenise(row, chat)
    ]
    generator = torch.Generator().manual_seed(0)
    samples, spread = [], []
    for n, row in enumerate(rows):
        with torch.no_grad():
            own = score_tokens(model, [row]).log_probs[0]
        ratio = 0.5 + 1.1 * torch.rand(len(own), generator=generator)
        old = (own - ratio.log()).clamp(max=0.0)
        spread += (own - old).exp()[torch.tensor(row.loss_mask) > 0].tolist()
        samples.append(
            Sample(
                index=n,
                tokens=row.tokens,
                response_length=len(row.loss_mask),
                loss_mask=row.loss_mask,
                rollout_log_probs=old.tolist(),
            )
        )
    print(f"ratios of trained tokens from {min(spread):.2f} to {max(spread):.2f}")
    return samples, [(1.0, -0.5, 0.5, 1.0)[n % 4] for n in range(len(samples))]


class Ours:
    def __init__(self, model, samples, advantages):
        options = TrainOptions(
            lr=LR, weight_decay=0.0, adam_beta2=0.999, loss=LossOptions(eps_clip=EPS, eps_clip_high=EPS_HIGH)
        )
        self.trainer, self.samples = Trainer(model, options), samples
        self.old = [torch.tensor(s.rollout_log_probs) for s in samples]
        self.advantages = [torch.full((s.response_length,), a) for s, a in zip(samples, advantages)]

    def backward(self) -> float:
        """Gradients of the whole batch, left in the model."""
        kept, self.trainer._optimizer_step = self.trainer._optimizer_step, lambda: 0.0
        try:
            return self.trainer._policy_step(self.samples, self.advantages, self.old, None)["loss"]
        finally:
            self.trainer._optimizer_step = kept

    def step(self) -> None:
        self.trainer._policy_step(self.samples, self.advantages, self.old, None)


class Theirs:
    def __init__(self, model, tokenizer, samples, advantages, size):
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        config = GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=1,
            num_generations=size,
            epsilon=EPS,
            epsilon_high=EPS_HIGH,
            beta=0.0,
            loss_type="grpo",
            temperature=1.0,
            learning_rate=LR,
            gradient_checkpointing=False,
            report_to=[],
            logging_steps=10**9,
        )
        prompts = Dataset.from_list([{"prompt": "x"}] * size)
        self.trainer = GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=config,
            train_dataset=prompts,
            processing_class=tokenizer,
        )
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.999), weight_decay=0.0)
        parts = [range(i, min(i + size, len(samples))) for i in range(0, len(samples), size)]
        self.share = [len(p) / len(samples) for p in parts]
        self.inputs = [self._inputs([samples[n] for n in p], [advantages[n] for n in p]) for p in parts]
        self.trainer.current_gradient_accumulation_steps = 1

    @staticmethod
    def _inputs(samples, advantages):
        heads = [s.tokens[: len(s.tokens) - s.response_length] for s in samples]
        tails = [s.tokens[len(s.tokens) - s.response_length :] for s in samples]
        longest, widest = max(map(len, heads)), max(map(len, tails))
        left = lambda xs, fill: [fill] * (longest - len(xs)) + list(xs)  # noqa: E731
        right = lambda xs, fill: list(xs) + [fill] * (widest - len(xs))  # noqa: E731
        return {
            "prompt_ids": torch.tensor([left(h, 0) for h in heads]),
            "prompt_mask": torch.tensor([left([1] * len(h), 0) for h in heads]),
            "completion_ids": torch.tensor([right(t, 0) for t in tails]),
            "completion_mask": torch.tensor([right([1] * len(t), 0) for t in tails]),
            "tool_mask": torch.tensor([right(s.loss_mask, 0) for s in samples]),
            "advantages": torch.tensor(advantages),
            "old_per_token_logps": torch.tensor([right(s.rollout_log_probs, 0.0) for s in samples]),
        }

    def backward(self) -> float:
        total = 0.0
        for share, inputs in zip(self.share, self.inputs):
            loss = self.trainer._compute_loss(self.model, inputs) * share
            loss.backward()
            total += float(loss.detach())
        return total

    def step(self) -> None:
        self.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def gradients(model) -> dict[str, torch.Tensor]:
    out = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return out


def seconds(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="of a finished quickstart")
    directory = parser.parse_args().directory
    tokenizer, model = load_tokenizer(directory / "rft" / "model"), load_model(directory / "rft" / "model")
    samples, advantages = batch(directory, model, tokenizer)
    tokens = sum(len(s.tokens) for s in samples)
    print(
        f"{len(samples)} episodes, {tokens} tokens, {sum(sum(s.loss_mask) for s in samples)} of them trained; load {os.getloadavg()[0]:.1f}"
    )
    ours = Ours(copy.deepcopy(model), samples, advantages)
    theirs = {size: Theirs(copy.deepcopy(model), tokenizer, samples, advantages, size) for size in TRL_SIZES}
    own_loss = ours.backward()
    own = gradients(ours.trainer.model)
    for size, one in theirs.items():
        loss = one.backward()
        found = gradients(one.model)
        apart = max(float((own[n] - g).norm() / g.norm().clamp(min=1e-12)) for n, g in found.items())
        print(
            f"trl, {size} episodes at a time: loss {loss:+.6f} (ours {own_loss:+.6f}), largest relative difference of a tensor's gradient {apart:.1e}"
        )
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS + 1):
        times.setdefault("ours", []).append(seconds(ours.step))
        for size, one in theirs.items():
            times.setdefault(f"trl, {size} at a time", []).append(seconds(one.step))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name}: {tokens / median:,.0f} tokens/s (median of {ROUNDS}: {median:.2f} s)")
    best = min(v for n, v in medians.items() if n != "ours")
    print(f"ours against trl's best: {best / medians['ours']:.2f} times; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
