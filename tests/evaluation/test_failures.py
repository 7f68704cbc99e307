"""Failures by kind, on real conversations of the real domains and the bundled one."""

import asyncio

import pytest

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser
from slime_tau2.evaluation.failures import KINDS, classify


def say(text):
    return bench.AssistantMessage(role="assistant", content=text)


def call(name, **arguments):
    return bench.AssistantMessage(role="assistant", tool_calls=[bench.ToolCall(name=name, arguments=arguments)])


def kind_of(world, task_id, script, **limits):
    episode = asyncio.run(driver.run_episode(world, task_id, ScriptedAgent(script), GoldUser(), **limits))
    writes = {name for name, kind in world.grader.tool_types.items() if kind == bench.ToolType.WRITE}
    found = classify({"attempt": 0, **episode.record()}, writes)
    assert found is None or found.kind in KINDS
    return found


@pytest.fixture(scope="module")
def retail():
    return worlds.load("retail", "communicate")


def task_with_a_write(world):
    writes = {name for name, kind in world.grader.tool_types.items() if kind == bench.ToolType.WRITE}
    for task_id in world.task_ids("train"):
        actions = world.task(task_id).evaluation_criteria.actions
        if sum(a.name in writes for a in actions) == 1 and not any(world.grader.gold(world.task(task_id)).errs):
            return task_id, next(a for a in actions if a.name in writes)
    raise AssertionError


def test_success_is_no_failure(retail):
    task_id, _ = task_with_a_write(retail)
    assert kind_of(retail, task_id, scripts.gold(retail.task(task_id))) is None


def test_missing_and_forbidden_writes_and_wrong_arguments(retail):
    task_id, write = task_with_a_write(retail)
    gold = scripts.gold(retail.task(task_id))
    missing = kind_of(retail, task_id, [gold[-1]])
    assert missing.kind == "missing write" and missing.detail.startswith(write.name) and missing.task_id == task_id
    user = next(iter(retail.environments.base.tools.db.users))
    other = {"user_id": user, "address1": "1 Way", "address2": "", "city": "X", "state": "NY", "country": "USA", "zip": "1"}
    assert write.name != "modify_user_address"
    forbidden = kind_of(retail, task_id, [call("modify_user_address", **other), *gold])
    assert forbidden.kind == "forbidden write" and "1 Way" in forbidden.detail
    elsewhere = next(
        a
        for t in retail.task_ids("train")
        for a in retail.task(t).evaluation_criteria.actions
        if a.name == write.name and a.arguments != write.arguments and t != task_id and not any(retail.grader.gold(retail.task(t)).errs)
    )
    wrong = kind_of(retail, task_id, [call(elsewhere.name, **elsewhere.arguments), gold[-1]])
    assert wrong.kind == "wrong argument" and wrong.detail.startswith(write.name)


def test_what_was_not_said(retail):
    task_id = next(t for t in retail.task_ids("train") if retail.task(t).evaluation_criteria.communicate_info)
    gold = scripts.gold(retail.task(task_id))
    assert kind_of(retail, task_id, [*gold[:-1], say(f"Done. {scripts.END}")]).kind == "wrong amount told"


def test_endings(retail):
    task_id, _ = task_with_a_write(retail)
    assert kind_of(retail, task_id, [say("Hm?")], max_steps=6).kind == "ran out"
    assert kind_of(retail, task_id, [call("nope")], max_errors=2).kind == "too many errors"
    telecom = worlds.load("telecom")
    unfixed = next(t for t in telecom.task_ids("train") if all(a.requestor == "user" for a in telecom.task(t).evaluation_criteria.actions))
    assert kind_of(telecom, unfixed, scripts.noop(None)).kind in ("not fixed", "missing write")


def test_parse_errors_and_user_errors():
    turn = {"calls": 2, "malformed": 1}
    base = {"reward": 0.0, "domain": "d", "task_id": "t", "attempt": 1, "tool_errors": 1, "steps": 3, "turns": [turn], "reward_info": {}}
    assert classify({**base, "termination": "user_stop", "messages": []}, set()).kind == "parse errors"
    assert classify({**base, "termination": "agent_error", "turns": [], "messages": []}, set()).detail == "an empty turn"
    early = {
        **base,
        "turns": [],
        "termination": "user_stop",
        "user_stopped_early": True,
        "messages": [{"role": "user", "content": "Yes ###STOP###"}],
    }
    assert classify(early, set()).kind == "user error suspected"
    assert classify({**early, "user_stopped_early": False}, set()).kind == "other"
    assert classify({**base, "reward": None, "termination": "user_failure"}, set()) is None
