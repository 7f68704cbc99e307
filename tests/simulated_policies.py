"""Two policies' attempts at the same tasks, drawn from a distribution of difficulty that is known."""

from __future__ import annotations

from functools import cache

import numpy as np

SHAPES = ("smooth", "lumpy")
"""Difficulty: Beta distributed rates; or some tasks always solved, some never, and all others alike."""


@cache
def rates(shape, rate, between):
    """Success rates in rising order, as likely as each other: their mean is `rate`, the share of an attempt's variance
    between tasks `between`.
    """
    if shape == "smooth":
        both = 1 / between - 1
        return np.sort(np.random.default_rng(7).beta(rate * both, (1 - rate) * both, 100_001))
    never, always = round(1000 * between * (1 - rate)), round(1000 * between * rate)
    return np.array([0.0] * never + [rate] * (1000 - never - always) + [1.0] * always)


def correlation(*, shape, rate, between, effect, kept):
    """Of the true rates of a `pair` over tasks: below `kept` where gains are lumpy, too."""
    rank = np.arange(10_000) / 10_000
    first, second = rates(shape, rate, between), rates(shape, rate + effect, between)
    return kept * np.corrcoef(*(r[(rank * len(r)).astype(int)] for r in (first, second)))[0, 1]


def pair(rng, *, shape, rate, between, effect, kept, tasks):
    """([task] success rates of a, of b): b is better by `effect` on average, and spread alike.

    `kept` is the share of tasks at which b's rank among its rates is a's; at the others it is drawn anew.
    """
    rank = rng.random(tasks)
    other = np.where(rng.random(tasks) < kept, rank, rng.random(tasks))
    first, second = rates(shape, rate, between), rates(shape, rate + effect, between)
    return first[(rank * len(first)).astype(int)], second[(other * len(second)).astype(int)]


def attempt(rng, success, attempts):
    """{task: success of each attempt}"""
    drawn = rng.random((len(success), attempts)) < success[:, None]
    return {str(n): [bool(x) for x in row] for n, row in enumerate(drawn)}
