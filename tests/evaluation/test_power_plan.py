"""`slime-tau2 plan`: what it answers, and what it refuses."""

import json
import re

import numpy as np
import pytest
import simulated_policies
from printed import rows
from run_files import write

USAGE = {
    "policy": {"requests": 3, "unreported": 0, "prompt": 1000, "cached": 600, "completion": 100},
    "user": {"requests": 2, "unreported": 0, "prompt": 400, "cached": 0, "completion": 50},
}


def rewards(rates, attempts, seed):
    drawn = simulated_policies.attempt(np.random.default_rng(seed), np.asarray(rates), attempts)
    return {task: [float(x) for x in row] for task, row in drawn.items()}


def policies(kept=0.9, tasks=40, effect=0.1):
    known = {"shape": "smooth", "rate": 0.4, "between": 0.5, "effect": effect, "kept": kept}
    return simulated_policies.pair(np.random.default_rng(3), **known, tasks=tasks)


@pytest.fixture
def baseline(tmp_path):
    return write(tmp_path / "base", rewards(policies()[0], 4, 1), more={"usage": USAGE}, model="served")


def number(text):
    return int(text.replace(",", ""))


def test_a_baseline_alone(cli, baseline):
    code, out, err = cli("plan", "--baseline", baseline, "--effect", 5)
    assert code == 0, err
    assert "baseline base: airline, 40 tasks × 4 attempts, pass^1" in out
    assert (
        "with 80 % power by a two-sided 95 % interval over tasks" in out
        and "ρ is assumed: plans are made by 0.8" in out
    )
    needed = rows(out, "Tasks that show it")
    assert list(needed) == ["1", "4", "8", "16"]
    one, half, none = map(number, needed["4"][:3])
    assert one < half < none and needed["4"][3] == f"{8 * one:,}–{8 * none:,}"
    sets = rows(out, "Attempts at each task that show it")
    assert sets["airline test"][0] == "20" and sets["airline test"][1:4] == ["37", "–", "–"]
    assert (sets["airline train+val"][0], sets["airline base"][0], sets["the baseline's"][0]) == ("30", "50", "40")
    sizes = rows(out, "Smallest effect that shows")
    assert [(size, row[-1]) for size, row in sizes.items()][:3] == [
        ("50", "airline base"),
        ("100", "all test"),
        ("178", "all train+val"),
    ]
    assert list(sizes)[3:] == ["200", "500", "1,000", "3,000"]
    assert f"`slime-tau2 make-tasks --domain airline --count {half}` makes enough" in out
    assert f"{half} tasks × 4 attempts × 2 models = {8 * half:,} conversations" in out
    assert list(rows(out, "Seeds of each method")) == ["0.0", "1.0", "2.0", "4.0"]
    assert "time: " in out and "at 0.1 s each" in out


def test_it_costs_what_an_attempt_cost_before(cli, baseline, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        json.dumps(
            {"served": {"prompt": 1.0, "cached": 0.5, "completion": 10.0}, "u": {"prompt": 2.0, "completion": 4.0}}
        )
    )
    code, out, _ = cli("plan", "--baseline", baseline, "--effect", 10, "--prices", prices)
    conversations = number(re.search(r"= ([\d,]+) conversations", out)[1])
    each = (400 * 1.0 + 600 * 0.5 + 100 * 10 + 400 * 2 + 50 * 4) / 1e6
    assert code == 0 and f"in all: {conversations * each:.2f} in the currency of the table" in out


def test_a_second_run_measures_how_tasks_gain(cli, baseline, tmp_path):
    other = write(tmp_path / "grpo", rewards(policies()[1], 4, 2))
    code, out, err = cli("plan", "--baseline", baseline, "--against", other, "--effect", 5)
    assert code == 0, err
    measured = float(re.search(r"ρ is measured: (\d\.\d\d) \[", out)[1])
    assert measured > 0.6 and f"measured, {measured:.2f}" in out
    needed = [number(n) for n in rows(out, "Tasks that show it")["4"][:3]]
    assert needed == sorted(needed)


