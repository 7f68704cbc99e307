"""Models that were never trained: successes drawn from what tasks, seeds of training and attempts do to them."""

import numpy as np

TASK_BY_SEED = 0.1
"""Standard deviation of what a seed does to a task beyond both, in a success rate."""


def models(rng, rates, attempts=4):
    """One model per row of success rates [seeds, tasks]: {task: success of each attempt}."""
    drawn = rng.random((*rates.shape, attempts)) < rates[..., None]
    return [dict(enumerate(row.tolist())) for row in drawn]


def pair(rng, *, seeds, tasks, effect, between_seeds=0.0, between_tasks=0.0, attempts=4):
    """(models without, models with) something that adds `effect` to a success rate.

    Args:
        between_seeds: standard deviation, over seeds, of the difference.
        between_tasks: standard deviation of the effect over tasks, the same for every seed.
    """
    rates = rng.uniform(0.25, 0.55, (1, tasks))  # far from 0 and 1, so that nothing is cut off
    sides = []
    for mean in (rates, rates + effect + rng.normal(0, between_tasks, (1, tasks))):
        noise = rng.normal(0, between_seeds / 2**0.5, (seeds, 1))
        noise = noise + rng.normal(0, TASK_BY_SEED / 2**0.5, (seeds, tasks))
        sides.append(models(rng, np.clip(mean + noise, 0, 1), attempts))
    return sides
