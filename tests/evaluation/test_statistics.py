import itertools
from math import isnan

import pytest

from slime_tau2.evaluation import statistics as stats


def test_estimators_equal_brute_force_over_all_subsets():
    """Every n up to 14, c and k: 1,120 cases."""
    cases = [(n, c, k) for n in range(1, 15) for c in range(n + 1) for k in range(1, n + 1)]
    assert len(cases) == 1120
    for n, c, k in cases:
        outcomes = [True] * c + [False] * (n - c)
        some = every = total = 0
        for subset in itertools.combinations(outcomes, k):
            some, every, total = some + any(subset), every + all(subset), total + 1
        assert stats.pass_at_k(n, c, k) == pytest.approx(some / total) and stats.pass_hat_k(n, c, k) == pytest.approx(every / total)


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


def test_infrastructure_failures_are_left_out():
    by_task = stats.successes_by_task([("a", 1.0), ("a", None), ("a", 0.999), ("b", None)])
    assert by_task == {"a": [True, False]}
    table = stats.summarise(by_task, [1, 2, 4])
    assert set(table) == {"pass@1", "pass^1", "pass@2", "pass^2"} and table["pass@2"].value == 1.0 and table["pass^2"].value == 0.0
    assert stats.success_rates(by_task) == {"a": 0.5}
