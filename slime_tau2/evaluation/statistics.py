"""Statistics of repeated attempts at tasks. Pure.

With n attempts at a task, c of them successes: pass@k is the chance that any of k attempts succeeds, 1 - C(n-c,k)/C(n,k)
(arXiv 2107.03374); pass^k that all k do, C(c,k)/C(n,k) (tau-bench, arXiv 2406.12045). Both unbiased, from the same n.
Intervals resample tasks, the unit that varies (attempts at one task are not independent).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from slime_tau2.types import is_success

RESAMPLES = 10_000
LEVEL = 0.95


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


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    tasks: int

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high, "tasks": self.tasks}


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of one value a task, with a percentile interval from resampling tasks."""
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    array = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), (RESAMPLES, len(array)))].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def paired_difference(a: Mapping[str, float], b: Mapping[str, float], seed: int = 0) -> Estimate:
    """Mean of b - a over the tasks that both have, with a paired bootstrap interval.

    Raises:
        ValueError: they share no task.
    """
    shared = sorted(set(a) & set(b))
    if not shared:
        raise ValueError("the two runs share no task")
    return bootstrap_mean([b[t] - a[t] for t in shared], seed)


@dataclass(frozen=True)
class SignTest:
    """Tasks on which b did better and worse than a, ties left out, and the exact two-sided p-value of that split."""

    better: int
    worse: int
    p: float


def sign_test(a: Mapping[str, float], b: Mapping[str, float]) -> SignTest:
    """Exact sign test over the tasks that both have (a binomial test with chance 1/2)."""
    differences = [b[t] - a[t] for t in set(a) & set(b)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    n = better + worse
    tail = sum(comb(n, k) for k in range(min(better, worse) + 1)) / 2**n
    return SignTest(better, worse, min(1.0, 2 * tail))


def smallest_difference(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """The true difference that a comparison of this size shows four times in five, at 5 % (two-sided, normal approximation).

    From the spread of the tasks' own differences: (1.96 + 0.84) standard errors. nan with fewer than two shared tasks.
    """
    differences = np.asarray([b[t] - a[t] for t in sorted(set(a) & set(b))], dtype=float)
    if len(differences) < 2:
        return float("nan")
    return float((1.959964 + 0.841621) * differences.std(ddof=1) / np.sqrt(len(differences)))


def successes_by_task(attempts: Sequence[tuple[str, float | None]]) -> dict[str, list[bool]]:
    """{task: success of each attempt} from (task, reward) pairs; None (infrastructure) is left out."""
    out: dict[str, list[bool]] = {}
    for task, reward in attempts:
        if reward is not None:
            out.setdefault(task, []).append(is_success(reward))
    return out


def summarise(successes: Mapping[str, Sequence[bool]], ks: Sequence[int]) -> dict[str, Estimate]:
    """pass@k and pass^k for each k that every task has attempts for, e.g. {"pass@1": …, "pass^1": …, "pass@4": …}."""
    out: dict[str, Estimate] = {}
    least = min((len(s) for s in successes.values()), default=0)
    for k in ks:
        if k <= least:
            counts = [(len(s), sum(s)) for s in successes.values()]
            out[f"pass@{k}"] = bootstrap_mean([pass_at_k(n, c, k) for n, c in counts])
            out[f"pass^{k}"] = bootstrap_mean([pass_hat_k(n, c, k) for n, c in counts])
    return out


def by_task(successes: Mapping[str, Sequence[bool]], metric: str) -> dict[str, float]:
    """{task: its value} of a metric such as pass@4 or pass^1.

    Raises:
        ValueError: a metric of another name, or a task with fewer than k attempts.
    """
    for name, value in (("pass@", pass_at_k), ("pass^", pass_hat_k)):
        if metric.startswith(name) and metric[len(name) :].isdigit():
            return {task: value(len(s), sum(s), int(metric[len(name) :])) for task, s in successes.items()}
    raise ValueError(f"{metric!r} is neither pass@k nor pass^k")


def success_rates(successes: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """{task: share of attempts that succeeded}: pass^1 a task."""
    return {task: sum(s) / len(s) for task, s in successes.items() if s}
