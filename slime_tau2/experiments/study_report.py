"""What a grid of trainings shows, and what it does not.

Every difference is paired by task: over the seeds that both sides have, a task's value is the mean of its seeds', and
intervals resample tasks. How much a training differs from seed to seed is shown beside it, not inside it. One
comparison was declared before the first run; all others are exploratory. Reads only what the runs have written,
finished or not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import estimators, plots
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.tables import cell, points
from slime_tau2.experiments.directory import STAGES
from slime_tau2.experiments.study_grid import BASELINE, VARIANTS, StudySettings
from slime_tau2.experiments.study_results import Result, load_results, plateau, reached

LEGEND = (
    "episodes: sampled in training; plateau: how many until its success reached what `none` ended at; both seed "
    "by seed; "
    "incomplete, repeated: % of held-out episodes with a call that lacks a required argument, or repeats one; "
    "tau2's, strict: % of the checks met as tau2 counts them, and the strict partial score"
)


def write_report(directory: Path, console: Console) -> None:
    """Print the tables, write report.json and study.svg.

    Raises:
        ConfigError: no pipeline of the study has finished.
    """
    settings = files.read_as(directory / "study.json", StudySettings, complete=True)
    results = load_results(directory, settings)
    if BASELINE not in results:
        raise ConfigError(f"no pipeline of {directory} has finished; run: slime-tau2 study --output {directory}")
    baseline = results[BASELINE]
    steps = [{seed: by[stage] for seed, by in results["stages"].items() if stage in by} for stage in STAGES]
    gains = {
        f"{b.upper()} − {a.upper()}": _difference(x, y) for (a, x), (b, y) in zip(_named(steps), _named(steps)[1:])
    }
    controls = {
        n: _difference(results[n], baseline)
        for n, v in VARIANTS.items()
        if n in results and v.stage != "grpo" and v.start == "rft"
    }
    gains |= {f"GRPO − {name}": gain for name, gain in controls.items()}
    variants = {name: _variant_row(name, results) for name in (BASELINE, *settings.variants) if name in results}
    report = {
        "settings": settings.model_dump(mode="json"),
        "primary": _primary(settings, results),
        "stages": {stage: _stage_row(found) for stage, found in zip(STAGES, steps)},
        "paired": gains,
        "variants": variants,
        "noise": _noise(results.get("repeats", {})),
    }
    (directory / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    alike = [BASELINE, *(n for n in settings.variants if VARIANTS[n].start == "rft")]
    curves = {n: results[n][0].curve for n in alike if 0 in results.get(n, {}) and results[n][0].curve}
    differences = {name: _estimate(row["difference"]) for name, row in variants.items() if row["difference"]}
    (directory / "study.svg").write_text(plots.study(curves, differences, BASELINE), encoding="utf-8")
    _print(report, console)
    console.print(f"everything: {directory / 'report.json'}, {directory / 'study.svg'}", soft_wrap=True)


Seeds = Mapping[int, Result]


def _named(steps: Sequence[Seeds]) -> list[tuple[str, Seeds]]:
    return list(zip(STAGES, steps))


def _pooled(runs: Seeds, seeds: Sequence[int], metric: str) -> dict[str, float]:
    """{task: mean over seeds}."""
    values = [estimators.by_task(runs[s].successes, metric) for s in seeds]
    return {task: fmean(v[task] for v in values) for task in values[0]}


def _difference(a: Seeds, b: Seeds, metric: str = "pass^1") -> dict[str, Any]:
    """b − a over the seeds that both have, with each seed's own difference."""
    seeds = sorted(set(a) & set(b))
    own = [estimators.paired_difference(_pooled(a, [s], metric), _pooled(b, [s], metric)) for s in seeds]
    whole = estimators.paired_difference(_pooled(a, seeds, metric), _pooled(b, seeds, metric))
    return {**whole.to_json(), "seeds": {str(s): e.to_json() for s, e in zip(seeds, own)}}


def _stage_row(runs: Seeds) -> dict[str, Any]:
    seeds = sorted(runs)
    row: dict[str, Any] = {"seeds": len(seeds)}
    for metric in ("pass^1", "pass@4", "pass^4"):
        if all(len(s) >= int(metric[-1]) for r in runs.values() for s in r.successes.values()):
            row[metric] = estimators.bootstrap_mean(list(_pooled(runs, seeds, metric).values())).to_json()
    row["pass^1 of each seed"] = [round(fmean(_pooled(runs, [s], "pass^1").values()), 4) for s in seeds]
    return row


