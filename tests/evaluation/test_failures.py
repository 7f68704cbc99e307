"""Failures by kind, on real conversations of the real domains and the bundled one."""

import asyncio

import pytest

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser
from slime_tau2.evaluation.failures import KINDS, classify
from slime_tau2.limits import Limits


def say(text):
    return bench.AssistantMessage(role="assistant", content=text)


def call(name, **arguments):
    return bench.AssistantMessage(role="assistant", tool_calls=[bench.ToolCall(name=name, arguments=arguments)])


def kind_of(world, task_id, script, **limits):
    episode = asyncio.run(
        driver.run_episode(world, task_id, ScriptedAgent(script), GoldUser(), limits=Limits(**limits))
    )
    assert episode.reward is not None, episode.detail
    found = classify({"attempt": 0, **episode.record()}, world.writes)
    assert found is None or found.kind in KINDS
    return found


@pytest.fixture(scope="module")
def retail():
    return worlds.load("retail", retail_basis="communicate")


def task_with_a_write(world):
    for task_id in world.task_ids("train"):
        actions = world.task(task_id).evaluation_criteria.actions
        if sum(a.name in world.writes for a in actions) == 1 and not any(world.grader.gold(world.task(task_id)).errs):
            return task_id, next(a for a in actions if a.name in world.writes)
    raise AssertionError


def test_success_is_no_failure(retail):
    task_id, _ = task_with_a_write(retail)
    assert kind_of(retail, task_id, scripts.gold(retail.task(task_id))) is None


