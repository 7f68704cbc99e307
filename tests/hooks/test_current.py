"""The one data source of a process, which reward and log hooks find though slime does not hand it to them."""

from argparse import Namespace

import pytest

from slime_tau2.hooks import current, metrics, rewards
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.data_source import Tau2DataSource


@pytest.fixture(autouse=True)
def none_yet(monkeypatch):
    monkeypatch.setattr(current, "_source", None)


def args():
    return Namespace(n_samples_per_prompt=2, tau2_user="scripted")


def test_the_last_one_made_counts():
    assert current.data_source() is None
    first = Tau2DataSource(args())
    assert current.data_source() is first
    second = Tau2DataSource(args())
    assert current.data_source() is second
    current.register(None)
    assert current.data_source() is None


@pytest.mark.parametrize("hook", ["post-process", "log"])
def test_hooks_close_its_groups(hook):
    source = Tau2DataSource(args())
    (group,) = source.get_samples(1)
    for s in group:
        s.status, s.reward, s.metadata["tau2"] = Sample.Status.COMPLETED, 1.0, {"termination": "user_stop"}
    if hook == "log":
        metrics.log_rollout(0, source.args, group, None, 1.0)
    else:
        rewards.reward_post_process(source.args, group)
    assert not source.groups.out and source.metadata["terminations"] == {"user_stop": 2}


def test_hooks_do_without_one():
    batch = [Sample(index=n, group_index=0, reward=float(n)) for n in range(2)]
    assert rewards.reward_post_process(args(), batch) == ([0.0, 1.0], [-0.5, 0.5])
    assert metrics.log_rollout(0, args(), batch, None, 1.0) is False
