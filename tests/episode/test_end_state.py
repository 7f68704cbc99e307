"""Where the databases at the end are not as the solution leaves them."""

import json

import pytest

from slime_tau2.episode import driver, end_state, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser


def form(value):
    return None if value is None else json.dumps(value)


def places(wanted, found, **more):
    told = end_state.difference({("t", "k"): (form(wanted), form(found))}, more)
    return [(p["path"], p["wanted"], p["found"]) for p in told["places"]]


def test_each_place_is_as_deep_as_both_have_something():
    assert places({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "c": 1}) == [("a.b[1]", "2", "3")]
    assert places({"a": [1]}, {"a": [1, {"x": 2}]}) == [("a[1]", None, '{"x": 2}')]
    assert places({"a": 1}, {"b": None}) == [("a", "1", None), ("b", None, "null")]
    assert places(None, {"a": 1}) == [("", None, '{"a": 1}')]
    assert places({"a": 1}, {"a": True}) == [("a", "1", "true")], "which Python calls equal"


def test_it_is_bounded_and_says_how_much_there_is():
    told = end_state.difference({("t", "k"): (form({str(n): "x" * 300 for n in range(50)}), form({}))}, {})
    assert told["total"] == 50 and len(told["places"]) == end_state.MOST
    assert all(len(p["wanted"]) == end_state.LONGEST and p["wanted"].endswith("…") for p in told["places"])
    both = end_state.difference({("b", "k"): ("1", "2"), ("a", "k"): ("1", "2")}, {("phone", ""): ("1", "2")})
    assert [(p["whose"], p["table"]) for p in both["places"]] == [("agent", "a"), ("agent", "b"), ("user", "phone")]


@pytest.mark.parametrize("domain", ["airline", "retail", "telecom", "helpdesk"])
async def test_it_is_told_just_where_tau2_finds_that_the_databases_differ(domain):
    world = worlds.load(domain, retail_basis="communicate")
    told = {}
    for task_id in world.task_ids("test")[:12]:
        for policy in ("gold", "noop"):
            script = scripts.script(policy, world.task(task_id))
            record = (await driver.run_episode(world, task_id, ScriptedAgent(script), GoldUser())).record()
            difference = record["database_difference"]
            assert (difference is None) == record["reward_info"]["db_check"]["db_match"]
            if difference is not None:
                assert 0 < len(difference["places"]) <= difference["total"]
                assert all(p["found"] != p["wanted"] for p in difference["places"])
                told[policy] = told.get(policy, 0) + 1
    assert told.get("noop", 0) > 0, "whoever does nothing leaves something undone"
    assert domain == "telecom" or "gold" not in told
