"""Plans keep what they promise: simulated, and against the formulas that they are made of."""

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import simulated_policies
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.evaluation import estimators, power, variance
from slime_tau2.evaluation.power import Case, Coupling, Difficulty

QUANTILES = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)


def case(rate=0.4, between=0.5, correlation=1.0, **coupling):
    return Case("", Difficulty(rate=rate, between=between), Coupling(correlation=correlation, **coupling))


@pytest.mark.parametrize("shape", simulated_policies.SHAPES)
@pytest.mark.parametrize("kept, effect, attempts", [(1.0, 0.1, 4), (0.8, 0.15, 4), (0.0, 0.25, 2)])
def test_a_plan_has_the_power_that_it_says(shape, kept, effect, attempts, monkeypatch):
    """The test is the one of `slime-tau2 compare`: whether the paired interval excludes 0.

    300 simulations: ±5 points two times in three. tests/bench/power.py is exact.
    """
    monkeypatch.setattr(estimators, "RESAMPLES", 1000)
    rng, seen = np.random.default_rng(11), 0
    policies = {"shape": shape, "rate": 0.4, "between": 0.5, "effect": effect, "kept": kept}
    tasks = case(0.4, 0.5, simulated_policies.correlation(**policies)).tasks(effect, attempts)
    for _ in range(300):
        both = simulated_policies.pair(rng, **policies, tasks=tasks)
        a, b = (estimators.success_rates(simulated_policies.attempt(rng, rates, attempts)) for rates in both)
        seen += estimators.paired_difference(a, b).low > 0
    assert 0.72 <= seen / 300 <= 0.9, tasks


def test_difficulty_and_correlation_are_found_again():
    rng, found, coupled = np.random.default_rng(5), [], []
    for _ in range(30):
        both = simulated_policies.pair(rng, shape="smooth", rate=0.3, between=0.6, effect=0.1, kept=0.7, tasks=400)
        a, b = variance.cells(*([simulated_policies.attempt(rng, rates, 3)] for rates in both))
        found.append(Difficulty.of(a))
        coupled.append(Coupling.of(a, b).correlation)
    assert np.mean([d.rate for d in found]) == pytest.approx(0.3, abs=0.01)
    assert np.mean([d.between for d in found]) == pytest.approx(0.6, abs=0.02)
    assert np.mean(coupled) == pytest.approx(0.7, abs=0.04)


def test_what_says_nothing_is_none():
    same = [{str(n): [False, False] for n in range(9)}]
    some = [{str(n): [n % 2 == 0] * 2 for n in range(9)}]
    a, b = variance.cells(same, some)
    assert Difficulty.of(a) is None and Coupling.of(a, b) is None and Coupling.of(b, b).correlation == 1.0


def test_a_correlation_of_seeds_has_their_deviation_and_their_share():
    rng = np.random.default_rng(2)
    a, b = [], []
    for shift in (-0.1, 0.0, 0.1):
        rates = simulated_policies.pair(rng, shape="smooth", rate=0.5, between=0.2, effect=0.0, kept=1.0, tasks=500)
        a.append(simulated_policies.attempt(rng, rates[0], 4))
        b.append(simulated_policies.attempt(rng, np.clip(rates[1] + shift, 0, 1), 4))
    coupling = Coupling.of(*variance.cells(a, b))
    assert coupling.seed == pytest.approx(0.1, abs=0.02) and 0 <= coupling.by_seed <= 1


@given(st.floats(0.05, 0.6), st.floats(0.0, 1.0), st.sampled_from([1.0, 0.8, 0.0]), st.sampled_from([1, 4, 16]))
def test_answers_agree_with_one_another(rate, between, correlation, attempts):
    """Tasks that are found show the effect and one fewer do not; attempts likewise; the smallest effect comes back."""
    plan, effect = case(rate, between, correlation), 0.05
    tasks = plan.tasks(effect, attempts)
    assert plan.smallest(tasks=tasks, attempts=attempts) <= effect + 1e-6
    if tasks > power.LEAST_TASKS:
        assert plan.smallest(tasks=tasks - 1, attempts=attempts) > effect - 1e-6
        assert plan.attempts(effect, tasks) <= attempts
        few = plan.attempts(effect, tasks - 1)
        assert few is None or few > attempts
    assert plan.tasks(2 * effect, attempts) <= tasks


