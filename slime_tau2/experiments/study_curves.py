"""Learning curves of a study's cells, over the episodes and over the tokens that were sampled, as means over seeds.
Pure.

What is averaged is the success on train tasks as they are drawn: the held-out tasks are evaluated once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np

from slime_tau2.experiments.spending import Point

WINDOW = 4
"""Rollouts that a curve is averaged over."""
PARTS = 5
"""Parts of a budget whose success is told apart."""
Axis = Literal["episodes", "tokens"]
AXES: tuple[Axis, ...] = ("episodes", "tokens")


class Part(NamedTuple):
    """One part of a training's budget."""

    up_to: int
    """Everything sampled by its end."""
    success: float
    """Share of what was sampled within it that succeeded."""


def parts(curves: Sequence[Sequence[Point]], axis: Axis) -> list[Part]:
    """A training in PARTS equal parts of its episodes or tokens, means over seeds. A rollout counts in a part by how
    much of it lies there. [] where a seed has sampled once: what it learned then is in no curve.
    """
    if any(len(curve) < 2 for curve in curves):
        return []
    each = [_parts(curve, axis) for curve in curves]
    return [
        Part(round(fmean(part.up_to for part in seeds)), fmean(part.success for part in seeds)) for seeds in zip(*each)
    ]


def _parts(curve: Sequence[Point], axis: Axis) -> list[Part]:
    ends = np.array([0, *(getattr(point, axis) for point in curve)])
    episodes = np.diff([0, *(point.episodes for point in curve)])
    success = np.array([point.success for point in curve])
    borders = np.linspace(0, ends[-1], PARTS + 1)
    within = [np.diff(ends.clip(low, high)) / np.diff(ends) for low, high in pairwise(borders)]
    return [
        Part(round(high), float(np.average(success, weights=episodes * share)))
        for high, share in zip(borders[1:], within)
    ]


def mean_curve(curves: Sequence[Sequence[Point]], axis: Axis) -> list[tuple[float, float]]:
    """Mean over seeds of the success, each averaged over WINDOW rollouts, at 50 places up to where all seeds are."""
    places = [[float(getattr(point, axis)) for point in curve] for curve in curves]
    smooth = [
        [fmean(p.success for p in curve[max(0, n + 1 - WINDOW) : n + 1]) for n in range(len(curve))] for curve in curves
    ]
    begin, end = max(p[0] for p in places), min(p[-1] for p in places)
    grid = np.linspace(begin, max(begin, end), 50 if end > begin else 1)
    values = np.mean([np.interp(grid, xs, ys) for xs, ys in zip(places, smooth)], axis=0)
    return [(float(x), float(y)) for x, y in zip(grid, values)]
