"""Do-nothing and transfer-only agents beside a score."""

import pytest

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.evaluation import baselines
from slime_tau2.evaluation.plan import RunPlan, TaskSet


@pytest.mark.skipif(bench.VINTAGE.name != "pypi", reason="figures of the copy that PyPI carries")
def test_they_are_the_known_figures_by_domain_and_together(tmp_path):
    found = {d: worlds.load(d) for d in ("airline", "telecom")}
    plan = RunPlan(sets=tuple(TaskSet.of(w, "test") for w in found.values()), attempts=1)
    rates = baselines.rates(found, plan, tmp_path / "b.json")
    assert rates["noop"] == {
        "overall": 6 / 60,
        "mean of domains": pytest.approx(0.15),
        "airline": 6 / 20,
        "telecom": 0.0,
    }
    assert rates["transfer-only"] == {
        "overall": 18 / 60,
        "mean of domains": pytest.approx(0.3),
        "airline": 6 / 20,
        "telecom": 12 / 40,
    }
    assert baselines.read(tmp_path / "b.json") == rates and baselines.read(tmp_path / "none.json") is None


def test_a_task_that_needs_a_judge_is_not_counted_as_lost(tmp_path):
    world = worlds.build(bench.EnvironmentSpec(domain="mock"))
    task = next(t for t in world.tasks.values() if t.evaluation_criteria and t.evaluation_criteria.nl_assertions)
    criteria = task.evaluation_criteria.model_copy(update={"reward_basis": [bench.RewardType.NL_ASSERTION]})
    world.tasks[task.id] = task.model_copy(update={"evaluation_criteria": criteria})
    plan = RunPlan(sets=(TaskSet.of(world, "base", [task.id]),), attempts=1)
    rates = baselines.rates({"mock": world}, plan, tmp_path / "b.json")
    assert rates == {kind: {"overall": None, "mock": None} for kind in ("noop", "transfer-only")}
    assert baselines.lines(rates)[0] == "beside it, noop on the same tasks: overall needs the judge"
