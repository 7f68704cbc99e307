"""`slime-tau2 study`: run what is missing of the grid, then report it; resumable like everything here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from slime_tau2.errors import ConfigError
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import watch
from slime_tau2.experiments.episodes import Episodes
from slime_tau2.experiments.pipeline import Pipeline
from slime_tau2.experiments.settings import SMOKE, PipelineSettings, pipeline_settings
from slime_tau2.experiments.study_grid import (
    BASELINE,
    VARIANTS,
    StudySettings,
    Variant,
    claim,
    jobs,
    repeat,
    seed_directory,
    variant_directory,
)
from slime_tau2.experiments.study_report import write_report


def main(
    output: Path, seeds: int, variants: Sequence[str] | None, smoke: bool, assignments: list[str], console: Console
) -> None:
    """Run or resume a study, then report it.

    Raises:
        ConfigError: an unknown variant or setting; another study in `output`.
    """
    changed = pipeline_settings(assignments, {}).model_dump(
        mode="json", include={a.partition("=")[0] for a in assignments}
    )
    size: dict[str, Any] = {"seeds": 1, "repeats": 2} if smoke else {"seeds": seeds}
    chosen = {} if variants is None else {"variants": tuple(variants)}
    try:
        settings = StudySettings(**size, **chosen, pipeline={**(SMOKE if smoke else {}), **changed})
    except ValidationError as error:
        raise ConfigError(f"--variant: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    with watch.watching(console) as progress:
        run(output, settings, progress)
    write_report(output, console)


def run(directory: Path, settings: StudySettings, progress: watch.Progress) -> None:
    """Run what is missing.

    Raises:
        ConfigError: the directory holds another study.
    """
    claim(directory, settings)
    for job in jobs(directory, settings):
        origin = seed_directory(directory, job.seed)
        if job.name == BASELINE:
            Pipeline(origin, settings.of_seed(job.seed), progress).run()
            continue
        chosen = VARIANTS[job.name]
        changed = chosen.settings or _as_much(origin, settings.of_seed(job.seed), chosen.stage)
        Pipeline(job.directory, settings.of_seed(job.seed, **changed), progress).run_stage(
            chosen.stage, _start(origin, chosen)
        )
    first = Episodes(seed_directory(directory, 0), settings.of_seed(0), progress)
    for n in range(settings.repeats):
        first.evaluate(repeat(n), layout.model(seed_directory(directory, 0), layout.STAGES[-1]), seed=1000 + n)


def _start(origin: Path, variant: Variant) -> Path:
    if variant.start in VARIANTS:
        return layout.model(variant_directory(origin, variant.start), VARIANTS[variant.start].stage)
    return layout.model(origin, variant.start)


def _as_much(origin: Path, settings: PipelineSettings, stage: str) -> dict[str, Any]:
    """Settings with which a supervised stage spends what the seed's GRPO did, counted in episodes."""
    rows = {r["step"]: r for r in layout.read_metrics(origin) if r["stage"] == "grpo"}
    sampled, trained = (sum(int(r[key]) for r in rows.values()) for key in ("rollout/episodes", "trained_samples"))
    if stage == "rft":
        return {
            "rft_attempts": max(1, round(sampled / settings.rft_tasks)),
            "rft_steps": max(1, trained // settings.sft_batch),
        }
    return {"sft_lr": settings.rft_lr, "sft_steps": max(1, (sampled + trained) // settings.sft_batch)}
