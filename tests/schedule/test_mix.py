"""Shares of domains: what a weight means, and that a resumed run keeps to it."""

import json
from collections import Counter

import pytest

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError
from slime_tau2.schedule.mix import Mix, shares
from slime_tau2.schedule.order import TaskOrder
from slime_tau2.types import TaskRef

TASKS = {
    str(t): t
    for domain, size in (("a", 30), ("b", 10), ("c", 4))
    for n in range(size)
    for t in [TaskRef(domain, str(n))]
}
WEIGHTS = {"c": 0.5}


def config(**options):
    return Tau2Config(seed=3, domain_weights=WEIGHTS, **options)


def domains(names):
    return Counter(name[0] for name in names)


def test_a_weight_is_a_share_of_the_groups_and_the_rest_goes_by_tasks():
    assert shares({"c": 0.5}, {"a": 30, "b": 10, "c": 4}) == {"a": 0.375, "b": 0.125, "c": 0.5}
    assert shares({"a": 0.25, "b": 0.75}, {"a": 1, "b": 1}) == {"a": 0.25, "b": 0.75}


@pytest.mark.parametrize(
    "weights, said",
    [
        ({"d": 0.5}, "d is none of tau2_domains; there are a, b"),
        ({"a": 0.5, "b": 0.25}, r"the shares sum to 0\.75, and every domain has one"),
        ({"a": 1.0}, "the shares sum to 1, and nothing is left for b"),
    ],
)
def test_shares_that_cannot_be(weights, said):
    with pytest.raises(ConfigError, match=f"tau2_domain_weights: .*{said}"):
        shares(weights, {"a": 2, "b": 2})
    with pytest.raises(ConfigError, match=r"the shares sum to 1\.5, and to 1 at most"):
        Tau2Config.from_mapping({"domain_weights": {"a": 0.75, "b": 0.75}}, "here")
    with pytest.raises(ConfigError, match="a: a share lies above 0"):
        Tau2Config.from_mapping({"domain_weights": {"a": 0.0}}, "here")


def test_shares_hold_at_every_moment():
    mix = Mix({"a": 0.375, "b": 0.125, "c": 0.5})
    for n in range(1, 500):
        mix.next()
        assert all(abs(mix.drawn[d] - share * n) < 1.5 for d, share in mix.shares.items())


@pytest.mark.parametrize("curriculum", [False, True])
def test_groups_are_drawn_by_shares(curriculum):
    order = TaskOrder(config(curriculum=curriculum), TASKS)
    drawn = [name for _ in range(10) for name in order.draw(8)]
    assert domains(drawn) == {"a": 30, "b": 10, "c": 40}
    if not curriculum:
        assert Counter(name for name in drawn if name[0] == "c") == dict.fromkeys([n for n in TASKS if n[0] == "c"], 10)
        assert len(set(drawn)) == len(TASKS), "each domain in epochs of its own"
    assert sum(domains(order.draw(8)).values()) == 8


@pytest.mark.parametrize("curriculum", [False, True])
def test_a_resumed_run_keeps_to_the_shares(curriculum):
    first, second = (TaskOrder(config(curriculum=curriculum), TASKS) for _ in range(2))
    first.draw(21)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.draw(5) for _ in range(9)] == [first.draw(5) for _ in range(9)]


def test_other_shares_begin_anew(caplog):
    first = TaskOrder(config(), TASKS)
    first.draw(21)
    state = first.state_dict()
    for options in ({}, {"domain_weights": {"c": 0.25}}):
        other = TaskOrder(Tau2Config(seed=3, **options), TASKS)
        other.load_state_dict(state)
        assert other.position == 0 and "their order begins anew" in caplog.text
    weighted = TaskOrder(config(), TASKS)
    weighted.load_state_dict(TaskOrder(Tau2Config(seed=3), TASKS).state_dict())
    assert domains(weighted.draw(8)) == {"a": 3, "b": 1, "c": 4}
    with pytest.raises(ValueError, match="c is 'x', and not a whole number"):
        weighted.load_state_dict({**state, "drawn": {"a": 1, "b": 1, "c": "x"}})
