"""Estimators over repeated attempts at tasks, with their intervals and tests. Pure.

With n attempts at a task, c of them successes: pass@k is the chance that any of k attempts succeeds, 1 -
C(n-c,k)/C(n,k) (arXiv 2107.03374); pass^k that all k do, C(c,k)/C(n,k) (tau-bench, arXiv 2406.12045). Both unbiased,
from the same n. Intervals resample tasks, the unit that varies (attempts at one task are not independent). Where all
tasks are alike, at 0 and at 1 above all, resampling sees no variance and would claim certainty: there the interval is
Wilson's (`wilson_interval`), and says so.

Of a method of training, rather than of one model, the seeds of training are a unit of their own: `over_seeds`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import TypeVar

import numpy as np

RESAMPLES = 10_000
RESAMPLES_OVER_SEEDS = 4_000
_CHUNK = 250
"""Resamples over seeds that are made at once, for the memory's sake."""
LEVEL = 0.95
Z = 1.959964
"""The quantile of the normal distribution that belongs to LEVEL, two-sided."""
Task = TypeVar("Task", bound=Hashable)
Models = Sequence[Mapping[Task, Sequence[bool]]]
"""One model per seed of training: {task: success of each attempt}."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased chance that at least one of k attempts succeeds, from c successes in n attempts.

    Raises:
        ValueError: not 0 <= c <= n or not 1 <= k <= n.
    """
    _check(n, c, k)
    return 1.0 - comb(n - c, k) / comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Unbiased chance that all of k attempts succeed, from c successes in n attempts."""
    _check(n, c, k)
    return comb(c, k) / comb(n, k)


def _check(n: int, c: int, k: int) -> None:
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"need 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over tasks, with its 95 % interval."""

    value: float
    """The mean."""
    low: float
    """Where the interval begins."""
    high: float
    """Where it ends."""
    tasks: int
    """Tasks that the mean is over."""
    of: int
    """Tasks that there should be; some may have no value."""
    method: str = "bootstrap"
    """How the interval was made: `bootstrap`, `hierarchical` (`over_seeds`), `wilson` (all tasks are alike), `combined`
    (from several estimates).
    """

    def to_json(self) -> dict[str, float | str]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "tasks": self.tasks,
            "of": self.of,
            "method": self.method,
        }


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, of: int | None = None, scale: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """Mean of one value per task, with a percentile interval from resampling tasks.

    Where all values are the same the interval is Wilson's.

    Args:
        of: how many tasks there should be; some may have no value.
        scale: the least and the greatest value that a task can have.
    """
    n, of = len(values), len(values) if of is None else of
    if not n:
        nan = float("nan")
        return Estimate(value=nan, low=nan, high=nan, tasks=0, of=of)
    array = np.asarray(values, dtype=float)
    if np.ptp(array) == 0:
        value = float(array[0])
        low, high = wilson_interval(value, n, scale)
        return Estimate(value=value, low=low, high=high, tasks=n, of=of, method="wilson")
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, n, (RESAMPLES, n))].mean(1)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = map(float, np.quantile(means, tails))
    return Estimate(value=float(array.mean()), low=low, high=high, tasks=n, of=of)


