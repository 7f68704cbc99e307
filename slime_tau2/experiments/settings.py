"""Settings of the local pipeline, one docstring per field; the defaults are the quickstart's."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from slime_tau2.manifest import Manifest
from slime_tau2.options import build, parse_assignments


class PipelineSettings(Manifest):
    """SFT → RFT → GRPO → evaluation on helpdesk. Sizes are for two cores and ten minutes."""

    FILE: ClassVar[str] = "settings.json"
    KIND: ClassVar[str] = "run"

    tasks: str = "helpdesk"
    """What RFT, GRPO and evaluations play: the bundled domain, or the directory of a task set of it."""
    seed: int = 0
    """Seed of everything: weights, traces, data order, users, sampling."""
    traces: int = Field(4500, gt=0)
    """Teacher episodes of single requests, those of the bundled domain, that SFT learns from."""
    flaws: float = Field(0.22, ge=0)
    """How flawed the teacher is in them (1: each habit at its own probability; 0: an expert)."""
    set_traces: int = Field(600, ge=0)
    """Teacher episodes of the train tasks of `tasks`, where that is a task set, that SFT learns from beside those."""
    set_flaws: float = Field(1.0, ge=0)
    """How flawed the teacher is in them."""
    sft_steps: int = Field(1400, gt=0)
    """Optimizer steps of SFT."""
    sft_batch: int = Field(16, gt=0)
    """Traces per step, in SFT and RFT."""
    sft_lr: float = Field(3e-3, gt=0)
    """Peak learning rate of SFT."""
    rft_tasks: int = Field(750, gt=0)
    """Train tasks that RFT samples, spread over the families; here and in the rest of the pipeline, those of
    `train+val`.
    """
    rft_attempts: int = Field(2, gt=0)
    """Attempts at each task of `rft_tasks`; RFT's data are selected from them."""
    rft_min_partial: float = Field(0.6, ge=0, le=1)
    """Least strict partial score of a task's best attempt where none succeeded."""
    rft_steps: int = Field(90, gt=0)
    """Optimizer steps of RFT."""
    rft_sequences: int | None = Field(None, gt=0)
    """Sequences that RFT trains on, to a batch; None: those of `rft_steps`."""
    rft_lr: float = Field(5e-4, gt=0)
    """Peak learning rate of RFT."""
    grpo_steps: int = Field(32, gt=0)
    """Rollouts at most, each followed by training on it."""
    grpo_episodes: int | None = Field(None, gt=0)
    """Episodes that GRPO samples, those included that are dropped or cut off: it ends after the rollout that reaches
    them. None: after `grpo_steps`.
    """
    grpo_groups: int = Field(8, gt=0)
    """Groups per rollout (slime's rollout_batch_size)."""
    grpo_group_size: int = Field(8, gt=1)
    """Episodes per group (slime's n_samples_per_prompt)."""
    grpo_steps_per_rollout: int = Field(1, gt=0)
    """Optimizer steps on each rollout (slime's num_steps_per_rollout)."""
    grpo_lr: float = Field(5e-4, gt=0)
    """Learning rate of GRPO."""
    grpo_loss: dict[str, Any] = Field(default_factory=dict)
    """slime's loss options that differ from the recipe's (`local.losses.LossOptions`), e.g. {eps_clip: 0.1,
    use_kl_loss: true}.
    """
    tau2: dict[str, Any] = Field(default_factory=dict)
    """Options of the hooks during GRPO (`Tau2Config`, docs/hooks.md), e.g. {shaping: none, credit: turn}."""
    eval_attempts: int = Field(12, gt=0)
    """Attempts at each held-out task, after each stage."""
    eval_tasks: int | None = Field(None, gt=0)
    """How many held-out tasks are evaluated; None: all 150."""
    concurrency: int = Field(24, gt=0)
    """Live episodes at a time."""
    max_turn_tokens: int = Field(48, gt=0)
    """Longest agent turn, in tokens."""
    max_response_tokens: int = Field(1024, gt=0)
    """Longest episode after its prompt, in tokens."""


SMOKE = {
    "traces": 120,
    "sft_steps": 12,
    "rft_tasks": 60,
    "rft_attempts": 1,
    "rft_min_partial": 0.0,
    "rft_steps": 4,
    "grpo_steps": 2,
    "grpo_groups": 3,
    "grpo_group_size": 3,
    "eval_attempts": 2,
    "eval_tasks": 12,
    "max_turn_tokens": 24,
    "max_response_tokens": 200,
}
"""A run of about a minute that learns nothing: `slime-tau2 quickstart --smoke`."""


def pipeline_settings(assignments: list[str], defaults: dict[str, Any]) -> PipelineSettings:
    """Settings from `--set KEY=VALUE`, over other defaults.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    changed = parse_assignments(assignments, PipelineSettings.model_fields, "--set")
    return build(PipelineSettings, (("the command's defaults", defaults), ("--set", changed)), "")
