"""What the runs of a study left on disk, one small value a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from slime_tau2.episode import worlds
from slime_tau2.evaluation import exploits, runs
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.study_grid import BASELINE, StudySettings, jobs, repeat, seed_directory
from slime_tau2.rewards.shaping import card_fractions

WINDOW = 4
"""Rollouts that a training curve is averaged over."""
Curve = Sequence[tuple[int, float]]
"""(episodes sampled so far, success among the last WINDOW rollouts), a point a rollout."""


@dataclass(frozen=True)
class Result:
    """One evaluated model. `sampled` episodes are its training's; shares are of held-out episodes."""

    successes: dict[str, list[bool]]
    partial: float
    tau2_fraction: float
    incomplete: float
    repeated: float
    sampled: int = 0
    curve: Curve = ()


def load_results(directory: Path, settings: StudySettings) -> dict[str, dict]:
    """{variant: {seed: Result}} of what has finished, and under `stages` {seed: {stage: Result}}, under `repeats` {n:
    Result}.
    """
    required = exploits.required_arguments(worlds.load("helpdesk").tool_schemas)
    out: dict[str, dict] = {"stages": {}}
    for job in jobs(directory, settings):
        if not layout.is_evaluated(job.directory, job.stage):
            continue
        rows = {r["step"]: r for r in layout.read_metrics(job.directory) if r["stage"] == "grpo"}
        own = _result(
            layout.evaluation(job.directory, job.stage),
            required,
            _training(job.directory, [rows[s] for s in sorted(rows)]),
        )
        out.setdefault(job.name, {})[job.seed] = own
        if job.name == BASELINE:
            earlier = {s: _result(layout.evaluation(job.directory, s), required, {}) for s in layout.STAGES[:-1]}
            out["stages"][job.seed] = {**earlier, layout.STAGES[-1]: own}
    for n in range(settings.repeats):
        first = seed_directory(directory, 0)
        if layout.is_evaluated(first, repeat(n)):
            out.setdefault("repeats", {})[n] = _result(layout.evaluation(first, repeat(n)), required, {})
    return out


def _result(evaluated: Path, required: dict[str, frozenset[str]], training: dict[str, Any]) -> Result:
    run = runs.load(evaluated)
    runs.require_scores(run.coverage, run.records, evaluated)
    scored = run.records
    counted = [exploits.exploits(r["messages"], required) for r in scored]
    fractions = [card_fractions(r["reward_info"]) for r in scored]
    return Result(
        {task_id: won for (_, task_id), won in run.successes.items()},
        partial=fmean(r["partial"] for r in scored),
        tau2_fraction=fmean(fmean(f.values()) if f else 0.0 for f in fractions),
        incomplete=fmean(c.incomplete > 0 for c in counted),
        repeated=fmean(c.repeated > 0 for c in counted),
        **training,
    )


def _training(directory: Path, rollouts: list[dict[str, Any]]) -> dict[str, Any]:
    """Of GRPO from its log; of a supervised control, the episodes that it sampled to learn from."""
    if not rollouts:
        samples = directory / "data" / "rft_samples" / "attempts.jsonl"
        count = sum(1 for _ in samples.open(encoding="utf-8")) if samples.exists() else 0
        return {"sampled": count}
    episodes = [int(r["rollout/episodes"]) for r in rollouts]
    rates = [r["rollout/success"] for r in rollouts]
    curve = [(sum(episodes[: n + 1]), fmean(rates[max(0, n + 1 - WINDOW) : n + 1])) for n in range(len(rollouts))]
    return {"sampled": sum(episodes), "curve": curve}


def plateau(curve: Curve) -> float:
    """Mean success over the last quarter of a training."""
    last = curve[-max(1, len(curve) // 4) :]
    return fmean(success for _, success in last)


def reached(curve: Curve, level: float) -> int | None:
    """Episodes until a curve has reached a level; None where it never does. Its first points, means of too few
    rollouts, do not count.
    """
    return next((episodes for episodes, success in curve[WINDOW - 1 :] if success >= level), None)
