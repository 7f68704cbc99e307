"""The training stages of the local pipeline: SFT (and RFT, the same on selected data) and GRPO.

Each resumes from its newest whole checkpoint and ends with one Hugging Face model directory. They know nothing of how
data came to be, nor of evaluation.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.data.traces import TokenRow
from slime_tau2.experiments.arguments import slime_args
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.hooks import trainer_dump
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.rewards import reward_post_process
from slime_tau2.local import checkpoint
from slime_tau2.local.batches import length_bucketed
from slime_tau2.local.losses import LossOptions
from slime_tau2.local.models import save_model
from slime_tau2.local.process import ServerProcess
from slime_tau2.local.rollout import generate_rollout
from slime_tau2.local.trainer import Trainer, TrainOptions
from slime_tau2.tokenizer import Tokenizer

SFT_SAVE_INTERVAL, GRPO_SAVE_INTERVAL = 100, 5


@dataclass(kw_only=True)
class Stage:
    """One stage of a training: where it lives, and whom it tells."""

    name: str
    directory: Path
    """Directory of the stage's checkpoints, weights and model."""
    tick: Callable[[int, int, dict[str, float]], None]
    """Called after each step with (steps done, steps in all, metrics)."""
    metrics_path: Path
    """The run's metrics.jsonl: one line per step."""
    lags_ms: list[float] = field(default_factory=list)
    """How late the event loop was during rollouts, in milliseconds."""

    @property
    def model(self) -> Path:
        """Directory of the model that the stage ends with."""
        return self.directory / "model"

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return (self.directory / "done.json").exists()

    def log(self, step: int, of: int, metrics: dict[str, float]) -> None:
        """Write the step's line, and call `tick`."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": self.name, "step": step, **metrics}) + "\n")
        self.tick(step, of, metrics)

    def finish(self, model: Any, tokenizer: Tokenizer) -> None:
        """Save the model; from then on the stage is done."""
        save_model(self.model, model, tokenizer)
        files.write_whole(self.directory / "done.json", "{}")


def train_sft(
    stage: Stage,
    trainer: Trainer,
    tokenizer: Tokenizer,
    rows: Sequence[TokenRow],
    *,
    steps: int,
    batch_size: int,
    seed: int,
) -> None:
    """Train on rows for `steps` optimizer steps, in length-bucketed epochs."""
    state = checkpoint.load(stage.directory / "checkpoints", trainer) or {"iteration": 0}
    lengths = [len(row.tokens) for row in rows]
    step = epoch = 0
    while step < steps:
        order = random.Random(f"{seed}:{stage.name}:{epoch}")
        for batch in length_bucketed(len(rows), lengths, batch_size, order):
            if step >= steps:
                break
            step += 1
            if step <= state["iteration"]:
                continue
            stage.log(step, steps, trainer.sft_step([rows[n] for n in batch]))
            if step % SFT_SAVE_INTERVAL == 0:
                checkpoint.save(stage.directory / "checkpoints", step, trainer, tokenizer, {})
        epoch += 1
    stage.finish(trainer.model, tokenizer)


def train_grpo(
    stage: Stage,
    trainer: Trainer,
    tokenizer: Tokenizer,
    server: ServerProcess,
    *,
    settings: PipelineSettings,
    paths: Mapping[str, str],
) -> None:
    """Rounds of rollout, group normalisation, training and a weight update: `settings.grpo_steps` of them, or until
    `settings.grpo_episodes` are sampled.

    Args:
        paths: options of the hooks that name files.
    """
    args = slime_args(settings, server.url, stage.directory / "weights", stage.directory, paths)
    root = stage.directory / "checkpoints"
    state = checkpoint.load(root, trainer) or {"iteration": 0}
    step, episodes = state["iteration"], state.get("episodes", 0)
    save_model(stage.directory / "weights", trainer.model, tokenizer)
    source = Tau2DataSource(args)
    if step:
        source.load_state_dict(state["data_source"])
    while step < settings.grpo_steps and episodes < (settings.grpo_episodes or math.inf):
        step += 1
        server.load(stage.directory / "weights")
        try:
            rollout = asyncio.run(generate_rollout(args, step - 1, source))
        finally:
            server.check()  # a dead server is a better answer than what its absence caused
        stage.lags_ms += rollout.lags_ms
        episodes += int(rollout.metrics["rollout/episodes"] + rollout.metrics["rollout/cut_off"])
        raw, advantages = reward_post_process(args, rollout.samples)
        assert len(raw) == len(rollout.samples)
        said = trainer_dump.Said()
        trained = trainer.grpo_step(rollout.samples, advantages, said.take)
        said.write(args, step - 1)
        save_model(stage.directory / "weights", trainer.model, tokenizer)
        stage.log(step, settings.grpo_steps, {**rollout.metrics, **trained})
        if step % GRPO_SAVE_INTERVAL == 0 or step == settings.grpo_steps:
            state = {"data_source": source.state_dict(), "episodes": episodes}
            checkpoint.save(root, step, trainer, tokenizer, state)
    stage.finish(trainer.model, tokenizer)


def grpo_options(settings: PipelineSettings) -> TrainOptions:
    """GRPO as slime would run it, by default with clip-higher, truncated importance sampling, no KL and mean-only
    advantages.
    """
    loss = LossOptions.of(settings.grpo_loss, "--set grpo_loss")
    return TrainOptions(
        lr=settings.grpo_lr, weight_decay=0.0, num_steps_per_rollout=settings.grpo_steps_per_rollout, loss=loss
    )


def sft_options(lr: float, steps: int) -> TrainOptions:
    """SFT and RFT: cosine decay after a short warm-up."""
    return TrainOptions(
        lr=lr, min_lr=lr / 20, lr_warmup_iters=min(20, steps), lr_decay_style="cosine", train_iters=steps
    )
