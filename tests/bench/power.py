"""Whether plans keep what they promise: `python tests/bench/power.py`. A quarter of an hour of one core.

First, plans of `slime-tau2 plan` between two models, for several shapes of difficulty: the share of simulated
comparisons whose paired interval (that of `slime-tau2 compare`) excludes 0 on the right side, against the 80 % that
were asked for; then the same where nothing is to be seen, which 2.5 % per side may take for an effect; with the fewest
tasks that a plan may have, too. Second, plans over seeds of training: by Student's t over seeds and tasks, which the
plan assumes, and by the hierarchical interval that `slime-tau2 study` reports.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_left
from math import sqrt
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np
import simulated_policies as policies

from slime_tau2.evaluation import estimators, variance
from slime_tau2.evaluation.estimators import LEVEL
from slime_tau2.evaluation.power import LEAST_TASKS, Case, Coupling, Difficulty
from slime_tau2.evaluation.variance import Cells

SIMULATIONS, OVER_SEEDS = 1000, 300
estimators.RESAMPLES, estimators.RESAMPLES_OVER_SEEDS = 1000, 500
ASKED = [(0.04, 0.3, 0.1), (0.36, 0.5, 0.05), (0.36, 0.5, 0.15), (0.65, 0.4, 0.08), (0.9, 0.6, 0.05), (0.5, 0.1, 0.1)]
"""(rate of the baseline, share between tasks, effect)"""
TRAINED = [(0.0, 0.05, 4), (0.02, 0.05, 5), (0.04, 0.08, 5), (0.04, 0.12, 3)]
"""(deviation between seeds, effect, seeds)"""


def two_models(rng: np.random.Generator) -> None:
    print(
        "shape  | baseline, between, effect | attempts | ρ    | tasks | seen  | seen where there is nothing, either side"
    )
    for shape in policies.SHAPES:
        for rate, between, effect in ASKED:
            for kept, attempts in ((1.0, 4), (0.8, 4), (0.0, 1)):
                known = {"shape": shape, "rate": rate, "between": between, "kept": kept}
                rho = policies.correlation(**known, effect=effect)
                case = Case("", Difficulty(rate=rate, between=between), Coupling(correlation=rho))
                tasks = case.tasks(effect, attempts)
                seen = _seen(rng, tasks, attempts, {**known, "effect": effect})
                none = _seen(rng, tasks, attempts, {**known, "effect": 0.0})
                print(
                    f"{shape:6} | {rate:8.0%}, {between:7.0%}, {effect:+6.0%} | {attempts:8} | {rho:.2f} | {tasks:5} | "
                    f"{seen[0]:5.1%} | {none[0]:.1%}, {none[1]:.1%}",
                    flush=True,
                )
    fewest = {"shape": "smooth", "rate": 0.4, "between": 0.5, "kept": 1.0, "effect": 0.0}
    print(
        f"{LEAST_TASKS} tasks × 4, nothing to see: {', '.join(f'{s:.1%}' for s in _seen(rng, LEAST_TASKS, 4, fewest))}"
    )


def _seen(rng: np.random.Generator, tasks: int, attempts: int, known: dict[str, float]) -> tuple[float, float]:
    """(share of comparisons that show b above a, share that show it below)."""
    above = below = 0
    for _ in range(SIMULATIONS):
        rates = policies.pair(rng, **known, tasks=tasks)
        a, b = (dict(enumerate(rng.binomial(attempts, side) / attempts)) for side in rates)
        found = estimators.paired_difference(a, b)
        above, below = above + (found.low > 0), below + (found.high < 0)
    return above / SIMULATIONS, below / SIMULATIONS


def two_methods(rng: np.random.Generator) -> None:
    print("between seeds | effect | seeds | tasks × 4 | by t: seen, nothing | hierarchical: seen, nothing")
    baseline = Difficulty(rate=0.45, between=0.3)
    for deviation, effect, seeds in TRAINED:
        known = {"shape": "smooth", "rate": 0.45, "between": 0.3, "kept": 0.9}
        rho = policies.correlation(**known, effect=effect)
        case = Case("", baseline, Coupling(correlation=rho, seed=deviation))
        tasks = bisect_left(
            range(3000), True, lo=20, key=lambda t: (case.smallest(tasks=t, attempts=4, seeds=seeds) or 1.0) <= effect
        )
        if tasks == 3000:
            print(f"{deviation:13.0%} | {effect:+6.0%} | {seeds:5} | no number of tasks is enough")
            continue
        shares = [_trained(rng, deviation, seeds, tasks, {**known, "effect": e}) for e in (effect, 0.0)]
        told = [", ".join(f"{part[n]:.1%}" for part in shares) for n in (0, 1)]
        print(f"{deviation:13.0%} | {effect:+6.0%} | {seeds:5} | {tasks:9} | {told[0]:19} | {told[1]}", flush=True)


def _trained(
    rng: np.random.Generator, deviation: float, seeds: int, tasks: int, known: dict[str, float]
) -> tuple[float, float]:
    """Share of studies that show b above a: (by t, by the hierarchical interval)."""
    by_t = hierarchical = 0
    for _ in range(OVER_SEEDS):
        first, second = policies.pair(rng, **known, tasks=tasks)
        shifts = rng.normal(0, deviation, seeds)
        a = [policies.attempt(rng, first, 4) for _ in shifts]
        b = [policies.attempt(rng, np.clip(second + shift, 0, 1), 4) for shift in shifts]
        by_t += _t_interval(*variance.cells(a, b))[0] > 0
        hierarchical += estimators.over_seeds(b, a).low > 0
    return by_t / OVER_SEEDS, hierarchical / OVER_SEEDS


def _t_interval(a: Cells, b: Cells) -> tuple[float, float]:
    """By Student's t over seeds and tasks: what differs from seed to seed is estimated as it stands, without components
    that are cut off at 0.
    """
    means, parts = (b.rates - a.rates).mean(1), variance.of_difference(a, b)
    seeds, tasks = b.rates.shape
    over_seeds, over_tasks = means.var(ddof=1) / seeds, parts.task / tasks
    freedom = (over_seeds + over_tasks) ** 2 / (over_seeds**2 / (seeds - 1) + over_tasks**2 / (tasks - 1))
    half = variance.quantile((1 + LEVEL) / 2, freedom) * sqrt(over_seeds + over_tasks)
    return means.mean() - half, means.mean() + half


if __name__ == "__main__":
    generator = np.random.default_rng(2026)
    print(f"load {os.getloadavg()[0]:.1f}; {SIMULATIONS} simulations per row, {OVER_SEEDS} per row of seeds")
    two_models(generator)
    two_methods(generator)
