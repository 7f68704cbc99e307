"""A grid of trainings on helpdesk: does each stage, and each way of rewarding GRPO, do what it promises?

For every seed the whole pipeline; then variants of GRPO, and controls, from that seed's own RFT model at equal budget;
then the same model evaluated again and again, for the noise of the evaluation. The grid and its one primary comparison
are written down before the first run. `study` runs it, `study_results` reads what is there, `study_report` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is trained instead of the default GRPO (`gated`)."""

    about: str
    """What it is, for the report."""
    stage: str = "grpo"
    """The stage that is trained: sft or rft for a control."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the pipeline that differ; {}: a control, which spends what the seed's GRPO did."""
    every_seed: bool = False
    """Whether every seed has it, or the first only."""
    start: str = "rft"
    """The model that it starts from: a stage of the seed's own pipeline, or another variant's."""


def _tau2(**options: Any) -> dict[str, Any]:
    return {"tau2": options}


VARIANTS = {
    "none": Variant(about="no shaping: tau2's reward alone", settings=_tau2(shaping="none"), every_seed=True),
    "turn": Variant(about="gated shaping, turn credit", settings=_tau2(credit="turn"), every_seed=True),
    "rft_continued": Variant(
        about="control: RFT again, as many episodes sampled and trained on", stage="rft", every_seed=True
    ),
    "sft_continued": Variant(
        about="control: SFT goes on, a trace for each episode that GRPO sampled or trained on",
        stage="sft",
        every_seed=True,
    ),
    "turn_discounted": Variant(about="gated shaping, discounted turn credit", settings=_tau2(credit="turn_discounted")),
    "card": Variant(about="the card's shaping", settings=_tau2(shaping="card")),
    "curriculum": Variant(about="curriculum on", settings=_tau2(curriculum=True)),
    "std": Variant(about="advantages divided by the group's deviation", settings=_tau2(advantage="std")),
    "group_4": Variant(
        about="4 samples per group, twice the groups", settings={"grpo_group_size": 4, "grpo_groups": 32}
    ),
    "group_16": Variant(
        about="16 samples per group, half the groups", settings={"grpo_group_size": 16, "grpo_groups": 8}
    ),
    "audit_tau2": Variant(about="audit: tau2's own fractions, at weight 1", settings=_tau2(shaping="card", alpha=1.0)),
    "audit_strict": Variant(
        about="audit: strict partial scores, at weight 1", settings=_tau2(shaping="gated", alpha=1.0)
    ),
    "weak": Variant(
        about="audit: SFT ended before it has learned to copy names",
        stage="sft",
        settings={"sft_steps": 300},
        start="base",
    ),
    "weak_tau2": Variant(
        about="audit: from there, tau2's own fractions", settings=_tau2(shaping="card", alpha=1.0), start="weak"
    ),
    "weak_strict": Variant(
        about="audit: from there, strict partial scores", settings=_tau2(shaping="gated", alpha=1.0), start="weak"
    ),
}
BASELINE = "gated"
"""The default: a seed's own GRPO run."""


class StudySettings(Manifest):
    """The whole grid, written down before the first run."""

    FILE: ClassVar[str] = "study.json"
    KIND: ClassVar[str] = "study"

    seeds: int = Field(3, gt=0)
    """Whole pipelines, with seeds 0, 1, …"""
    repeats: int = Field(6, ge=0)
    """Evaluations of the first seed's GRPO model, for the noise of one."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which of VARIANTS to run."""
    primary: tuple[str, str, str] = (BASELINE, "none", "pass^1")
    """The one comparison that is not exploratory: (this, against this, in this metric)."""
    pipeline: dict[str, Any] = Field(default_factory=dict)
    """Settings of the pipeline that differ from the study's own."""

    @field_validator("variants")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in VARIANTS:
                raise ValueError(f"there is no variant {name!r}; there are {', '.join(VARIANTS)}")
            if VARIANTS[name].start in VARIANTS and VARIANTS[name].start not in names:
                raise ValueError(f"variant {name} starts from {VARIANTS[name].start}; name that one, too")
        return names

    def of_seed(self, seed: int, **changed: Any) -> PipelineSettings:
        return PipelineSettings(**{"eval_attempts": 8, "grpo_steps": 24, **self.pipeline, **changed, "seed": seed})


@dataclass(frozen=True)
class Job:
    """One cell of the grid, and the directory of its results."""

    seed: int
    name: str
    directory: Path

    @property
    def stage(self) -> str:
        return "grpo" if self.name == BASELINE else VARIANTS[self.name].stage


def seed_directory(study: Path, seed: int) -> Path:
    return study / f"seed_{seed}"


def variant_directory(origin: Path, name: str) -> Path:
    return origin / "variants" / name


def repeat(n: int) -> str:
    """Name of the first seed's n-th further evaluation."""
    return f"repeat_{n}"


def jobs(directory: Path, settings: StudySettings) -> list[Job]:
    """All cells in the order they are run: pipelines, what every seed has, then the rest."""
    seeds = range(settings.seeds)
    out = [Job(seed, BASELINE, seed_directory(directory, seed)) for seed in seeds]
    for everywhere in (True, False):
        for seed in seeds if everywhere else seeds[:1]:
            names = [n for n in settings.variants if VARIANTS[n].every_seed == everywhere]
            out += [Job(seed, n, variant_directory(seed_directory(directory, seed), n)) for n in names]
    return out