def wilson_interval(value: float, n: int, scale: tuple[float, float]) -> tuple[float, float]:
    """Interval of a mean of which n tasks all gave the same value.

    Wilson's upper limit on the share of tasks that would have given another, of which 0 in n were seen, is z² / (n +
    z²); those may be anywhere on the scale. For 0 and 1 this is Wilson's interval of 0 of n and n of n.
    """
    share = Z**2 / (n + Z**2)
    return value - share * (value - scale[0]), value + share * (scale[1] - value)


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates, each weighing the same, with an interval from theirs.

    The interval is MOVER's (Zou and Donner, doi 10.1002/sim.3095).
    """
    n = len(parts)
    value = sum(p.value for p in parts) / n
    low = value - sqrt(sum((p.value - p.low) ** 2 for p in parts)) / n
    high = value + sqrt(sum((p.high - p.value) ** 2 for p in parts)) / n
    tasks, of = sum(p.tasks for p in parts), sum(p.of for p in parts)
    return Estimate(value=value, low=low, high=high, tasks=tasks, of=of, method="combined")


def paired_difference(a: Mapping[Task, float], b: Mapping[Task, float], seed: int = 0) -> Estimate:
    """Mean of b - a over the tasks that both have, with a paired bootstrap interval.

    Raises:
        ValueError: they share no task.
    """
    shared = sorted(set(a) & set(b), key=str)
    if not shared:
        raise ValueError("the two runs share no task")
    return bootstrap_mean([b[t] - a[t] for t in shared], seed, scale=(-1.0, 1.0))


def over_seeds(b: Models[Task], a: Models[Task] | None = None, metric: str = "pass^1", seed: int = 0) -> Estimate:
    """Mean of a metric over tasks and seeds of training, or with `a` the mean of b - a, paired by task and by seed.

    The interval is a hierarchical bootstrap's: each resample draws seeds, then tasks, then attempts within each cell of
    both. Tasks are drawn once for all seeds, which were all evaluated on the same ones. Attempts are drawn for pass^1
    alone: of pass@k and pass^k a cell with repeated attempts is a biased estimate, and stays as it is. What is drawn
    at one level has the noise of those below in it already, so that the interval is rather too wide, unless few seeds
    differ much; `tests/bench/over_seeds_coverage.py` says how often it holds the truth. With one seed it is about that
    model, not about the method.

    Raises:
        ValueError: no model, models that share no task, or other numbers of models on both sides.
    """
    sides = (b,) if a is None else (b, a)
    if not b or any(len(side) != len(b) for side in sides):
        raise ValueError(f"need one model of each side per seed, got {' and '.join(str(len(s)) for s in sides)}")
    tasks = sorted(set.intersection(*(set(model) for side in sides for model in side)), key=str)
    if not tasks:
        raise ValueError("the models share no task")
    values = [[by_task(model, metric) for model in side] for side in sides]
    cells = [np.array([[model[t] for t in tasks] for model in side]) for side in values]  # [seeds, tasks] each
    counts = [np.array([[len(m[t]) for t in tasks] for m in side]) for side in sides]
    signs = (1.0, -1.0)
    differences = sum(sign * cell for sign, cell in zip(signs, cells))
    value, shape = float(np.mean(differences)), cells[0].shape
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES_OVER_SEEDS // _CHUNK):
        rows = rng.integers(0, shape[0], (_CHUNK, shape[0], 1))
        columns = rng.integers(0, shape[1], (_CHUNK, 1, shape[1]))
        total = np.zeros(_CHUNK)
        for sign, cell, count in zip(signs, cells, counts):
            drawn = cell[rows, columns]
            if metric == "pass^1":
                n = count[rows, columns]
                drawn = rng.binomial(n, drawn) / n
            total += sign * drawn.mean((1, 2))
        means.append(total)
    method = "hierarchical"
    low, high = map(float, np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if np.ptp(means) == 0:
        low, high = wilson_interval(value, len(tasks), (0.0 if a is None else -1.0, 1.0))
        method = "wilson"
    return Estimate(value=value, low=low, high=high, tasks=len(tasks), of=len(tasks), method=method)


@dataclass(frozen=True)
class SignTest:
    """How two runs split the tasks on which they differ."""

    better: int
    """Tasks on which b did better than a."""
    worse: int
    """Tasks on which b did worse."""
    p: float
    """Exact two-sided p-value of that split."""


def sign_test(a: Mapping[Task, float], b: Mapping[Task, float]) -> SignTest:
    """Exact sign test over the tasks that both have (a binomial test with chance 1/2)."""
    differences = [b[t] - a[t] for t in set(a) & set(b)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    n = better + worse
    tail = sum(comb(n, k) for k in range(min(better, worse) + 1)) / 2**n
    return SignTest(better, worse, min(1.0, 2 * tail))


def smallest_difference(a: Mapping[Task, float], b: Mapping[Task, float]) -> float:
    """The true difference that a comparison of this size shows four times in five, at 5 %.

    Two-sided, by the normal approximation: (1.96 + 0.84) standard errors of the tasks' own differences; where these do
    not spread, half of `wilson_interval`'s interval. nan with fewer than two shared tasks.
    """
    differences = np.asarray([b[t] - a[t] for t in sorted(set(a) & set(b), key=str)], dtype=float)
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        low, high = wilson_interval(float(differences[0]), len(differences), (-1.0, 1.0))
        return (high - low) / 2
    return float((Z + 0.841621) * differences.std(ddof=1) / np.sqrt(len(differences)))


def summarise(successes: Mapping[Task, Sequence[bool]], ks: Sequence[int]) -> dict[str, Estimate]:
    """pass@k and pass^k for each k, e.g. {"pass@1": …, "pass^1": …, "pass@4": …}.

    Each is over the tasks that have k scored attempts, and says how many of all those are; a k that no task has is left
    out.
    """
    out: dict[str, Estimate] = {}
    for k in ks:
        counts = [(len(s), sum(s)) for s in successes.values() if len(s) >= k]
        if counts:
            out[f"pass@{k}"] = bootstrap_mean([pass_at_k(n, c, k) for n, c in counts], of=len(successes))
            out[f"pass^{k}"] = bootstrap_mean([pass_hat_k(n, c, k) for n, c in counts], of=len(successes))
    return out


def by_task(successes: Mapping[Task, Sequence[bool]], metric: str) -> dict[Task, float]:
    """{task: its value} of a metric such as pass@4 or pass^1, for the tasks that have k attempts.

    Raises:
        ValueError: a metric of another name.
    """
    for name, value in (("pass@", pass_at_k), ("pass^", pass_hat_k)):
        if metric.startswith(name) and metric[len(name) :].isdigit():
            k = int(metric[len(name) :])
            return {task: value(len(s), sum(s), k) for task, s in successes.items() if len(s) >= k}
    raise ValueError(f"{metric!r} is neither pass@k nor pass^k")


def success_rates(successes: Mapping[Task, Sequence[bool]]) -> dict[Task, float]:
    """{task: share of attempts that succeeded}, the task's pass^1."""
    return {task: sum(s) / len(s) for task, s in successes.items() if s}