def test_several_seeds_measure_what_a_seed_changes(cli, tmp_path):
    first, second = policies(tasks=100)
    a = [write(tmp_path / f"a{n}", rewards(first, 4, n)) for n in range(3)]
    b = [
        write(tmp_path / f"b{n}", rewards(np.clip(second + s, 0, 1), 4, 9 + n)) for n, s in enumerate((-0.1, 0.0, 0.1))
    ]
    named = [x for run in a for x in ("--baseline", run)] + [x for run in b for x in ("--against", run)]
    code, out, err = cli("plan", *named, "--effect", 5)
    assert code == 0, err
    assert "100 tasks × 4 attempts × 3 models" in out
    deviation = re.search(r"from seed to seed the difference varies by ±(\d+\.\d) points", out)[1]
    assert 5 < float(deviation) < 15
    table = rows(out, "Seeds of each method")
    assert list(table) == [f"{deviation}, measured"], "those assumed are below it"
    assert number(table[f"{deviation}, measured"][0]) > 10
    methods = rows(out, "What shows between two methods")
    assert list(methods)[:2] == ["50", "100"] and all(
        float(of_three) > float(ten) for of_three, _, ten in methods.values()
    )
    code, _, err = cli("plan", *named[:4], *named[6:], "--effect", 5)
    assert code == 2 and "2 runs of --baseline and 3 of --against: pair them by seed" in err


def test_several_domains_are_one_population_or_one_is_named(cli, tmp_path):
    rates = policies(tasks=60)[0]
    each = {"airline": rewards(rates[:30], 2, 1), "retail": rewards(rates[30:], 2, 2)}
    run = write(tmp_path / "run", each)
    code, out, _ = cli("plan", "--baseline", run, "--effect", 5)
    assert code == 0 and "2 domains in one run: each task weighs the same, as in `slime-tau2 compare`" in out
    assert rows(out, "Attempts at each")["airline, retail test"][0] == "60"
    code, out, _ = cli("plan", "--baseline", run, "--effect", 5, "--domain", "retail")
    assert code == 0 and "baseline run: retail, 30 tasks" in out and "domains in one run" not in out
    code, _, err = cli("plan", "--baseline", run, "--effect", 5, "--domain", "telecom")
    assert code == 2 and f"--domain telecom: {run} has airline, retail" in err


def test_another_task_set_is_asked_about(cli, baseline):
    code, out, _ = cli("plan", "--baseline", baseline, "--effect", 5, "--task-set", "telecom")
    sets = rows(out, "Attempts at each")
    assert code == 0 and (sets["telecom test"][0], sets["telecom base"][0]) == ("40", "114")
    code, _, err = cli("plan", "--baseline", baseline, "--effect", 5, "--task-set", "./sets/none")
    assert code == 2 and "sets/none" in err


def test_a_baseline_without_a_success_says_what_it_does_not_know(cli, tmp_path):
    run = write(tmp_path / "base", {str(n): [0.0, 0.0] for n in range(30)})
    code, out, _ = cli("plan", "--baseline", run, "--effect", 5)
    assert code == 0 and "no attempt succeeded, which says nothing of how a better policy's successes" in out
    even, _, few = map(number, rows(out, "Tasks that show it")["8"][:3])
    assert even < few and "tokens: the run's records hold none" in out
    assert number(rows(out, "Tasks that show it")["1"][0]) == few, "with one attempt the spread makes no difference"


@pytest.mark.parametrize("effect, why", [(0, "name an improvement above 0"), (-3, "above 0"), ("nan", "above 0")])
def test_an_effect_that_is_none(cli, baseline, effect, why):
    code, _, err = cli("plan", "--baseline", baseline, "--effect", effect)
    assert code == 2 and why in err and err.count("\n") == 1


def test_runs_that_nothing_can_be_planned_from(cli, tmp_path):
    def refused(run, why, *more, effect=5):
        code, _, err = cli("plan", "--baseline", run, "--effect", effect, *more)
        assert code == 2 and err.startswith("error: ") and why in err and err.count("\n") == 1, err

    high = write(tmp_path / "high", {str(n): [1.0, 1.0] if n else [0.0, 0.0] for n in range(33)})
    refused(high, "--effect 5: the baseline has 97.0 %, so that no policy can be more than 3.0 points better")
    once = write(tmp_path / "once", {str(n): [float(n % 2)] for n in range(30)})
    refused(once, f"{once} has one attempt at each task")
    half = write(tmp_path / "half", {str(n): [1.0, 0.0] if n else [1.0] for n in range(30)})
    refused(half, f"{half} is not whole: 59 of 60 attempts scored, 1 not run")
    few = write(tmp_path / "few", {str(n): [1.0, 0.0] for n in range(19)})
    refused(few, f"{few}: 19 tasks say too little")
    good = write(tmp_path / "good", {str(n): [1.0, 0.0] for n in range(30)})
    other = write(tmp_path / "other", {str(n): [1.0, 0.0] for n in range(25, 60)})
    refused(good, "5 tasks in common say too little", "--against", other)
    user = write(tmp_path / "user", {str(n): [1.0, 0.0] for n in range(30)}, user_model="v")
    refused(good, "the runs were not scored alike (user_model: good 'u', user 'v')", "--against", user)
    refused(good, "a run is named twice", "--against", good)
    refused(tmp_path / "nowhere", "holds no run of `slime-tau2 eval`")