def test_the_formula_by_hand():
    """Rates 0.4 and 0.5, all variance within tasks, 4 attempts: (1.96 + 0.84)² (0.24 + 0.25) / 4 / 0.1² tasks."""
    assert case(0.4, 0.0).tasks(0.1, 4) == int(QUANTILES**2 * 0.49 / 4 / 0.01) + 1
    unrelated = case(0.4, 1.0, correlation=0.0)
    assert unrelated.tasks(0.1, 1) == unrelated.tasks(0.1, 16) == int(QUANTILES**2 * 0.49 / 0.01) + 1
    assert unrelated.attempts(0.1, 300) is None, "where each task is always solved or never, attempts say nothing"
    assert unrelated.attempts(0.1, 400) == 1


def test_nothing_is_promised_that_cannot_be():
    assert case(0.97, 0.5).smallest(tasks=20, attempts=1) is None, "3 points are left"
    assert case(0.5, 0.0).tasks(0.4, 16) == power.LEAST_TASKS


def test_seeds_cost_what_student_says():
    """Where only seeds vary: (t + t') · s / √seeds with seeds - 1 degrees of freedom."""
    plan = case(0.4, 1.0, seed=0.04)
    same = Difficulty(rate=0.4, between=1.0)
    assert power.difference(same, same, plan.coupling).of_mean(tasks=1, attempts=1, seeds=4) == pytest.approx(0.0004)
    few, many = (plan.smallest(tasks=10**7, attempts=16, seeds=n) for n in (3, 30))
    assert few == pytest.approx((4.3027 + 1.0607) * 0.04 / sqrt(3), rel=0.02)
    assert many == pytest.approx((2.0452 + 0.8542) * 0.04 / sqrt(30), rel=0.02)
    assert plan.seeds(many, tasks=10**7, attempts=16) == 30
    assert plan.seeds(0.004, tasks=10**7, attempts=16) is None and plan.smallest(tasks=10**7, attempts=16) < 0.002


@given(st.floats(0.02, 0.9), st.floats(0.02, 0.98))
def test_pass_at_k_gives_the_spread_back(rate, between):
    """Against the Beta distribution itself, by its moments: E (1 - p)^4."""
    both = 1 / between - 1
    a, b = rate * both, (1 - rate) * both
    missed = np.prod([(b + n) / (a + b + n) for n in range(4)])
    assert Difficulty.of_pass_at(rate, 1 - missed, 4).between == pytest.approx(between, abs=1e-4)


@pytest.mark.parametrize("any_of, between", [(0.3, 1.0), (1 - 0.7**4, 0.0)])
def test_pass_at_k_at_its_ends(any_of, between):
    assert Difficulty.of_pass_at(0.3, any_of, 4).between == pytest.approx(between, abs=1e-6)


@pytest.mark.parametrize("once, any_of", [(0.3, 0.2), (0.3, 0.8), (0.0, 0.1)])
def test_pass_at_k_that_cannot_be(once, any_of):
    with pytest.raises(ValueError, match="no success rates have pass@1"):
        Difficulty.of_pass_at(once, any_of, 4)


def test_an_interval_holds_what_is_estimated():
    rng, held = np.random.default_rng(4), 0
    for n in range(20):
        rates, _ = simulated_policies.pair(rng, shape="smooth", rate=0.4, between=0.5, effect=0.0, kept=1.0, tasks=100)
        (cells,) = variance.cells([simulated_policies.attempt(rng, rates, 4)])
        low, high = power.interval([cells], lambda models: Difficulty.of(models).between, seed=n)
        held += low <= 0.5 <= high
    assert held >= 16
