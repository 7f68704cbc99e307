"""Comparison of runs: refused where it would mislead, exact where it counts."""

from math import comb, isnan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from run_files import write

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import compare
from slime_tau2.evaluation import estimators as stats


def printed(*arguments):
    console = Console(record=True, width=160, file=open("/dev/null", "w"))
    compare.main(*arguments, console)
    return console.export_text()


def test_two_runs_side_by_side(tmp_path):
    a = write(tmp_path / "a", {"1": [0.0, 0.0], "2": [1.0, 0.0], "3": [0.0, None]})
    b = write(tmp_path / "b", {"1": [1.0, 1.0], "2": [1.0, 0.0], "3": [1.0, 1.0]})
    text = printed([a, b], False)
    row = next(line for line in text.splitlines() if " b " in line and "+" in line)
    assert "+66.7" in row and "2, 0" in row and "0.5" in row
    assert "pass@2" in text and "pass^2" in text
    rows = {c[1].strip(): c[2].strip() for c in (line.split("│") for line in text.splitlines()) if len(c) == 5}
    assert [rows[f"attempts {what}"] for what in ("scored", "excluded", "not run")] == ["5", "1", "0"] and rows[
        "tasks"
    ] == "3"
    assert "(2 of 3)" in rows["pass@2"], "one task has one scored attempt, and the others have their two"
    assert (
        "a: airline (test), 5 of 6 attempts scored, 1 ended by the infrastructure (policy_failure 1); compared on 3 tasks"
        in text
    )


def test_domains_are_weighed_by_task_and_shown_one_by_one(tmp_path):
    a = write(tmp_path / "a", {"airline": {"0": [0.0], "1": [0.0]}, "retail": {"0": [1.0]}})
    b = write(tmp_path / "b", {"airline": {"0": [1.0], "1": [0.0]}, "retail": {"0": [1.0]}, "mock": {"9": [0.0]}})
    text = printed([a, b], False)
    assert all(f" b{name} " in text for name in ("", ", airline", ", retail")) and "b, mock" not in text
    assert (
        "+33.3" in text
        and "+50.0" in text
        and "b: airline, retail, mock (test), 4 of 4 attempts scored; compared on 3 tasks" in text
    )


def test_what_one_run_does_not_say_is_said_and_no_difference(tmp_path):
    a = write(tmp_path / "a", {"1": [1.0]}, user_thinking="off")
    b = write(tmp_path / "b", {"1": [1.0]})
    assert "b does not say: user_thinking" in printed([a, b], False)


def test_a_setting_of_what_was_not_used_is_no_difference(tmp_path):
    """The judge where nothing is judged, the basis of retail where there is no retail."""
    a = write(tmp_path / "a", {"1": [1.0]}, judge_model="x", retail_basis="judge")
    b = write(tmp_path / "b", {"1": [1.0]}, judge_model="y", retail_basis="communicate")
    assert "not scored alike" not in printed([a, b], False)
    judged = {"reward_basis": ["DB", "NL_ASSERTION"]}
    c, d = (write(tmp_path / m, {"1": [1.0]}, judge_model=m, more=judged) for m in ("x", "y"))
    with pytest.raises(ConfigError, match="judge_model: x 'x', y 'y'"):
        compare.main([c, d], False, Console())
    with pytest.raises(ConfigError, match="reward basis of airline, task 1: a DB; x DB, NL_ASSERTION"):
        compare.main([a, c], False, Console())


def test_runs_that_were_not_scored_alike_are_refused_or_said(tmp_path):
    a, b = write(tmp_path / "a", {"1": [1.0]}), write(tmp_path / "b", {"1": [1.0]}, user_model="other")
    with pytest.raises(ConfigError, match=r"not scored alike \(user_model: a 'u', b 'other'\); --anyway"):
        compare.main([a, b], False, Console())
    assert "not scored alike in user_model" in printed([a, b], True)


def test_bad_input_is_named(tmp_path):
    a = write(tmp_path / "a", {"1": [1.0]})
    with pytest.raises(ConfigError, match="at least two runs"):
        compare.main([a], False, Console())
    with pytest.raises(ConfigError, match=r"nowhere holds no run of"):
        compare.main([a, tmp_path / "nowhere"], False, Console())
    with pytest.raises(ConfigError, match="infrastructure ended all 2 attempts"):
        compare.main([a, write(tmp_path / "b", {"1": [None, None]})], False, Console())
    with pytest.raises(ConfigError, match="share no scored task: a has airline"):
        compare.main([a, write(tmp_path / "c", {"2": [1.0]})], False, Console())


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 4))
def test_the_sign_test_equals_brute_force(better, worse, ties):
    a = {str(n): 0.5 for n in range(better + worse + ties)}
    b = {str(n): 1.0 if n < better else 0.0 if n < better + worse else 0.5 for n in range(len(a))}
    found, n = stats.sign_test(a, b), better + worse
    as_extreme = sum(comb(n, k) for k in range(n + 1) if abs(k - n / 2) >= abs(better - n / 2) - 1e-9) / 2**n
    assert (found.better, found.worse) == (better, worse) and found.p == pytest.approx(min(1.0, as_extreme))


def test_the_smallest_difference_is_what_power_says():
    """Simulated: a true difference of that size is found (its interval excludes 0) about four times in five."""
    import numpy as np

    rng = np.random.default_rng(0)
    tasks, found = 100, 0
    a0 = {str(n): 0.0 for n in range(tasks)}
    spread = {str(n): float(x) for n, x in enumerate(rng.normal(0, 0.4, tasks))}
    size = stats.smallest_difference(a0, spread)
    for _ in range(400):
        d = rng.normal(size, 0.4, tasks)
        half = 1.96 * d.std(ddof=1) / tasks**0.5
        found += d.mean() - half > 0
    assert 0.7 < found / 400 < 0.9
    assert isnan(stats.smallest_difference({"x": 0.0}, {"x": 1.0}))
