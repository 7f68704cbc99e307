"""What a study shows, and what it could not have shown. Reads what the cells have left, finished or not.

Differences are paired by task and by seed, and their intervals are over both (`estimators.over_seeds`). Beside each
stands the smallest effect that so many tasks, attempts and seeds show four times in five, from the variance that this
study itself found. One comparison was declared primary before the first run; the others are exploratory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, sqrt
from pathlib import Path
from typing import Any

from slime_tau2.domains.helpdesk.environment import NAME
from slime_tau2.evaluation import estimators, scores, variance
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.experiments import study_curves
from slime_tau2.experiments.spending import Spending
from slime_tau2.experiments.study_cells import Result, Successes
from slime_tau2.experiments.study_curves import Part
from slime_tau2.experiments.study_grid import BASELINE, CELLS, CONTROL, StudySettings, jobs

METRICS = ("pass^1", "pass@4", "pass^4")


Seeds = Mapping[int, Result]
"""{seed: its result}."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A comparison: one cell minus another, over the seeds that have both."""

    cell: str
    against: str
    pooled: Estimate
    """With its interval over seeds, tasks and attempts."""
    by_seed: Mapping[int, Estimate]
    """Of each seed's two models, over tasks."""
    smallest: float
    """The smallest true effect that such a study shows four times in five; nan where its attempts or its seeds do not
    say.
    """

    @classmethod
    def between(cls, cell: str, against: str, results: Mapping[str, Seeds], metric: str) -> Difference | None:
        """None where no seed has both."""
        b, a = results.get(cell, {}), results.get(against, {})
        seeds = sorted(set(a) & set(b))
        if not seeds:
            return None
        ours, theirs = [b[s].successes for s in seeds], [a[s].successes for s in seeds]
        values = [(estimators.by_task(y, metric), estimators.by_task(x, metric)) for x, y in zip(ours, theirs)]
        pooled = estimators.over_seeds(ours, theirs, metric)
        return cls(
            cell=cell,
            against=against,
            pooled=pooled,
            by_seed={s: estimators.paired_difference(x, y) for s, (x, y) in zip(seeds, values)},
            smallest=_smallest(pooled, ours, theirs) if metric == METRICS[0] else float("nan"),
        )

    @property
    def name(self) -> str:
        return f"{self.cell} − {self.against}"

    def to_json(self) -> dict[str, Any]:
        return {
            **self.pooled.to_json(),
            "seeds": {str(seed): estimate.to_json() for seed, estimate in self.by_seed.items()},
            "smallest effect": None if isnan(self.smallest) else self.smallest,
        }


def _smallest(pooled: Estimate, ours: Sequence[Successes], theirs: Sequence[Successes]) -> float:
    """The smallest effect in pass^1 for which such an interval leaves 0 out four times in five: half its width, and as
    many standard errors as an estimate is low by in one study of five. The standard error is of the components'. One
    seed says nothing of seeds: nan.
    """
    attempts = min(len(s) for model in (*ours, *theirs) for s in model.values())
    tasks = len(set.intersection(*(set(model) for model in (*ours, *theirs))))
    if attempts < 2 or tasks < 2 or len(ours) < 2:
        return float("nan")
    parts = variance.of_difference(*variance.cells(theirs, ours))
    error = sqrt(parts.of_mean(tasks=tasks, attempts=attempts, seeds=len(ours)))
    return (pooled.high - pooled.low) / 2 + variance.quantile(variance.POWER) * error


