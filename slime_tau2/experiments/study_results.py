"""What a grid of trainings shows, and what it does not. Reads what the runs have written, finished or not.

Every difference is paired by task: over the seeds that both sides have, a task's value is the mean of its seeds', and
intervals resample tasks. How much a training differs from seed to seed is shown beside it, not inside it. One
comparison was declared before the first run; all others are exploratory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from slime_tau2.data import records
from slime_tau2.episode import worlds
from slime_tau2.evaluation import estimators, exploits, runs
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.directory import STAGES
from slime_tau2.experiments.study_grid import BASELINE, VARIANTS, Job, StudySettings, jobs, repeat, seed_directory
from slime_tau2.rewards.shaping import card_fractions

WINDOW = 4
"""Rollouts that a training curve is averaged over."""
METRICS = ("pass^1", "pass@4", "pass^4")
Curve = Sequence[tuple[int, float]]
"""(episodes sampled so far, success among the last WINDOW rollouts), one point per rollout."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a model's training took."""

    sampled: int = 0
    """Episodes that were sampled for it."""
    curve: Curve = ()
    """GRPO's success as it went on; empty for a supervised stage."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluated model."""

    successes: dict[str, list[bool]]
    """{held-out task: success of each attempt}."""
    partial: float
    """Mean strict partial score of the held-out episodes."""
    tau2_fraction: float
    """Mean fraction of the checks met as tau2 counts them."""
    incomplete: float
    """Share of held-out episodes with a call that lacks a required argument."""
    repeated: float
    """Share of held-out episodes with a call that repeats an earlier one."""
    training: Training = Training()


Seeds = Mapping[int, Result]
"""{seed: its model}."""


@dataclass(frozen=True)
class StudyResults:
    """The models of a study that have been evaluated."""

    variants: dict[str, dict[int, Result]] = field(default_factory=dict)
    """{variant, the baseline among them: {seed: model}}."""
    stages: dict[str, dict[int, Result]] = field(default_factory=dict)
    """{stage of the pipelines: {seed: model}}, for the pipelines that have come to their end."""
    repeats: dict[int, Result] = field(default_factory=dict)
    """{n: n-th further evaluation of the first seed's model}."""


def load_results(directory: Path, settings: StudySettings) -> StudyResults:
    """What has finished of a study.

    Raises:
        ConfigError: a file of a run is broken.
        EvaluationStopped: an evaluation is not whole.
    """
    required = exploits.required_arguments(worlds.load("helpdesk").tool_schemas)
    results = StudyResults(stages={stage: {} for stage in STAGES})
    for job in jobs(directory, settings):
        if not layout.is_evaluated(job.directory, job.stage):
            continue
        result = _result(layout.evaluation(job.directory, job.stage), required, _training(job))
        results.variants.setdefault(job.name, {})[job.seed] = result
        if job.name == BASELINE:
            for stage in STAGES[:-1]:
                results.stages[stage][job.seed] = _result(layout.evaluation(job.directory, stage), required)
            results.stages[STAGES[-1]][job.seed] = result
    first = seed_directory(directory, 0)
    for n in range(settings.repeats):
        if layout.is_evaluated(first, repeat(n)):
            results.repeats[n] = _result(layout.evaluation(first, repeat(n)), required)
    return results


def _result(evaluated: Path, required: dict[str, frozenset[str]], training: Training = Training()) -> Result:
    run = runs.load(evaluated)
    runs.require_scores(run.coverage, run.records, evaluated)
    counted = [exploits.exploits(record["messages"], required) for record in run.records]
    checks = [record["reward_info"] for record in run.records]
    fractions = [card_fractions(info) for info in checks if info is not None]  # all: each has a score
    return Result(
        successes={task_id: successes for (_, task_id), successes in run.successes.items()},
        partial=fmean(record["partial"] or 0.0 for record in run.records),
        tau2_fraction=fmean(fmean(f.values()) if f else 0.0 for f in fractions),
        incomplete=fmean(c.incomplete > 0 for c in counted),
        repeated=fmean(c.repeated > 0 for c in counted),
        training=training,
    )


