"""A grid of trainings on helpdesk: does each stage, and each way of rewarding GRPO, do what it promises?

For every seed the whole pipeline; then variants of GRPO, and controls, from that seed's own RFT model at equal budget;
then the same model evaluated again and again, for the noise of the evaluation. The grid and its one primary comparison
are written down before the first run. `study` runs it, `study_report` reads what is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.experiments.settings import PipelineSettings


@dataclass(frozen=True)
class Variant:
    """What is trained instead of the default GRPO (`gated`), with `stage` sft or rft for a control.

    `start` is the model that it starts from: one of the seed's own pipeline, or another variant's. `every_seed`: not of
    the first only.
    """

    about: str
    stage: str = "grpo"
    settings: dict[str, Any] = field(default_factory=dict)
    every_seed: bool = False
    start: str = "rft"


def _tau2(**options: Any) -> dict[str, Any]:
    return {"tau2": options}


VARIANTS = {
    "none": Variant("no shaping: tau2's reward alone", settings=_tau2(shaping="none"), every_seed=True),
    "turn": Variant("gated shaping, turn credit", settings=_tau2(credit="turn"), every_seed=True),
    "rft_continued": Variant("control: RFT again, as many episodes sampled and trained on", "rft", every_seed=True),
    "sft_continued": Variant(
        "control: SFT goes on, a trace for each episode that GRPO sampled or trained on", "sft", every_seed=True
    ),
    "turn_discounted": Variant("gated shaping, discounted turn credit", settings=_tau2(credit="turn_discounted")),
    "card": Variant("the card's shaping", settings=_tau2(shaping="card")),
    "curriculum": Variant("curriculum on", settings=_tau2(curriculum=True)),
    "std": Variant("advantages divided by the group's deviation", settings=_tau2(advantage="std")),
    "group_4": Variant("4 samples a group, twice the groups", settings={"grpo_group_size": 4, "grpo_groups": 32}),
    "group_16": Variant("16 samples a group, half the groups", settings={"grpo_group_size": 16, "grpo_groups": 8}),
    "audit_tau2": Variant("audit: tau2's own fractions, at weight 1", settings=_tau2(shaping="card", alpha=1.0)),
    "audit_strict": Variant("audit: strict partial scores, at weight 1", settings=_tau2(shaping="gated", alpha=1.0)),
    "weak": Variant("audit: SFT ended before it has learned to copy names", "sft", {"sft_steps": 300}, start="base"),
    "weak_tau2": Variant(
        "audit: from there, tau2's own fractions", settings=_tau2(shaping="card", alpha=1.0), start="weak"
    ),
    "weak_strict": Variant(
        "audit: from there, strict partial scores", settings=_tau2(shaping="gated", alpha=1.0), start="weak"
    ),
}
BASELINE = "gated"
"""The default: a seed's own GRPO run."""


class StudySettings(BaseModel):
    """The whole grid, written to study.json before the first run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seeds: int = Field(3, gt=0)
    """Whole pipelines, with seeds 0, 1, …"""
    repeats: int = Field(6, ge=0)
    """Evaluations of the first seed's GRPO model, for the noise of one."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which of VARIANTS to run."""
    primary: tuple[str, str, str] = (BASELINE, "none", "pass^1")
    """The one comparison that is not exploratory: (this, against this, in this metric)."""
    pipeline: dict[str, Any] = {}
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


def claim(directory: Path, settings: StudySettings) -> None:
    """Write the grid down, or see that it is the one that was."""
    path, wanted = directory / "study.json", settings.model_dump(mode="json")
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    found = files.read_object(path)
    if found != wanted:
        changed = [k for k in wanted if found.get(k) != wanted[k]]
        raise ConfigError(f"{directory} holds a study with other settings ({', '.join(changed)}); use another --output")
