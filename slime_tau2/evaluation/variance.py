"""Where the variance of a success rate comes from: tasks, seeds of training, attempts. Pure.

The model, for a rate or for a difference of two rates y: y(task, seed) = mean + T(task) + S(seed) + TS(task, seed), all
independent with mean 0, and each attempt adds Bernoulli noise of variance p (1 - p). Components are moment estimates,
unbiased before those below 0 become 0: an attempt's variance from the attempts within a cell (k / (k - 1) p̂ (1 - p̂),
so that a cell needs two), the others from variances and covariances of the cells' rates less that noise.

Seeds of training are known apart only where there are several: one trained model says nothing about the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import atan, exp, inf, isinf, lgamma, pi, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from slime_tau2.evaluation.estimators import LEVEL, Task

POWER = 0.8
"""Chance to see an effect, by default."""
Successes = Mapping[Task, Sequence[bool]]
"""{task: success of each attempt} of one model."""
Array = NDArray[np.float64]
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
"""For integrals over [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances, in squared rates."""

    task: float
    """Between tasks, the same for every seed."""
    attempt: float
    """Between the attempts at one task, for one attempt; of a difference the sum of both sides'."""
    seed: float | None = None
    """Between seeds of training, the same for every task; None: nobody knows, from one seed."""
    task_by_seed: float = 0.0
    """Of what a seed does to a task beyond both; with one seed it is part of `task`."""

    def of_mean(self, *, tasks: float, attempts: float, seeds: int = 1) -> float:
        """Variance of the mean over so many tasks, seeds, and attempts in each cell.

        Where the variance between seeds is not known it counts as 0: the mean is then of these models, not of what
        trained them.
        """
        return sum(self._parts(tasks, attempts, seeds))

    def freedom(self, *, tasks: float, attempts: float, seeds: int) -> float:
        """Degrees of freedom of that variance where it is estimated (Satterthwaite, doi 10.2307/3002019).

        What differs from seed to seed has seeds - 1 of them, what differs from task to task tasks - 1. With one seed
        they are the tasks'.
        """
        over_tasks, over_seeds = self._parts(tasks, attempts, seeds)
        if seeds == 1 or self.seed is None:
            return tasks - 1
        below = over_tasks**2 / (tasks - 1) + over_seeds**2 / (seeds - 1)
        return (over_tasks + over_seeds) ** 2 / below if below else inf

    def _parts(self, tasks: float, attempts: float, seeds: int) -> tuple[float, float]:
        """(what stays where seeds are added, what falls with their number)."""
        cells = (self.task_by_seed + self.attempt / attempts) / (tasks * seeds)
        return self.task / tasks, (self.seed or 0.0) / seeds + cells


@dataclass(frozen=True)
class Cells:
    """The attempts of a method's models, one per seed, at tasks in a fixed order."""

    rates: Array
    """[seed, task] share of attempts that succeeded."""
    attempts: Array
    """[seed, task] how many there were, at least 2."""

    @property
    def noise(self) -> Array:
        """[seed, task] variance of the rate from its attempts: p̂ (1 - p̂) / (k - 1), unbiased."""
        noise: Array = self.rates * (1 - self.rates) / (self.attempts - 1)
        return noise

    @property
    def attempt(self) -> float:
        """Mean variance of one attempt."""
        return float((self.noise * self.attempts).mean())

    def take(self, tasks: NDArray[np.int64]) -> Cells:
        """Of these tasks, by their numbers; one may come more than once."""
        return Cells(self.rates[:, tasks], self.attempts[:, tasks])

    def seed(self, number: int) -> Cells:
        """Of one seed."""
        return Cells(self.rates[[number]], self.attempts[[number]])


def cells(*sides: Sequence[Successes[Task]]) -> list[Cells]:
    """Each side's models, one per seed, on the tasks that all models of all sides have.

    Raises:
        ValueError: fewer than two such tasks, or one with fewer than two attempts.
    """
    models = [model for side in sides for model in side]
    tasks = sorted(set.intersection(*(set(model) for model in models)), key=str)
    if len(tasks) < 2:
        raise ValueError("fewer than two tasks that all models were evaluated on")
    for task in tasks:
        if min(len(model[task]) for model in models) < 2:
            raise ValueError(f"task {task!r} has fewer than two attempts")
    return [
        Cells(
            np.array([[sum(model[t]) / len(model[t]) for t in tasks] for model in side]),
            np.array([[float(len(model[t])) for t in tasks] for model in side]),
        )
        for side in sides
    ]


def of_one(method: Cells) -> Components:
    """Components of a method's rate."""
    return _components(method.rates, method.noise, attempt=method.attempt)


def of_difference(a: Cells, b: Cells) -> Components:
    """Components of the difference b - a on the same tasks, paired by seed.

    Where `a` is one model and `b` several, it is the baseline of all.

    Raises:
        ValueError: as many seeds on neither side.
    """
    if len(a.rates) not in (1, len(b.rates)):
        raise ValueError(f"{len(a.rates)} models against {len(b.rates)}; pair them by seed, or name one baseline")
    common = a.noise[0] if len(a.rates) < len(b.rates) else None
    own = b.noise if common is not None else a.noise + b.noise
    return _components(b.rates - a.rates, own, common, attempt=a.attempt + b.attempt)


def _components(values: Array, noise: Array, common: Array | None = None, *, attempt: float) -> Components:
    """From cells [seed, task], the noise variance of each, and that of noise which all seeds of a task share."""
    seeds, tasks = values.shape
    stays = 0.0 if common is None else float(common.mean())
    covariances = np.atleast_2d(np.cov(values))
    within = float(np.diag(covariances).mean())
    if seeds == 1:
        return Components(task=max(within - float(noise.mean()) - stays, 0.0), attempt=attempt)
    between = (float(covariances.sum()) - seeds * within) / (seeds * (seeds - 1))
    both = within - between - float(noise.mean())
    seed = float(values.mean(1).var(ddof=1)) - (within - between) / tasks
    return Components(task=max(between - stays, 0.0), attempt=attempt, seed=max(seed, 0.0), task_by_seed=max(both, 0.0))


def smallest_effect(standard_error: float, power: float = POWER, freedom: float = inf) -> float:
    """The true effect that a two-sided interval of LEVEL excludes 0 for with the chance `power`.

    (t of the level + t of the power) standard errors; the normal's quantiles where `freedom` is infinite.
    """
    return (quantile((1 + LEVEL) / 2, freedom) + quantile(power, freedom)) * standard_error


@cache
def quantile(share: float, freedom: float = inf) -> float:
    """Student's t below which the share of its distribution lies, by bisection; the normal's at infinity.

    With x = sqrt(freedom) tan(angle), the density is a constant times cos(angle)^(freedom - 1): smooth on a finite
    interval. Relative error below 1e-6 for at least one degree of freedom.

    Raises:
        ValueError: not 0 < share < 1, or less than one degree of freedom.
    """
    if not 0 < share < 1 or freedom < 1:
        raise ValueError(f"need 0 < share < 1 and freedom >= 1, got {share} and {freedom}")
    if isinf(freedom) or freedom > 1e6:
        return NormalDist().inv_cdf(share)
    if share < 0.5:
        return -quantile(1 - share, freedom)
    density = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi)

    def below(t: float) -> float:
        half = atan(t / sqrt(freedom)) / 2
        return 0.5 + density * half * float(WEIGHTS @ np.cos(half * (NODES + 1)) ** (freedom - 1))

    low, high = 0.0, 1.0
    while below(high) < share:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return (low + high) / 2