def _training(job: Job) -> Training:
    """GRPO's from its log; a supervised control's are the episodes that it sampled to learn from."""
    rollouts = layout.rollouts(job.directory)
    if not rollouts:
        samples = layout.rft_samples(job.directory) / records.FILE
        return Training(sampled=sum(1 for _ in samples.open(encoding="utf-8")) if samples.exists() else 0)
    episodes = [int(r["rollout/episodes"]) for r in rollouts]
    rates = [r["rollout/success"] for r in rollouts]
    curve = [(sum(episodes[: n + 1]), fmean(rates[max(0, n + 1 - WINDOW) : n + 1])) for n in range(len(rollouts))]
    return Training(sampled=sum(episodes), curve=curve)


def plateau(curve: Curve) -> float:
    """Mean success over the last quarter of a training."""
    last = curve[-max(1, len(curve) // 4) :]
    return fmean(success for _, success in last)


def reached(curve: Curve, level: float) -> int | None:
    """Episodes until a curve has reached a level; None where it never does.

    The first points, means of too few rollouts, do not count.
    """
    return next((episodes for episodes, success in curve[WINDOW - 1 :] if success >= level), None)


@dataclass(frozen=True)
class Difference:
    """A difference between two variants or stages, paired by task."""

    pooled: Estimate
    """Over the seeds that both have."""
    by_seed: dict[int, Estimate]

    @classmethod
    def between(cls, a: Seeds, b: Seeds, metric: str = METRICS[0]) -> Difference:
        """b − a."""
        seeds = sorted(set(a) & set(b))
        by_seed = {s: estimators.paired_difference(_pooled(a, [s], metric), _pooled(b, [s], metric)) for s in seeds}
        return cls(estimators.paired_difference(_pooled(a, seeds, metric), _pooled(b, seeds, metric)), by_seed)

    def to_json(self) -> dict[str, Any]:
        return {**self.pooled.to_json(), "seeds": {str(seed): e.to_json() for seed, e in self.by_seed.items()}}


@dataclass(frozen=True)
class Scores:
    """The scores of one variant or stage."""

    metrics: dict[str, Estimate]
    """Those of METRICS for which every task has the attempts."""
    by_seed: list[float]
    """pass^1 of each seed."""

    @classmethod
    def of(cls, models: Seeds) -> Scores:
        seeds = sorted(models)
        fewest = min(len(attempts) for model in models.values() for attempts in model.successes.values())
        shown = [metric for metric in METRICS if int(metric[-1]) <= fewest]
        return cls(
            {m: estimators.bootstrap_mean(list(_pooled(models, seeds, m).values())) for m in shown},
            [fmean(_pooled(models, [seed], METRICS[0]).values()) for seed in seeds],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "seeds": len(self.by_seed),
            **{name: estimate.to_json() for name, estimate in self.metrics.items()},
            "pass^1 of each seed": [round(value, 4) for value in self.by_seed],
        }


@dataclass(frozen=True, kw_only=True)
class VariantRow:
    """One variant of GRPO, or a control: what it earned, and how it got there."""

    about: str
    scores: Scores
    difference: Difference | None
    """Against the baseline; None for the baseline, and for what began elsewhere, which is not to be compared."""
    sampled: dict[int, int]
    """{seed: episodes sampled in training}."""
    to_plateau: dict[int, int | None]
    """{seed: episodes until success reached what `none` ended at, None where it never did}; {} where that says nothing.
    """
    shares: dict[str, float]
    """Shares over held-out episodes: those with an exploit, and the checks met as tau2 and as the strict score count
    them.
    """

    @classmethod
    def of(cls, name: str, results: StudyResults) -> VariantRow:
        models, unshaped = results.variants[name], results.variants.get("none", {})
        is_baseline = name == BASELINE
        is_alike = not is_baseline and VARIANTS[name].start == "rft"
        # the curriculum serves other tasks, so that its training rewards are others
        has_plateau = is_baseline or (is_alike and name != "curriculum")
        curves = {s: m.training.curve for s, m in models.items() if has_plateau and s in unshaped and m.training.curve}
        results_of = list(models.values())
        return cls(
            about="gated shaping: the default" if is_baseline else VARIANTS[name].about,
            scores=Scores.of(models),
            difference=Difference.between(results.variants[BASELINE], models) if is_alike else None,
            sampled={seed: model.training.sampled for seed, model in models.items()},
            to_plateau={s: reached(curve, plateau(unshaped[s].training.curve)) for s, curve in curves.items()},
            shares={
                "incomplete": fmean(r.incomplete for r in results_of),
                "repeated": fmean(r.repeated for r in results_of),
                "tau2's": fmean(r.tau2_fraction for r in results_of),
                "strict": fmean(r.partial for r in results_of),
            },
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "about": self.about,
            **self.scores.to_json(),
            "difference": None if self.difference is None else self.difference.to_json(),
            "episodes sampled": {str(seed): n for seed, n in self.sampled.items()},
            "episodes to the plateau": {str(seed): n for seed, n in self.to_plateau.items()},
            **{name: round(share, 4) for name, share in self.shares.items()},
        }


@dataclass(frozen=True)
class Noise:
    """How much one model's pass^1 differs from evaluation to evaluation."""

    values: list[float]
    """pass^1 of each, at least two."""

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return stdev(self.values)

    def to_json(self) -> dict[str, Any]:
        return {
            "repeats": len(self.values),
            "pass^1": [round(value, 4) for value in self.values],
            "standard deviation": round(self.deviation, 4),
        }


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a study shows."""

    settings: StudySettings
    primary: Difference | None
    """The one comparison that was declared; None where one side is missing."""
    stages: dict[str, Scores]
    paired: dict[str, Difference]
    """{`SFT − BASE`, …: difference in pass^1}, stage by stage, then GRPO against the controls."""
    variants: dict[str, VariantRow]
    noise: Noise | None
    """None with fewer than two further evaluations."""

    @classmethod
    def of(cls, settings: StudySettings, results: StudyResults) -> StudyReport:
        """What a study with a finished pipeline shows."""
        baseline = results.variants[BASELINE]
        paired = {
            f"{b.upper()} − {a.upper()}": Difference.between(results.stages[a], results.stages[b])
            for a, b in pairwise(STAGES)
        }
        for name, variant in VARIANTS.items():
            if name in results.variants and variant.stage != STAGES[-1] and variant.start == "rft":
                paired[f"GRPO − {name}"] = Difference.between(results.variants[name], baseline)
        this, against, metric = settings.primary
        has_both = this in results.variants and against in results.variants
        repeats = [fmean(_pooled(results.repeats, [n], METRICS[0]).values()) for n in sorted(results.repeats)]
        return cls(
            settings=settings,
            primary=(
                Difference.between(results.variants[against], results.variants[this], metric) if has_both else None
            ),
            stages={stage: Scores.of(models) for stage, models in results.stages.items()},
            paired=paired,
            variants={n: VariantRow.of(n, results) for n in (BASELINE, *settings.variants) if n in results.variants},
            noise=Noise(repeats) if len(repeats) > 1 else None,
        )

    @property
    def primary_name(self) -> str:
        this, against, metric = self.settings.primary
        return f"{this} − {against} in {metric}"

    def to_json(self) -> dict[str, Any]:
        """What report.json holds."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "primary": None if self.primary is None else {"what": self.primary_name, **self.primary.to_json()},
            "stages": {stage: scores.to_json() for stage, scores in self.stages.items()},
            "paired": {name: difference.to_json() for name, difference in self.paired.items()},
            "variants": {name: row.to_json() for name, row in self.variants.items()},
            "noise": None if self.noise is None else self.noise.to_json(),
        }


def _pooled(models: Seeds, seeds: Sequence[int], metric: str) -> dict[str, float]:
    """{task: mean over seeds}."""
    values = [estimators.by_task(models[seed].successes, metric) for seed in seeds]
    return {task: fmean(by_task[task] for by_task in values) for task in values[0]}
