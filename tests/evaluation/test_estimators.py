import itertools
from math import isnan

import numpy as np
import pytest
import simulated_seeds

from slime_tau2.evaluation import estimators as stats


def test_estimators_equal_brute_force_over_all_subsets():
    """Every n up to 14, c and k: 1,120 cases."""
    cases = [(n, c, k) for n in range(1, 15) for c in range(n + 1) for k in range(1, n + 1)]
    assert len(cases) == 1120
    for n, c, k in cases:
        outcomes = [True] * c + [False] * (n - c)
        some = every = total = 0
        for subset in itertools.combinations(outcomes, k):
            some, every, total = some + any(subset), every + all(subset), total + 1
        assert stats.pass_at_k(n, c, k) == pytest.approx(some / total) and stats.pass_hat_k(n, c, k) == pytest.approx(
            every / total
        )


def test_tau2s_own_formula_agrees():
    from slime_tau2 import bench

    pass_hat_k = bench.load("metrics.agent_metrics").pass_hat_k
    for n, c, k in ((4, 3, 2), (4, 0, 1), (5, 5, 5), (8, 3, 4)):
        assert stats.pass_hat_k(n, c, k) == pytest.approx(pass_hat_k(n, c, k))


@pytest.mark.parametrize("n, c, k", [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
        stats.pass_at_k(n, c, k)


def test_bootstrap_covers_and_is_reproducible():
    values = [0.0, 1.0] * 50
    e = stats.bootstrap_mean(values)
    assert e.value == 0.5 and 0.38 < e.low < 0.42 and 0.58 < e.high < 0.62 and e == stats.bootstrap_mean(values)
    assert isnan(stats.bootstrap_mean([]).value)


def test_paired_difference_uses_shared_tasks_only():
    a, b = {"x": 0.0, "y": 0.5, "z": 1.0}, {"x": 1.0, "y": 0.5, "w": 0.0}
    e = stats.paired_difference(a, b)
    assert e.value == 0.5 and e.tasks == 2
    with pytest.raises(ValueError, match="share no task"):
        stats.paired_difference({"x": 0.0}, {"y": 0.0})


def test_one_missing_attempt_takes_no_metric_away():
    """pass@k is over the tasks that have k scored attempts, and says how many of all those are."""
    by_task = {"a": [True, False], "b": [], "c": [True]}
    table = stats.summarise(by_task, [1, 2, 4])
    assert set(table) == {"pass@1", "pass^1", "pass@2", "pass^2"}
    assert (table["pass@1"].value, table["pass@1"].tasks, table["pass@1"].of) == (0.75, 2, 3)
    assert (table["pass@2"].value, table["pass^2"].value, table["pass@2"].tasks, table["pass@2"].of) == (1.0, 0.0, 1, 3)
    assert stats.success_rates(by_task) == {"a": 0.5, "c": 1.0}


@pytest.mark.parametrize("n", [1, 4, 20, 114])
def test_at_the_edges_the_interval_is_wilsons(n):
    """Against Wilson's formula as it stands in the books: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    for p in (0.0, 1.0):
        found, z = stats.bootstrap_mean([p] * n), stats.Z
        half = z * (z**2 / (4 * n**2)) ** 0.5
        low, high = ((p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
        assert (found.low, found.high) == pytest.approx((low, high)) and found.method == "wilson" and found.value == p
    inner = stats.bootstrap_mean([0.5] * n)
    assert inner.low < 0.5 < inner.high and inner.method == "wilson", "no variance is no certainty in between, either"
    same = stats.paired_difference({t: 0.5 for t in range(n)}, {t: 0.5 for t in range(n)})
    assert same.value == 0 and same.low == -same.high < 0


def test_the_mean_of_domains_covers_what_it_should():
    """Simulated: three domains of 20, 40, 40 tasks, one of them never won; the interval holds the truth about 19 times
    in 20.
    """
    import numpy as np

    rng, truth, held = np.random.default_rng(3), (0.3, 0.6, 0.0), 0
    for _ in range(300):
        parts = [stats.bootstrap_mean(list((rng.random(n) < p).astype(float))) for n, p in zip((20, 40, 40), truth)]
        found = stats.mean_of(parts)
        assert found.value == pytest.approx(sum(e.value for e in parts) / 3) and (found.tasks, found.of) == (100, 100)
        held += found.low <= sum(truth) / 3 <= found.high
    assert 0.9 < held / 300 <= 1.0


def test_an_interval_over_seeds_pairs_seeds_and_tasks_and_is_reproducible():
    rng = np.random.default_rng(0)
    rates = np.full((3, 60), 0.4) + rng.normal(0, 0.1, (3, 1))  # seeds differ much; both sides of one seed do not
    a, b = simulated_seeds.models(rng, rates, 8), simulated_seeds.models(rng, rates + 0.2, 8)
    e = stats.over_seeds(b, a)
    rate = lambda side: np.mean([sum(s) / len(s) for model in side for s in model.values()])  # noqa: E731
    assert e.value == pytest.approx(rate(b) - rate(a)) and e.low < 0.2 < e.high and e.high - e.low < 0.2
    assert e == stats.over_seeds(b, a) and (e.method, e.tasks) == ("hierarchical", 60)
    unpaired = stats.over_seeds(b[::-1], a)
    assert unpaired.high - unpaired.low > e.high - e.low, "what a seed has in common on both sides goes away"
    assert stats.over_seeds(b).value == pytest.approx(rate(b))


def test_an_interval_over_seeds_has_the_noise_of_each_level():
    """Attempts alone, tasks alone, seeds alone: each widens it as far as theory says."""
    width = lambda models, metric="pass^1": (e := stats.over_seeds(models, metric=metric)).high - e.low  # noqa: E731
    half = [[True, False] * 4 for _ in range(100)]
    by_attempts = [dict(enumerate(half)) for _ in range(4)]
    assert width(by_attempts) == pytest.approx(2 * 1.96 * (0.25 / (4 * 100 * 8)) ** 0.5, rel=0.1)
    by_tasks = [{t: [t % 2 == 0] * 8 for t in range(100)} for _ in range(4)]
    assert width(by_tasks) == pytest.approx(2 * 1.96 * (0.25 / 100) ** 0.5, rel=0.1), "the same tasks for all seeds"
    by_seeds = [{t: [s % 2 == 0] * 8 for t in range(100)} for s in range(4)]
    assert width(by_seeds) == pytest.approx(1.0)
    assert stats.over_seeds(by_attempts, metric="pass^4").method == "wilson", "resampled attempts would be biased"
    none = stats.over_seeds([{t: [False] * 4 for t in range(50)}] * 2)
    assert none.method == "wilson" and none.high > 0
    for wrong in (([], None), (by_tasks, by_tasks[:3])):
        with pytest.raises(ValueError, match="need one model of each side per seed"):
            stats.over_seeds(*wrong)
    with pytest.raises(ValueError, match="share no task"):
        stats.over_seeds([{"a": [True]}, {"b": [True]}])


@pytest.mark.parametrize("seeds, between_seeds, at_least", [(5, 0.02, 0.93), (3, 0.05, 0.8)])
def test_how_often_an_interval_over_seeds_holds_the_truth(monkeypatch, seeds, between_seeds, at_least):
    """`tests/bench/over_seeds_coverage.py` with few simulations: bounds that chance does not reach."""
    monkeypatch.setattr(stats, "RESAMPLES_OVER_SEEDS", 250)
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        without, with_it = simulated_seeds.pair(
            rng, seeds=seeds, tasks=60, effect=0.03, between_seeds=between_seeds, between_tasks=0.1
        )
        e = stats.over_seeds(with_it, without)
        held += e.low <= 0.03 <= e.high
    assert at_least <= held / 100
