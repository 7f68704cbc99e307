"""`slime-tau2 study`: run what is missing of the grid, then report it; resumable like everything here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_tau2 import manifest
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import watch
from slime_tau2.experiments.directory import StageModel
from slime_tau2.experiments.episodes import Episodes
from slime_tau2.experiments.pipeline import Pipeline
from slime_tau2.experiments.settings import SMOKE, PipelineSettings, pipeline_settings
from slime_tau2.experiments.study_grid import (
    BASELINE,
    VARIANTS,
    Job,
    StudySettings,
    Variant,
    jobs,
    repeat,
    seed_directory,
    variant_directory,
)
from slime_tau2.experiments.study_report import write_report
from slime_tau2.options import Source, build

FIRST_REPEAT_SEED = 1000
"""Seed of the first further evaluation: none of a pipeline's own seeds comes near it."""


def main(
    *,
    output: Path,
    seeds: int,
    variants: Sequence[str] | None,
    smoke: bool,
    assignments: list[str],
    console: Console,
) -> None:
    """Run or resume a study, then report it.

    Raises:
        ConfigError: an unknown variant or setting; another study in `output`.
    """
    named = {assignment.partition("=")[0] for assignment in assignments}
    changed = pipeline_settings(assignments, {}).model_dump(mode="json", include=named)
    sources: tuple[Source, ...] = (
        ("--seeds", {"seeds": seeds}),
        ("--smoke", {"seeds": 1, "repeats": 2} if smoke else {}),
        ("--variant", {} if variants is None else {"variants": tuple(variants)}),
        ("--set", {"pipeline": {**(SMOKE if smoke else {}), **changed}}),
    )
    settings = build(StudySettings, sources, "")
    with watch.watching(console) as progress:
        run(output, settings, progress)
    write_report(output, console)


def run(directory: Path, settings: StudySettings, progress: watch.Progress) -> None:
    """Run what is missing.

    Raises:
        ConfigError: the directory holds another study.
    """
    with manifest.claim(directory, settings):
        for job in jobs(directory, settings):
            _run_job(job, seed_directory(directory, job.seed), settings, progress)
        first = seed_directory(directory, 0)
        episodes = Episodes(first, settings.of_seed(0), progress)
        for n in range(settings.repeats):
            episodes.evaluate(repeat(n), layout.model(first, layout.STAGES[-1]), seed=FIRST_REPEAT_SEED + n)


def _run_job(job: Job, origin: Path, settings: StudySettings, progress: watch.Progress) -> None:
    """Run one cell of the grid; `origin` holds its seed's own pipeline."""
    plain = settings.of_seed(job.seed)
    if job.name == BASELINE:
        Pipeline(origin, plain, progress).run()
        return
    variant = VARIANTS[job.name]
    changed = variant.settings or _as_much(origin, plain, variant.stage)
    pipeline = Pipeline(job.directory, settings.of_seed(job.seed, **changed), progress)
    pipeline.run_stage(variant.stage, _start(origin, variant))


def _start(origin: Path, variant: Variant) -> StageModel:
    """The model that a variant starts from."""
    if variant.start in VARIANTS:
        return StageModel(variant_directory(origin, variant.start), VARIANTS[variant.start].stage)
    return StageModel(origin, variant.start)


def _as_much(origin: Path, settings: PipelineSettings, stage: str) -> dict[str, Any]:
    """Settings with which a supervised stage spends what the seed's GRPO did, counted in episodes."""
    rollouts = layout.rollouts(origin)
    sampled = sum(int(r["rollout/episodes"]) for r in rollouts)
    trained = sum(int(r["trained_samples"]) for r in rollouts)
    if stage == "rft":
        return {
            "rft_attempts": max(1, round(sampled / settings.rft_tasks)),
            "rft_steps": max(1, trained // settings.sft_batch),
        }
    return {"sft_lr": settings.rft_lr, "sft_steps": max(1, (sampled + trained) // settings.sft_batch)}
