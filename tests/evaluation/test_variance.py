"""Variance components against simulations whose truth is known, and Student's quantiles against the printed tables."""

from math import inf, sqrt
from statistics import NormalDist, fmean

import numpy as np
import pytest

from slime_tau2.evaluation import variance
from slime_tau2.evaluation.variance import Components

TASK, SEED, BOTH = 0.01, 0.0009, 0.0049
"""Variances of the difference that is simulated."""


def drawn(rng, rate, attempts):
    return {str(t): list(rng.random(attempts) < p) for t, p in enumerate(rate)}


def pairs(rng, seeds, tasks, attempts):
    """(models of a, models of b): b is better by 5 points, with the variances above; a is one policy."""
    a = rng.uniform(0.35, 0.55, tasks)
    task = rng.normal(0, sqrt(TASK), tasks)
    b = [a + 0.05 + task + rng.normal(0, sqrt(SEED)) + rng.normal(0, sqrt(BOTH), tasks) for _ in range(seeds)]
    return [drawn(rng, a, attempts) for _ in range(seeds)], [drawn(rng, np.clip(p, 0, 1), attempts) for p in b]


@pytest.mark.parametrize("baselines", ["paired", "one"])
def test_components_are_recovered(baselines):
    rng, found = np.random.default_rng(1), []
    for _ in range(60):
        a, b = pairs(rng, 5, 300, 4)
        found.append(variance.of_difference(*variance.cells(a if baselines == "paired" else a[:1], b)))
    means = [fmean(getattr(c, name) for c in found) for name in ("task", "seed", "task_by_seed")]
    assert means == pytest.approx([TASK, SEED, BOTH], rel=0.2)
    assert fmean(c.attempt for c in found) == pytest.approx(0.46, abs=0.02), "p (1 - p) of both sides"


def test_of_one_seed_what_it_does_to_a_task_is_the_tasks_and_the_seeds_is_unknown():
    rng, found = np.random.default_rng(2), []
    for _ in range(60):
        a, b = pairs(rng, 1, 300, 4)
        found.append(variance.of_difference(*variance.cells(a, b)))
    assert fmean(c.task for c in found) == pytest.approx(TASK + BOTH, rel=0.2)
    assert {c.seed for c in found} == {None} and {c.task_by_seed for c in found} == {0.0}


def test_the_variance_of_a_mean_is_what_means_vary_by():
    rng, means = np.random.default_rng(3), []
    truth = Components(task=TASK, seed=SEED, task_by_seed=BOTH, attempt=0.46)
    for _ in range(1500):
        a, b = pairs(rng, 3, 40, 2)
        rates = [[fmean(map(fmean, m.values())) for m in models] for models in (a, b)]
        means.append(fmean(rates[1]) - fmean(rates[0]))
    assert np.var(means) == pytest.approx(truth.of_mean(tasks=40, attempts=2, seeds=3), rel=0.1)


def test_a_method_of_one_side_and_a_task_that_never_varies():
    sure = {"a": [True] * 4, "b": [False] * 4}
    assert variance.of_one(*variance.cells([sure])) == Components(task=0.5, attempt=0.0)
    alike = {"a": [True, False], "b": [False, True]}
    assert variance.of_one(*variance.cells([alike])) == Components(task=0.0, attempt=0.5), "below 0 is 0"
    twice = variance.of_one(*variance.cells([sure, {t: [not x for x in s] for t, s in sure.items()}]))
    assert (twice.task, twice.seed, twice.attempt) == (0.0, 0.0, 0.0) and twice.task_by_seed == pytest.approx(1.0)


def test_degrees_of_freedom_lie_between_those_of_seeds_and_tasks():
    few = Components(task=0.0, seed=0.01, attempt=0.0)
    many = Components(task=0.01, seed=0.0, attempt=0.0)
    assert few.freedom(tasks=100, attempts=4, seeds=5) == 4 and many.freedom(tasks=100, attempts=4, seeds=5) == 99
    mixed = Components(task=0.1, seed=0.001, attempt=0.2)
    assert 4 < mixed.freedom(tasks=100, attempts=4, seeds=5) < 99
    assert mixed.freedom(tasks=100, attempts=4, seeds=1) == 99
    assert Components(task=0.0, seed=0.0, attempt=0.0).freedom(tasks=9, attempts=1, seeds=2) == inf


@pytest.mark.parametrize(
    "freedom, share, printed",
    [(1, 0.975, 12.7062), (2, 0.975, 4.3027), (4, 0.8, 0.9410), (4, 0.975, 2.7764), (30, 0.995, 2.7500)],
)
def test_quantiles_are_those_of_the_tables(freedom, share, printed):
    assert variance.quantile(share, freedom) == pytest.approx(printed, abs=6e-5)
    assert variance.quantile(1 - share, freedom) == pytest.approx(-printed, abs=6e-5)


def test_quantiles_reach_the_normals():
    for freedom in (1e5, 9e5, 2e6, inf):
        assert variance.quantile(0.975, freedom) == pytest.approx(NormalDist().inv_cdf(0.975), abs=5e-5)
    assert variance.smallest_effect(0.01) == pytest.approx(0.01 * (1.959964 + 0.841621))
    assert variance.smallest_effect(0.01, freedom=4) > variance.smallest_effect(0.01, power=0.9)


def test_what_has_no_variance_to_see_is_refused():
    with pytest.raises(ValueError, match="task 'b' has fewer than two attempts"):
        variance.cells([{"a": [True, False], "b": [True]}])
    with pytest.raises(ValueError, match="fewer than two tasks"):
        variance.cells([{"a": [True, False]}], [{"b": [True, False]}])
    sure = {"a": [True] * 2, "b": [False] * 2}
    with pytest.raises(ValueError, match="2 models against 3"):
        variance.of_difference(*variance.cells([sure] * 2, [sure] * 3))
    with pytest.raises(ValueError, match="freedom >= 1"):
        variance.quantile(0.9, 0.5)
