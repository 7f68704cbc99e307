"""For every rollout id, a resumed run serves each group exactly once, in every order of calls that slime has
(tests/hooks/slime_model.py).
"""

import pytest
from slime_model import Run

from slime_tau2.hooks import data_source

RUNS = [
    ("sync", "train", True),
    ("sync", "train_async", True),
    ("partial", "train", True),
    ("partial", "train_async", True),
    ("fully", "train_async", True),
    ("fully_v031", "train_async", True),
    ("sync", "train", False),
    ("partial", "train_async", False),
]


@pytest.fixture(autouse=True)
def version(request, monkeypatch):
    mode = request.node.callspec.params["mode"] if hasattr(request.node, "callspec") else "fully_v031"
    monkeypatch.setattr("os.fsync", lambda file: None)  # 10,000 small files: a disk's speed is nothing to learn here
    monkeypatch.setattr(data_source, "throws_groups_away", lambda: mode == "fully_v031")


@pytest.mark.parametrize("mode, loop, hook", RUNS)
def test_no_rollouts_state_loses_or_doubles_a_group(tmp_path, mode, loop, hook):
    for seed in range(3):
        run = Run(tmp_path / str(seed), mode, loop, seed, hook)
        run.train(20)
        assert len(set(run.closed.values())) == 20


@pytest.mark.parametrize("mode, loop, hook", RUNS)
def test_killed_at_random_points_the_same_command_goes_on(tmp_path, mode, loop, hook):
    for seed in range(2):
        run = Run(tmp_path / str(seed), mode, loop, 100 + seed, hook)
        run.train(20, kills=20)
        assert set(run.closed.values()) == set(range(20)) and run.checkpoint == 19


def test_groups_that_v031_throws_away_are_served_in_the_same_run(tmp_path):
    run = Run(tmp_path, "fully_v031", "train_async", 1)
    run.train(40)
    waiting = {g[0].group_index for g in [*run.active, *run.queue]}
    stuck = [k for k in run.source.groups.out if k not in waiting]
    assert len(stuck) <= 3 * 7, "only those of the last rollouts, that may yet be found waiting"