def test_missing_and_forbidden_writes_and_wrong_arguments(retail):
    task_id, write = task_with_a_write(retail)
    gold = scripts.gold(retail.task(task_id))
    missing = kind_of(retail, task_id, [gold[-1]])
    assert (
        missing.kind == "missing write, the agent's"
        and missing.detail.startswith(write.name)
        and missing.task_id == task_id
    )
    user = next(iter(retail.environments.base.tools.db.users))
    other = {
        "user_id": user,
        "address1": "1 Way",
        "address2": "",
        "city": "X",
        "state": "NY",
        "country": "USA",
        "zip": "1",
    }
    assert write.name != "modify_user_address"
    forbidden = kind_of(retail, task_id, [call("modify_user_address", **other), *gold])
    assert forbidden.kind == "forbidden write" and "1 Way" in forbidden.detail
    elsewhere = next(
        a
        for t in retail.task_ids("train")
        for a in retail.task(t).evaluation_criteria.actions
        if a.name == write.name
        and a.arguments != write.arguments
        and t != task_id
        and not any(retail.grader.gold(retail.task(t)).errs)
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
    unfixed = next(
        t
        for t in telecom.task_ids("train")
        if all(a.requestor == "user" for a in telecom.task(t).evaluation_criteria.actions)
    )
    assert kind_of(telecom, unfixed, scripts.noop(None)).kind == "missing write, the user's"


def test_parse_errors_and_user_errors():
    turn = {"calls": 2, "malformed": 1}
    base = {
        "reward": 0.0,
        "domain": "d",
        "task_id": "t",
        "attempt": 1,
        "tool_errors": 1,
        "steps": 3,
        "turns": [turn],
        "reward_info": {},
    }
    assert classify({**base, "termination": "user_stop", "messages": []}, set()).kind == "parse errors"
    assert (
        classify({**base, "termination": "agent_error", "turns": [], "messages": []}, set()).detail == "an empty turn"
    )
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


def action(name, who="assistant", **arguments):
    return {"name": name, "requestor": who, "arguments": arguments}


def failed(basis, *calls, gold=(), matched=False, db=False, unmet=(), errors=(), **checks):
    """A failed record in which `calls` were made; `errors` are the numbers of those that were refused."""
    messages = []
    for n, c in enumerate(calls):
        messages += [
            {"role": c["requestor"], "tool_calls": [{"id": str(n), **c}]},
            {"role": "tool", "id": str(n), "requestor": c["requestor"], "error": n in errors},
        ]
    info = {
        "reward_basis": list(basis),
        "db_check": {"db_match": db},
        "action_checks": [{"action": a, "action_match": matched} for a in gold],
        "env_assertions": [{"met": False, "env_assertion": a} for a in unmet],
        **checks,
    }
    base = {"reward": 0.0, "domain": "d", "task_id": "t", "attempt": 0, "tool_errors": 0, "steps": 3, "turns": []}
    return {**base, "termination": "user_stop", "reward_info": info, "messages": messages}


def told(*args, **kwargs):
    found = classify(failed(*args, **kwargs), {"pay", "toggle"})
    return found.kind, found.detail


WANTED = {"env_type": "user", "func_name": "assert_status", "arguments": {"expected": "on"}, "assert_value": False}
SHOULD = 'assert_status({"expected": "on"}) should be false'
PAY, TOGGLE, HAND_OVER = (
    action("pay", bill="B1"),
    action("toggle", "user"),
    action("transfer_to_human_agents", summary=""),
)


def test_whose_action_is_missing_and_what_does_not_hold():
    both = [TOGGLE, PAY]
    assert told(["ENV_ASSERTION"], gold=both, unmet=[WANTED]) == (
        "missing write, the agent's",
        f'pay({{"bill": "B1"}}); {SHOULD}',
    )
    assert told(["ENV_ASSERTION"], PAY, gold=both, unmet=[WANTED]) == (
        "missing write, the user's",
        f"toggle({{}}); {SHOULD}",
    )
    assert told(["ENV_ASSERTION"], PAY, TOGGLE, gold=both, unmet=[WANTED]) == ("assertion unmet", SHOULD)
    made_by_the_other = action("toggle", "assistant")
    assert told(["ENV_ASSERTION"], PAY, made_by_the_other, gold=both, unmet=[WANTED])[0] == "missing write, the user's"


def test_a_database_that_is_not_asked_for_is_no_reason():
    harmless = action("pay", bill="B2")
    assert told(["ENV_ASSERTION"], PAY, harmless, gold=[TOGGLE, PAY], unmet=[WANTED])[0] == "missing write, the user's"
    assert told(["DB"], PAY, harmless, gold=[TOGGLE, PAY]) == ("forbidden write", 'pay({"bill": "B2"})')
    assert told(["COMMUNICATE"], gold=[PAY], communicate_checks=[{"met": False, "info": "12"}]) == (
        "wrong amount told",
        "never said '12'",
    )


def test_writes_are_counted_and_refusals_told():
    assert told(["ENV_ASSERTION"], TOGGLE, gold=[TOGGLE, TOGGLE], unmet=[WANTED])[1].startswith("toggle({});")
    undone_again = told(["ENV_ASSERTION"], TOGGLE, TOGGLE, gold=[TOGGLE], unmet=[WANTED])
    assert undone_again == ("forbidden write", f"the user's toggle({{}}); {SHOULD}")
    assert told(["DB"], PAY, gold=[PAY], errors=[0]) == ("missing write, the agent's", 'pay({"bill": "B1"}), refused')
    other = action("pay", bill="B2")
    assert told(["DB"], other, gold=[PAY], errors=[0]) == (
        "wrong argument",
        'pay({"bill": "B2"}) for pay({"bill": "B1"})',
    )
    assert told(["DB"], PAY, other, gold=[PAY, TOGGLE], errors=[0])[0] == "forbidden write", (
        "what the solution too is refused is no mistake"
    )


def test_transfers():
    assert told(["ACTION", "ENV_ASSERTION"], gold=[HAND_OVER])[0] == "transfer not made"
    assert told(["ENV_ASSERTION"], HAND_OVER, gold=[PAY], unmet=[WANTED])[0] == "transferred without need"
    assert told(["ENV_ASSERTION"], HAND_OVER, gold=[PAY], unmet=[WANTED], errors=[0])[0] == "missing write, the agent's"
    assert told(["DB"], action("pay", bill="B2"), HAND_OVER, gold=[])[0] == "forbidden write"
    assert told(["DB"], HAND_OVER, gold=[PAY, HAND_OVER])[0] == "missing write, the agent's"


def test_what_else_counts():
    assert told(["ACTION"], gold=[action("look", id="1")]) == ("missing read", 'look({"id": "1"})')
    assert told(["NL_ASSERTION"], nl_assertions=[{"met": False, "nl_assertion": "is polite"}]) == (
        "judged unmet",
        "is polite",
    )
    assert told(["DB"]) == ("other", "the database differs from the solution's")


def test_an_example_says_what_before_where():
    found = classify({**failed(["DB"], gold=[PAY]), "task_id": "[mms_issue]" + "a|" * 200}, {"pay"})
    assert found.example.startswith('pay({"bill": "B1"}) ([mms_issue]a|') and len(found.example) < 90


def test_what_the_tasks_history_holds_is_nobodys_fault():
    before = failed(["DB"], action("pay", bill="B9"), HAND_OVER, gold=[PAY])
    before["messages"] += [{"role": "assistant", "content": "Sorry."}, {"role": "user", "content": "Bye"}]
    before["turns"] = [{"calls": 0, "malformed": 0, "sent": True}]
    assert classify(before, {"pay"}).kind == "missing write, the agent's"
    assert classify({**before, "turns": []}, {"pay"}).kind == "wrong argument", (
        "an import knows no turns: all is the attempt's"
    )


class Tools(bench.ToolKitBase):
    """A generic tool that changes state, as banking_knowledge's unlocking is; a read that does not."""

    @bench.is_tool(bench.ToolType.GENERIC)
    def unlock(self) -> str:
        """Unlock."""

    @bench.is_tool(bench.ToolType.READ)
    def look(self) -> str:
        """Look."""


class SaysSo(Tools):
    def tool_mutates_state(self, name):
        return name == "unlock"


def test_which_tools_write(retail):
    assert bench.writing_tools(SaysSo(None)) == {"unlock"}
    assert {"cancel_pending_order", "modify_user_address"} <= retail.writes
    assert not {"get_order_details", "calculate", "transfer_to_human_agents"} & retail.writes
    assert {"toggle_roaming", "enable_roaming"} <= worlds.load("telecom").writes, "the user's too"
