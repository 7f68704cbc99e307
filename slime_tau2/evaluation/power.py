"""How large an evaluation must be to see an effect: tasks, attempts, seeds. Pure.

Two policies are evaluated on the same tasks; b's mean success rate is `effect` above a's. What is seen is an interval
of `estimators.LEVEL` over tasks that excludes 0 (`slime-tau2 compare`). The variance of the difference has three parts:
attempts, p (1 - p) on either side; the interaction, how much the gain differs from task to task; and seeds of training,
for whoever speaks of a method and not of two models. A baseline knows the first for itself. The second and third take
a second policy (`Coupling.of`), or an assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, sqrt
from statistics import fmean

import numpy as np

from slime_tau2.evaluation import variance
from slime_tau2.evaluation.estimators import LEVEL
from slime_tau2.evaluation.variance import POWER, Cells, Components

LEAST_TASKS = 20
"""No plan has fewer: resampling so few tasks promises too much (`python tests/bench/power.py`)."""
RESAMPLES = 1000
"""For the interval of a variance's share or of a correlation, which nothing is tested by."""
MOST_SEEDS = 100
"""Where the search for a number of seeds ends."""


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How a policy's success rates are spread over tasks, by two moments."""

    rate: float
    """Mean over tasks."""
    between: float
    """Share of an attempt's variance, rate (1 - rate), that lies between tasks: 0 where all are alike, 1 where each is
    always solved or never. The intraclass correlation."""

    @classmethod
    def of(cls, models: Cells) -> Difficulty | None:
        """Of a policy, or of a method's models; None where no attempt differs from another."""
        task, attempt = _spread(models), models.attempt
        if task + attempt == 0:
            return None
        return cls(rate=float(models.rates.mean()), between=task / (task + attempt))

    @classmethod
    def of_pass_at(cls, once: float, any_of: float, k: int) -> Difficulty:
        """From a published pass@1 and pass@k, with rates that are Beta distributed over tasks.

        1 - pass@k is then the product of (b + i) / (a + b + i) over i < k, which falls as `between` rises.

        Raises:
            ValueError: no such distribution: pass@k is below pass@1, or above what k independent attempts give.
        """
        if not 0 < once <= any_of <= 1 - (1 - once) ** k:
            raise ValueError(f"no success rates have pass@1 = {once:g} and pass@{k} = {any_of:g}")
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _pass_at(once, middle, k) > any_of else (low, middle)
        return cls(rate=once, between=(low + high) / 2)

    @property
    def task(self) -> float:
        """Variance between tasks."""
        return self.between * self.rate * (1 - self.rate)

    @property
    def attempt(self) -> float:
        """Variance of an attempt at a task."""
        return (1 - self.between) * self.rate * (1 - self.rate)

    def better(self, effect: float) -> Difficulty:
        """A policy whose rate is so much higher, spread alike."""
        return Difficulty(rate=self.rate + effect, between=self.between)


def _pass_at(rate: float, between: float, k: int) -> float:
    """pass@k of Beta distributed rates."""
    if between in (0.0, 1.0):
        return rate if between else 1 - (1 - rate) ** k
    both = 1 / between - 1
    return 1 - float(np.prod([((1 - rate) * both + i) / (both + i) for i in range(k)]))


def _spread(models: Cells) -> float:
    """Variance between tasks of a model, the mean over models."""
    return fmean(variance.of_one(models.seed(n)).task for n in range(len(models.rates)))


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """How two policies' success rates go together over tasks, and how their difference varies with the seed."""

    correlation: float
    """Of the two true rates over tasks: 1, each task gains alike; 0, what is hard for one says nothing of the other."""
    by_seed: float = 0.0
    """Share of the interaction that another seed of training would draw anew."""
    seed: float | None = None
    """Standard deviation of the difference from seed to seed; None: not known."""

    @classmethod
    def of(cls, a: Cells, b: Cells) -> Coupling | None:
        """Of two policies, or of two methods' models paired by seed; None where one side's rates do not differ.

        Raises:
            ValueError: as `variance.of_difference`.
        """
        parts = variance.of_difference(a, b)
        spread = sqrt(_spread(a) * _spread(b))
        if spread == 0:
            return None
        pairs = zip(np.broadcast_to(a.rates, b.rates.shape), b.rates)  # their noise is independent, and adds nothing
        together = fmean(float(np.cov(x, y)[0, 1]) for x, y in pairs)
        interaction = parts.task + parts.task_by_seed
        return cls(
            correlation=min(max(together / spread, -1.0), 1.0),
            by_seed=parts.task_by_seed / interaction if interaction else 0.0,
            seed=None if parts.seed is None else sqrt(parts.seed),
        )


