"""Runs as tau2's results and back; tau2's own metrics and evaluator agree with what the run says."""

import importlib
import json

import pytest

from slime_tau2 import bench
from slime_tau2.data import records
from slime_tau2.episode import worlds
from slime_tau2.evaluation import estimators, plan, runs, tau2_export


@pytest.fixture
def run(cli, tmp_path):
    def call(domain, policy, name, attempts=3):
        tasks = [w for t in {"retail": "0", "airline": "1", "telecom": None}[domain] or () for w in ("--task", t)]
        code, _, error = cli(
            "eval",
            "--domain",
            domain,
            "--policy",
            policy,
            "--attempts",
            attempts,
            "--set",
            "retail_basis=communicate",
            *tasks,
            "--output",
            tmp_path / name,
        )
        assert code == 0, error
        return tmp_path / name

    return call


@pytest.mark.parametrize("domain, policy", [("telecom", "transfer-only"), ("retail", "gold"), ("airline", "noop")])
def test_tau2s_metrics_and_evaluator_agree(run, cli, tmp_path, domain, policy):
    directory = run(domain, policy, "run")
    path = tmp_path / "results.json"
    code, out, _ = cli("export-tau2", directory, "--partial", "--output", path)
    found = records.read(directory / "attempts.jsonl")
    assert code == 0 and f"{len(found)} simulations written" in out
    assert "tau2's leaderboard would not take it: it holds" in out and "of split base: eval --split base" in out
    results = bench.Results.model_validate_json(path.read_text())
    metrics = importlib.import_module(f"{bench.VINTAGE.root}.metrics.agent_metrics").compute_metrics(results)
    ours = estimators.summarise(runs.load(directory).successes, [1, 2, 3])
    assert {k: pytest.approx(v) for k, v in metrics.pass_hat_ks.items()} == {
        k: ours[f"pass^{k}"].value for k in (1, 2, 3)
    }
    for simulation in results.simulations[:12]:
        task = next(t for t in results.tasks if t.id == simulation.task_id)
        assert bench.evaluate(simulation, task, worlds.load(domain).spec).reward == simulation.reward_info.reward, (
            "graded again from the file alone"
        )


def test_there_and_back(run, cli, tmp_path):
    directory = run("telecom", "transfer-only", "run", attempts=2)
    tau2_export.export_run(directory, tmp_path / "results.json")
    code, out, _ = cli("import-tau2", tmp_path / "results.json", "--output", tmp_path / "back")
    assert code == 0 and "80 of 80 attempts scored" in out
    there, back = (records.read(d / "attempts.jsonl") for d in (directory, tmp_path / "back"))
    for a, b in zip(there, back, strict=True):
        for key in ("domain", "task_id", "attempt", "reward", "termination", "reward_info", "messages", "seed"):
            assert a[key] == b[key], key
    (tasks,) = plan.read(tmp_path / "back").sets
    assert tasks.name == "test" and tasks.whole and tasks.tasks_sha256 == there[0]["tasks_sha256"]
    code, out, error = cli("compare", directory, tmp_path / "back")
    assert code == 0 and "+0.0" in out, error
    assert cli("report", tmp_path / "back")[0] == 0


def test_a_run_of_several_domains_is_a_file_each(cli, tmp_path):
    domains = "airline,retail"
    assert (
        cli(
            "eval",
            "--domain",
            domains,
            "--policy",
            "noop",
            "--set",
            "retail_basis=communicate",
            "--output",
            tmp_path / "r",
        )[0]
        == 0
    )
    code, _, error = cli("export-tau2", tmp_path / "r", "--output", tmp_path / "o.json")
    assert code == 2 and "is a run of airline, retail, and tau2's results are of one domain: name a folder" in error
    assert cli("export-tau2", tmp_path / "r", "--output", tmp_path / "o")[0] == 0
    for domain, tasks in (("airline", 20), ("retail", 40)):
        assert (
            len(bench.Results.model_validate_json((tmp_path / "o" / f"{domain}.json").read_text()).simulations) == tasks
        )
        assert cli("import-tau2", tmp_path / "o" / f"{domain}.json", "--output", tmp_path / domain)[0] == 0
        code, _, error = cli("compare", tmp_path / "r", tmp_path / domain)
        assert code == 0, error
        assert cli("export-tau2", tmp_path / domain, "--output", tmp_path / "again" / f"{domain}.json")[0] == 0, (
            "and back once more"
        )


def test_what_the_leaderboard_would_refuse():
    world = worlds.load("retail")
    once = [{"task_id": t, "reward": 0.0} for t in world.task_ids("base")]
    assert tau2_export._refused(world, once, 1) == []
    (few,) = tau2_export._refused(world, [*once, once[0]], 2)
    assert few.startswith("113 tasks have fewer than 2 scored attempts")
    (some,) = tau2_export._refused(world, once[1:], 1)
    assert some.startswith("it holds 113 of the 114 tasks of split base")
    first = world.task(once[0]["task_id"])
    other = first.evaluation_criteria.model_copy(update={"reward_basis": [bench.RewardType.ACTION]})
    rescored = worlds.build(bench.EnvironmentSpec(domain="retail"))
    rescored.tasks[first.id] = first.model_copy(update={"evaluation_criteria": other})
    (basis,) = tau2_export._refused(rescored, once, 1)
    assert basis.startswith("1 tasks were not scored on tau2's own basis")


def test_the_model_can_be_named(run, tmp_path):
    tau2_export.export_run(
        run("airline", "noop", "run", attempts=1), tmp_path / "results.json", "my-model", partial=True
    )
    assert bench.Results.model_validate_json((tmp_path / "results.json").read_text()).info.agent_info.llm == "my-model"


def test_bad_files(run, cli, tmp_path):
    (tmp_path / "x.json").write_text('{"info": 1}')
    for arguments, why in (
        (("import-tau2", tmp_path / "x.json", "--output", tmp_path / "o"), "is no results file that"),
        (("import-tau2", tmp_path / "none.json", "--output", tmp_path / "o"), "none.json does not exist"),
        (("export-tau2", tmp_path / "none", "--output", tmp_path / "o.json"), "holds no run"),
    ):
        code, _, error = cli(*arguments)
        assert code == 2 and why in error and error.count("\n") == 1
    directory = run("telecom", "noop", "run", attempts=1)
    told = json.loads((directory / "plan.json").read_text())
    told["sets"][0]["tasks_sha256"] = "other"
    (directory / "plan.json").write_text(json.dumps(told))
    code, _, error = cli("export-tau2", directory, "--output", tmp_path / "o.json")
    assert code == 2 and "was run on other tasks of telecom" in error
