"""Do-nothing and transfer-only agents beside a score."""

import json

import pytest

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.evaluation import baselines


@pytest.mark.skipif(bench.VINTAGE.name != "pypi", reason="figures of the copy that PyPI carries")
def test_they_are_the_known_figures_and_played_once(tmp_path, monkeypatch):
    world, path = worlds.load("telecom"), tmp_path / "baselines.json"
    ids = world.task_ids("test")
    baselines.rates(world, ids[:7], path)
    assert baselines.rates(world, ids, path) == {"noop": 0.0, "transfer-only": 12 / 40}
    assert set(json.loads(path.read_text())["noop"]) == set(ids)

    def never(*arguments, **options):
        raise AssertionError("played again")

    monkeypatch.setattr(baselines, "run_episode", never)
    assert baselines.rates(world, ids, path)["transfer-only"] == 12 / 40


def test_a_task_that_needs_a_judge_is_not_counted_as_lost(tmp_path):
    world = worlds.World("mock")
    task = next(t for t in world.tasks.values() if t.evaluation_criteria and t.evaluation_criteria.nl_assertions)
    criteria = task.evaluation_criteria.model_copy(update={"reward_basis": [bench.RewardType.NL_ASSERTION]})
    world.tasks[task.id] = task.model_copy(update={"evaluation_criteria": criteria})
    assert baselines.rates(world, [task.id], tmp_path / "b.json") == {"noop": None, "transfer-only": None}
