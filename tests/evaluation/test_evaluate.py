"""`slime-tau2 eval` over several domains, and what it says of a run that is not whole."""

import json

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI
from serving import Serving

from slime_tau2 import bench
from slime_tau2.evaluation import plan, runs

pypi = pytest.mark.skipif(bench.VINTAGE.name != "pypi", reason="figures of the copy that PyPI carries")


@pypi
@pytest.mark.parametrize(
    "policy, overall, mean, each",
    [
        ("gold", 1.0, 1.0, (1.0, 1.0, 1.0)),
        ("noop", 8 / 100, (0.3 + 0.05) / 3, (0.3, 0.05, 0.0)),
        ("transfer-only", 20 / 100, (0.3 + 0.05 + 0.3) / 3, (0.3, 0.05, 0.3)),
    ],
)
def test_three_domains_are_one_run_with_one_table(cli, tmp_path, policy, overall, mean, each):
    domains = ("airline", "retail", "telecom")
    code, out, error = cli("eval", "--domain", ",".join(domains), "--policy", policy, "--output", tmp_path)
    assert code == 0 and "100 of 100 attempts scored" in out, error
    run = runs.load(tmp_path)
    assert run.plan.name == "airline, retail, telecom (test)" and len(run.plan.keys) == 100
    assert len({t for _, t in run.plan.keys}) < 100, "ids of two domains are the same"
    metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    assert list(metrics) == ["overall", "mean of domains", *domains]
    assert metrics["overall"]["pass@1"]["value"] == pytest.approx(overall)
    assert metrics["mean of domains"]["pass@1"]["value"] == pytest.approx(mean)
    assert tuple(metrics[d]["pass@1"]["value"] for d in domains) == pytest.approx(each)
    assert (
        "noop on the same tasks: overall 8.0 %, mean of domains 11.7 %, airline 30.0 %, retail 5.0 %, telecom 0.0 %"
        in out
    )


@pytest.mark.parametrize(
    "options, why",
    [
        (("--domain", "airline,"), "--domain airline,: name each domain once, separated by commas"),
        (("--domain", "airline,airline"), "--domain airline,airline: name each domain once"),
        (("--domain", "airline,retial"), "unknown domain 'retial'"),
        (("--domain", "airline,retail", "--task", "0"), "--task names tasks of one domain, and --domain names 2"),
    ],
)
def test_bad_lists_of_domains(cli, tmp_path, options, why):
    code, _, error = cli("eval", *options, "--output", tmp_path / "o")
    assert code == 2 and why in error and not (tmp_path / "o").exists()


def test_tasks_outside_the_split_are_not_called_by_its_name(cli, tmp_path):
    code, out, _ = cli("eval", "--domain", "airline", "--task", "0", "--policy", "noop", "--output", tmp_path)
    assert code == 0 and "airline (1 chosen tasks, 0 of them of test)" in out
    assert not plan.read(tmp_path).sets[0].whole


def test_attempts_without_a_score_are_exit_code_2_and_the_same_command_mends_it(cli, tmp_path):
    """A user model that fails on two conversations of four."""
    seen = []

    def answer(body):
        if len(body["messages"]) == 1:
            return "Hi"  # the probe
        if len(body["messages"]) > 2:
            return f"Bye {bench.STOP}"
        seen.append(1)
        return web.Response(status=400, text="no") if len(seen) in (2, 3) and not mended else "I need help."

    mended = []
    command = (
        "eval",
        "--domain",
        "airline",
        "--policy",
        "noop",
        "--user",
        "llm",
        "--concurrency",
        "1",
        "--attempts",
        "2",
        "--task",
        "0",
        "--task",
        "1",
        "--set",
        "user_model=u",
        "--output",
        tmp_path,
    )
    with Serving(FakeOpenAI(answer)) as user:
        command = (*command, "--set", f"user_base_url={user.url}")
        code, out, error = cli(*command)
        left = runs.load(tmp_path).coverage
        assert code == 2 and left.excluded > 0 and "PARTIAL" in out, out + error
        assert f"is not whole: {left}" in error and "the same command runs what has no score again" in error
        assert cli("compare", tmp_path, tmp_path)[0] == 2, "named twice"
        mended.append(1)
        code, out, error = cli(*command)
    assert code == 0 and "4 of 4 attempts scored" in out, error