def interval(sides: Sequence[Cells], value: Callable[..., float], seed: int = 0) -> tuple[float, float]:
    """Percentile interval of LEVEL of what is estimated from methods on the same tasks, which are resampled.

    Args:
        value: of each side's cells; nan where a sample says nothing, which is left out.
    """
    tasks = sides[0].rates.shape[1]
    samples = np.random.default_rng(seed).integers(0, tasks, (RESAMPLES, tasks))
    values = [value(*(side.take(sample) for side in sides)) for sample in samples]
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference(a: Difficulty, b: Difficulty, coupling: Coupling) -> Components:
    """Components of b - a on the same tasks."""
    interaction = max(a.task + b.task - 2 * coupling.correlation * sqrt(a.task * b.task), 0.0)
    return Components(
        task=interaction * (1 - coupling.by_seed),
        task_by_seed=interaction * coupling.by_seed,
        attempt=a.attempt + b.attempt,
        seed=None if coupling.seed is None else coupling.seed**2,
    )


@dataclass(frozen=True)
class Case:
    """A baseline and an assumption about whoever is to be compared with it; effects in rates, not points."""

    name: str
    baseline: Difficulty
    coupling: Coupling
    power: float = POWER
    """Chance to see the effect."""

    def components(self, effect: float, seeds: int = 1) -> Components:
        """Of the difference, where it is `effect`; with one seed between two models, not between two methods."""
        parts = difference(self.baseline, self.baseline.better(effect), self.coupling)
        return parts if seeds > 1 else replace(parts, seed=None)

    def tasks(self, effect: float, attempts: int) -> int:
        """Fewest tasks that show an effect between two models, with so many attempts at each."""
        of_a_task = self.components(effect).of_mean(tasks=1, attempts=attempts)
        return max(ceil(of_a_task / self._error(effect) ** 2 - 1e-9), LEAST_TASKS)

    def attempts(self, effect: float, tasks: int) -> int | None:
        """Fewest attempts with which so many tasks show an effect between two models; None: no number of them does."""
        parts = self.components(effect)
        room = tasks * self._error(effect) ** 2 - parts.task - parts.task_by_seed
        return max(ceil(parts.attempt / room - 1e-9), 1) if room > 0 else None

    def seeds(self, effect: float, *, tasks: int, attempts: int) -> int | None:
        """Fewest seeds per method with which so large an evaluation shows an effect between two methods.

        None: MOST_SEEDS are too few.
        """
        enough = (
            s
            for s in range(2, MOST_SEEDS + 1)
            if self._shown(effect, tasks=tasks, attempts=attempts, seeds=s) <= effect
        )
        return next(enough, None)

    def smallest(self, *, tasks: int, attempts: int, seeds: int = 1) -> float | None:
        """Smallest effect that so large an evaluation shows; None where not even the largest possible one.

        With one seed between two models; with several between two methods, what their seeds do being estimated from
        them.
        """
        low, high = 0.0, 1 - self.baseline.rate
        if self._shown(high, tasks=tasks, attempts=attempts, seeds=seeds) > high:
            return None
        for _ in range(24):
            middle = (low + high) / 2
            seen = self._shown(middle, tasks=tasks, attempts=attempts, seeds=seeds) <= middle
            low, high = (low, middle) if seen else (middle, high)
        return high

    def _error(self, effect: float) -> float:
        """The standard error with which an effect between two models is seen with the chance `power`."""
        return effect / variance.smallest_effect(1.0, self.power)

    def _shown(self, effect: float, *, tasks: int, attempts: int, seeds: int) -> float:
        """The smallest effect by the variance that the difference has where it is `effect`."""
        parts = self.components(effect, seeds)
        error = sqrt(parts.of_mean(tasks=tasks, attempts=attempts, seeds=seeds))
        freedom = parts.freedom(tasks=tasks, attempts=attempts, seeds=seeds) if seeds > 1 else inf
        return variance.smallest_effect(error, self.power, freedom)