def _variant_row(name: str, results: Mapping[str, Seeds]) -> dict[str, Any]:
    runs, plain = results[name], results.get("none", {})
    about = "gated shaping: the default" if name == BASELINE else VARIANTS[name].about
    alike = name != BASELINE and VARIANTS[name].start == "rft"  # what began elsewhere is not to be compared
    of_all = list(runs.values())
    comparable = name == BASELINE or (
        alike and name != "curriculum"
    )  # which serves other tasks, so that its training rewards are others
    reaches = {
        s: reached(r.curve, plateau(plain[s].curve)) for s, r in runs.items() if s in plain and r.curve and comparable
    }
    return {
        "about": about,
        **_stage_row(runs),
        "difference": _difference(results[BASELINE], runs) if alike else None,
        "episodes sampled": {str(s): r.sampled for s, r in runs.items()},
        "episodes to the plateau": {str(s): n for s, n in reaches.items()},
        **{key: round(fmean(getattr(r, field) for r in of_all), 4) for key, field in _SHARES.items()},
    }


_SHARES = {"incomplete": "incomplete", "repeated": "repeated", "tau2's": "tau2_fraction", "strict": "partial"}


def _primary(settings: StudySettings, results: Mapping[str, Seeds]) -> dict[str, Any] | None:
    this, against, metric = settings.primary
    if this not in results or against not in results:
        return None
    return {"what": f"{this} − {against} in {metric}", **_difference(results[against], results[this], metric)}


def _noise(repeats: Seeds) -> dict[str, Any] | None:
    """Of one model's pass^1 from evaluation to evaluation."""
    values = [fmean(_pooled(repeats, [n], "pass^1").values()) for n in sorted(repeats)]
    if len(values) < 2:
        return None
    return {
        "repeats": len(values),
        "pass^1": [round(v, 4) for v in values],
        "standard deviation": round(stdev(values), 4),
    }


def _estimate(found: Mapping[str, Any]) -> Estimate:
    return Estimate(**{f.name: found[f.name] for f in fields(Estimate)})


def _print(report: Mapping[str, Any], console: Console) -> None:
    stages = Table(title="Stages (%, 95 % CI over tasks; each seed's own pass^1)", title_justify="left")
    for column in ("", "pass^1", "pass@4", "pass^4", "seeds"):
        stages.add_column(column, justify="right" if column else "left")
    for name, row in report["stages"].items():
        own = "  ".join(f"{100 * v:.1f}" for v in row["pass^1 of each seed"])
        stages.add_row(
            name, *(cell(_estimate(row[m])) if m in row else "–" for m in ("pass^1", "pass@4", "pass^4")), own
        )
    console.print(stages)
    for name, gain in report["paired"].items():
        own = ", ".join(points(_estimate(e)) for e in gain["seeds"].values())
        console.print(
            f"{name} in pass^1: {points(_estimate(gain))}; seed by seed {own}", soft_wrap=True, highlight=False
        )
    outcomes = Table(
        title="GRPO and its variants, from the same RFT models (points against gated)", title_justify="left"
    )
    training = Table(title="How they got there, and by what means", title_justify="left")
    for table, columns in (
        (outcomes, ("", "seeds", "pass^1", "against gated")),
        (training, ("", "episodes", "plateau", *_SHARES)),
    ):
        for column in columns:
            table.add_column(column, justify="right" if column else "left")
    for name, row in report["variants"].items():
        gap = points(_estimate(row["difference"])) if row["difference"] else ""
        outcomes.add_row(name, str(row["seeds"]), cell(_estimate(row["pass^1"])), gap)
        to = " ".join("–" if n is None else str(n) for n in row["episodes to the plateau"].values())
        episodes = " ".join(map(str, row["episodes sampled"].values()))
        training.add_row(name, episodes, to, *(f"{100 * row[key]:.1f}" for key in _SHARES))
    console.print(outcomes)
    console.print(training)
    console.print(LEGEND, soft_wrap=True, highlight=False)
    if report["primary"]:
        console.print(
            f"primary, declared before the run: {report['primary']['what']}: {points(_estimate(report['primary']))}",
            soft_wrap=True,
        )
    if report["noise"]:
        noise = report["noise"]
        text = (
            f"the same model evaluated {noise['repeats']} times: pass^1 differs by "
            f"{100 * noise['standard deviation']:.2f} points (SD)"
        )
        console.print(text, soft_wrap=True, highlight=False)