@dataclass(frozen=True, kw_only=True)
class Row:
    """A cell over its seeds."""

    name: str
    about: str
    metrics: Mapping[str, Estimate]
    """Those of METRICS for which every task has the attempts."""
    by_seed: Mapping[int, float]
    """The metric that the study compares, of each seed."""
    families: Mapping[str, Estimate]
    """The same by family of held-out tasks, where there are several."""
    behaviour: Mapping[int, Mapping[str, float]]
    """{seed: `behaviour.means` of its held-out episodes}."""
    failures: Mapping[str, float]
    spending: Mapping[int, Spending]
    wall_s: Mapping[int, float]
    learning: Mapping[str, Sequence[Part]]
    """{axis: the training in parts}; no parts where it samples once."""
    selected: Mapping[str, float]
    """`rejection.Selection.counts`, means over the seeds; {} where no seed's result has them."""

    @classmethod
    def of(cls, name: str, models: Seeds, metric: str) -> Row:
        seeds = sorted(models)
        successes = [models[seed].successes for seed in seeds]
        fewest = min(len(attempts) for model in successes for attempts in model.values())
        shown = [m for m in METRICS if int(m[-1]) <= fewest]
        return cls(
            name=name,
            about=CELLS[name].about,
            metrics={m: estimators.over_seeds(successes, metric=m) for m in shown},
            by_seed={s: _mean(estimators.by_task(models[s].successes, metric)) for s in seeds},
            families=_by_family(successes, metric),
            behaviour={s: models[s].behaviour for s in seeds},
            failures=_means([models[seed].failures for seed in seeds]),
            spending={seed: models[seed].spending for seed in seeds},
            wall_s={s: models[s].wall_s for s in seeds},
            learning={axis: study_curves.parts([models[s].curve for s in seeds], axis) for axis in study_curves.AXES},
            selected=_means([models[s].selected for s in seeds if models[s].selected]),
        )

    @property
    def held_out(self) -> dict[str, float]:
        """What the model does in its held-out episodes: means over the seeds."""
        return _means(list(self.behaviour.values()))

    def to_json(self) -> dict[str, Any]:
        return {
            "about": self.about,
            **{name: estimate.to_json() for name, estimate in self.metrics.items()},
            "by seed": {str(seed): round(value, 4) for seed, value in self.by_seed.items()},
            "by family": {name: estimate.to_json() for name, estimate in self.families.items()},
            "held-out episodes": {name: round(value, 4) for name, value in self.held_out.items()},
            "failures": {name: round(value, 4) for name, value in self.failures.items()},
            "spent": {
                str(seed): {**spent.to_json(), "minutes": round(self.wall_s[seed] / 60, 1)}
                for seed, spent in self.spending.items()
            },
            "train success": {
                axis: {str(part.up_to): round(part.success, 4) for part in parts}
                for axis, parts in self.learning.items()
            },
            "selected for RFT": {what: round(count, 2) for what, count in self.selected.items()},
        }


def _by_family(models: Sequence[Successes], metric: str) -> dict[str, Estimate]:
    """{family: the metric over its tasks}, by the families of the domain that studies are of; {} where there is one."""
    family = {task: scores.family((NAME, task)) for model in models for task in model}
    names = sorted(set(family.values()))
    if len(names) < 2:
        return {}
    return {
        name: estimators.over_seeds([{t: s for t, s in m.items() if family[t] == name} for m in models], metric=metric)
        for name in names
    }


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _means(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each key; a key that a table lacks is 0 there."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: sum(table.get(key, 0.0) for table in tables) / len(tables) for key in keys}


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """What a study shows so far."""

    settings: StudySettings
    ended: int
    """Cells that have ended."""
    cells: int
    """All cells."""
    primary: Difference | None
    """None while no seed has both sides."""
    secondary: Sequence[Difference]
    rows: Mapping[str, Row] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path, settings: StudySettings, results: Mapping[str, Seeds]) -> StudyReport:
        pairs = [Difference.between(cell, against, results, settings.metric) for cell, against in settings.secondary]
        return cls(
            settings=settings,
            ended=sum(map(len, results.values())),
            cells=len(jobs(directory, settings)),
            primary=Difference.between(*settings.primary, results, settings.metric),
            secondary=[difference for difference in pairs if difference is not None],
            rows={name: Row.of(name, results[name], settings.metric) for name in CELLS if name in results},
        )

    @property
    def budgets(self) -> dict[str, dict[int, float]]:
        """{what: {seed: the control's over the baseline's}}: 1 where both spent as much."""
        sides = [self.rows[name].spending for name in (CONTROL, BASELINE) if name in self.rows]
        if len(sides) < 2:
            return {}
        ours, theirs = sides
        both = sorted(set(ours) & set(theirs))
        counts = ("episodes", "sampled_tokens", "sequences", "trained_tokens")
        return {c: {s: getattr(ours[s], c) / max(getattr(theirs[s], c), 1) for s in both} for c in counts}

    def to_json(self) -> dict[str, Any]:
        """What report.json holds."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "cells": {"ended": self.ended, "of": self.cells},
            "primary": None if self.primary is None else {"what": self.primary.name, **self.primary.to_json()},
            "secondary": {difference.name: difference.to_json() for difference in self.secondary},
            "results": {name: row.to_json() for name, row in self.rows.items()},
            "control's budget over the baseline's": self.budgets,
        }
