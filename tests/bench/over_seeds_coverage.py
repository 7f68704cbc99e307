"""PYTHONPATH=tests python tests/bench/over_seeds_coverage.py

How often the 95 % interval of `estimators.over_seeds` holds the true difference, and how wide it is: 200 held-out tasks,
4 attempts at each, 3 or 5 seeds of training, which differ by nothing or by much; from task to task the effect varies by
10 points (standard deviations). For each row seeds, tasks and attempts are drawn anew SIMULATIONS times; the truth is 3
points. Three minutes of one core.
"""

import itertools

import numpy as np
import simulated_seeds

from slime_tau2.evaluation import estimators

SIMULATIONS, TASKS, EFFECT, BETWEEN_TASKS = 200, 200, 0.03, 0.1


def main() -> None:
    estimators.RESAMPLES_OVER_SEEDS = 500
    print("seeds | sd between seeds | coverage | width", flush=True)
    rng = np.random.default_rng(0)
    for seeds, between_seeds in itertools.product((3, 5), (0.0, 0.02, 0.05)):
        held, width = 0, 0.0
        for _ in range(SIMULATIONS):
            without, with_it = simulated_seeds.pair(
                rng, seeds=seeds, tasks=TASKS, effect=EFFECT, between_seeds=between_seeds, between_tasks=BETWEEN_TASKS
            )
            e = estimators.over_seeds(with_it, without)
            held, width = held + (e.low <= EFFECT <= e.high), width + e.high - e.low
        print(
            f"{seeds:5} | {100 * between_seeds:13.0f} pt | {held / SIMULATIONS:8.1%} | "
            f"{100 * width / SIMULATIONS:.1f} pt",
            flush=True,
        )


if __name__ == "__main__":
    main()
