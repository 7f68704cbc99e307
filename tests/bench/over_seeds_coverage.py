"""PYTHONPATH=tests python tests/bench/over_seeds_coverage.py

How often the 95 % interval of `estimators.over_seeds` holds the true difference, and how wide it is: 200 held-out tasks,
4 attempts at each, 2, 3 or 5 seeds of training, which differ by nothing or by much; from task to task the effect varies by
10 points (standard deviations). For each row seeds, tasks and attempts are drawn anew SIMULATIONS times; the truth is 3
points. Four minutes of one core.
"""

import numpy as np
import simulated_seeds

from slime_tau2.evaluation import estimators

SIMULATIONS, TASKS, EFFECT, BETWEEN_TASKS = 200, 200, 0.03, 0.1


def main() -> None:
    estimators.RESAMPLES_OVER_SEEDS = 500
    print("seeds | sd between seeds | coverage | width", flush=True)
    for seeds in (2, 3, 5):
        rng = np.random.default_rng(0)
        for between_seeds in (0.0, 0.02, 0.05):
            held, width = coverage(rng, seeds, between_seeds)
            print(f"{seeds:5} | {100 * between_seeds:13.0f} pt | {held:8.1%} | {100 * width:.1f} pt", flush=True)


def coverage(rng, seeds, between_seeds):
    """(share of the intervals that hold the truth, their mean width)."""
    held, width = 0, 0.0
    for _ in range(SIMULATIONS):
        without, with_it = simulated_seeds.pair(
            rng, seeds=seeds, tasks=TASKS, effect=EFFECT, between_seeds=between_seeds, between_tasks=BETWEEN_TASKS
        )
        e = estimators.over_seeds(with_it, without)
        held, width = held + (e.low <= EFFECT <= e.high), width + e.high - e.low
    return held / SIMULATIONS, width / SIMULATIONS


if __name__ == "__main__":
    main()
