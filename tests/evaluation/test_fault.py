"""Whose fault a failed conversation was: on planted faults, on blameless users, and word by word."""

import copy
import random

import pytest
import run_files
from planted_faults import Played

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.evaluation import conversations
from slime_tau2.evaluation.fault import judge, kinds, of_user_said, summary, testimony
from slime_tau2.evaluation.fault.kinds import KINDS
from slime_tau2.factory.phrasing import ANYTHING_ELSE, compose
from slime_tau2.verification.valueflow import Known

RECALLS = {
    kinds.SAID: 0.8,
    kinds.NOT_DONE: 0.8,
    kinds.STOPPED: 0.7,
    kinds.AGAINST_POLICY: 1.0,
    kinds.MADE_UP: 0.8,
    kinds.OTHER_VALUE: 0.8,
    kinds.RULE_BROKEN: 1.0,
    kinds.UNREADABLE: 1.0,
}
"""Least share of the planted faults that is found."""


@pytest.fixture(scope="module", params=["retail", "airline", "telecom"])
def played(request):
    return Played(request.param, 10, seed=3)


@pytest.fixture(scope="module")
def planted(played):
    """[(planted conversation, {kind: finding that stands})]"""
    out = []
    for one in played.planted():
        before = copy.deepcopy(one.record)
        judged = judge.Judge({played.domain: one.world or played.world}).judge(one.record)
        assert one.record == before, "a record is only read"
        out.append((one, {f.kind: f for f in judged.standing}))
    return out


def test_what_was_planted_is_found_and_nothing_else_is_claimed(planted):
    for one, found in planted:
        for kind, finding in found.items():
            fair = kind == one.kind or (one.agent and KINDS[kind][0] == "agent")
            assert fair, f"{one.record['task_id']}, {one.how or one.kind}: {kind}, {finding.text}"
    for kind, least in RECALLS.items():
        hits = [kind in found for one, found in planted if one.kind == kind]
        assert sum(hits) >= least * len(hits), kind
    codes = [found for one, found in planted if one.how == "a code"]
    assert codes and sum(kinds.LEFT_OUT in found for found in codes) >= 0.5 * len(codes)


def test_a_blameless_user_and_reference_are_never_accused(planted):
    blameless = [found for one, found in planted if one.agent or not one.kind]
    assert len(blameless) > 50
    assert not [kind for found in blameless for kind in found if KINDS[kind][0] != "agent"]


def test_each_finding_says_where_and_what_the_scenario_has(planted):
    said = [(one, found[kinds.SAID]) for one, found in planted if kinds.SAID in found]
    assert said
    for one, finding in said:
        message = one.record["messages"][finding.message]
        assert message["role"] == "user" and "scenario has" in finding.held
    stopped = [(one, found[kinds.STOPPED]) for one, found in planted if kinds.STOPPED in found]
    assert all(finding.message == len(one.record["messages"]) - 1 for one, finding in stopped)


def lost(helpdesk, task_id, *messages):
    """The record of a lost conversation in helpdesk; each message is (role, words or calls[, error])."""
    rows = []
    for n, (role, what, *error) in enumerate(messages):
        row = {"role": role, "content": what if isinstance(what, str) else None}
        if not isinstance(what, str):
            row["tool_calls"] = [{"id": f"c{n}", "name": what[0], "arguments": what[1], "requestor": role}]
        if role == "tool":
            row |= {"id": f"c{n - 1}", "requestor": "assistant", "error": bool(error)}
        rows.append(row)
    info = {"reward": 0.0, "reward_basis": ["DB", "COMMUNICATE"], "db_check": {"db_match": False}}
    more = {"tasks_sha256": helpdesk.tasks_sha256, "messages": rows, "reward_info": info, "steps": len(rows)}
    return run_files.record("helpdesk", task_id, 0, 0.0, **more)


@pytest.fixture(scope="module")
def refund(helpdesk):
    """A refund task of helpdesk: (id, order, amount)."""
    for task in helpdesk.tasks.values():
        action = task.evaluation_criteria.actions[-1]
        if action.name == "refund":
            return task.id, action.arguments["order_id"], action.arguments["amount"]


def whose(record):
    judged = judge.Judge().judge(record)
    return judged.whose, [f.kind for f in judged.findings], judged


def test_an_id_that_was_mistyped_and_put_right_is_nobodys_fault(helpdesk, refund):
    task_id, order, _ = refund
    other = "W11" if order != "W11" else "W12"
    opening = [
        ("assistant", "Hi! How can I help you today?"),
        ("user", f"Please refund {other}."),
        ("assistant", ("get_order", {"order_id": other})),
        ("tool", f"Error: order {other} not found", True),
    ]
    bye = ("user", f"Great. {bench.STOP}")
    right = [
        ("assistant", f"I cannot find {other}. Which order?"),
        ("user", f"It is {order}."),
        ("assistant", "Sorry."),
    ]
    verdict, found, judged = whose(lost(helpdesk, task_id, *opening, *right, bye))
    assert (verdict, found) == (judge.UNTOLD, [kinds.SAID]) and judged.findings[0].mended == 5
    verdict, found, judged = whose(lost(helpdesk, task_id, *opening, ("assistant", "Sorry."), bye))
    assert (verdict, found) == ("user", [kinds.SAID])
    assert other in judged.findings[0].words and order in judged.findings[0].held
    assert judge.shares([judged]) == {"agent": 0, "user": 1, "reference": 0, "several": 0, judge.UNTOLD: 0}


def test_agent_and_user_can_both_be_at_fault(helpdesk, refund):
    task_id, _, _ = refund
    record = lost(
        helpdesk,
        task_id,
        ("assistant", "Hi! How can I help you today?"),
        ("user", "I want a refund."),
        ("assistant", ("refund", {"order_id": "W99", "amount": "$99"})),
        ("tool", "Error: order W99 not found", True),
        ("assistant", "Done, refunded."),
        ("user", f"Thanks, bye. {bench.STOP}"),
    )
    verdict, found, judged = whose(record)
    assert verdict == "several" and found == [kinds.LEFT_OUT, kinds.MADE_UP]
    rows = summary.to_json([judged])
    assert rows["whose"]["several"] == 1 and [f["party"] for f in rows["findings"]] == ["user", "agent"]
    assert [f["message"] for f in rows["findings"]] == [1, 2]
    lines = "\n".join(summary.lines([judged]))
    assert "proven in 1 of 1 failed conversations (100 %): several 1" in lines and task_id in lines
    faults = conversations.talk(record, findings=judged.findings)["faults"]
    assert [(fault["party"], fault["at"]) for fault in faults] == [("user", 1), ("agent", 2)]


@pytest.fixture
def two_orders(helpdesk, refund):
    """(a world whose one task names another order of the user's beside the one to refund, that task's id, both)"""
    task_id, order, _ = refund
    other = "W11" if order != "W11" else "W12"
    task = helpdesk.tasks[task_id].model_dump(mode="json")
    task["user_scenario"]["instructions"]["known_info"] += f" Your other order is {other}, a lamp with a blue shade."
    world = worlds.build(helpdesk.spec, name="helpdesk", tasks=[bench.Task.model_validate(task)])
    return world, task_id, order, other


def left_out_in(two_orders, opening, *messages):
    """Whether the user is said to have left something out."""
    world, task_id, _, _ = two_orders
    record = lost(world, task_id, ("assistant", "Hi! How can I help you today?"), ("user", opening), *messages)
    return kinds.LEFT_OUT in {f.kind for f in judge.Judge({"helpdesk": world}).judge(record).findings}


def test_who_names_another_of_the_scenarios_in_a_values_place_leaves_nothing_out(two_orders):
    other = two_orders[3]
    asked = ("assistant", "Is there anything else?"), ("user", f"No, bye. {bench.STOP}")
    assert left_out_in(two_orders, "I want a refund.", *asked)
    assert not left_out_in(two_orders, f"I want a refund for order {other}.", *asked)


def test_an_answer_out_of_the_scenario_to_what_was_asked_leaves_nothing_out(two_orders):
    end = ("assistant", "I'm sorry, I can't do that."), ("user", f"Too bad. {bench.STOP}")
    asked = ("assistant", "What is the order id of the lamp?")
    opening = f"Hello, I have a question on {two_orders[3]}."
    assert left_out_in(two_orders, opening, asked, ("user", "I'd rather not say."), *end)
    assert not left_out_in(two_orders, opening, asked, ("user", "It is a lamp with a blue shade."), *end)
    assert left_out_in(two_orders, opening, asked, ("user", "Confirm the amount of the refund."), *end)


def test_every_closing_question_of_the_expert_is_one():
    rng = random.Random(0)
    said = {compose(rng.choice(ANYTHING_ELSE), rng) for _ in range(500)}
    assert len(said) > 30
    assert not [text for text in said if not testimony.closes(text) or testimony.open_requests(text)]


def test_successes_and_what_has_no_score_are_not_judged(helpdesk, refund):
    record = lost(helpdesk, refund[0], ("assistant", "Hi!"), ("user", bench.STOP))
    assert judge.Judge().judge({**record, "reward": 1.0}) is None
    assert judge.Judge().judge({**record, "reward": None}) is None


@pytest.mark.parametrize("change", [{"tasks_sha256": "another"}, {"domain": "nowhere"}, {"task_id": "nobody's"}])
def test_a_task_that_is_not_here_is_not_examined_and_that_is_said(helpdesk, refund, change):
    record = lost(helpdesk, refund[0], ("assistant", "Hi!"), ("user", "I want a refund."), ("assistant", "No."))
    judged = judge.Judge().judge({**record, **change})
    assert not judged.examined and judged.whose == judge.UNTOLD
    assert "1 could not be examined" in summary.summary([judged])
    unread = {**record, **change, "termination": "agent_error"}
    assert judge.Judge().judge(unread).whose == "agent", "that needs no task"


@pytest.mark.parametrize(
    ("text", "value", "says"),
    [
        ("It is W30.", "W30", True),
        ("It is W30.", "W3", False),
        ("order #W123", "#W123", True),
        ("mail x.noah@example.com", "noah@example.com", False),
        ("on May 25, please", "2024-05-25", True),
        ("on May 26, please", "2024-05-25", False),
        ("add 1.5 GB", 1.5, True),
        ("a wooden desk", "wood", False),
        ("yes", True, False),
    ],
)
def test_a_value_is_said_whole(text, value, says):
    assert testimony.says(text, value) is says


@pytest.mark.parametrize(
    ("text", "argument", "value", "asks"),
    [
        ("Which order?", "order_id", "W30", True),
        ("What is your user id?", "user_id", "a_b_1", True),
        ("Shall I cancel the order?", "order_id", "W30", False),
        ("Which item of the order do you mean?", "order_id", "W30", False),
        ("Could you give me your email address?", "address1", "1 Oak Street", False),
        ("Which address should I put in?", "address1", "1 Oak Street", True),
        ("I need everyone's date of birth.", "date", "2024-05-25", False),
        ("How much data would you like?", "gb_amount", 1.5, True),
        ("Your zip code will do as well.", "zip", "19019", True),
        ("Your order is on its way.", "order_id", "W30", False),
        ("Before anything else, please give me your user id.", "user_id", "lucas_1", True),
    ],
)
def test_what_asks_for_a_value(text, argument, value, asks):
    assert testimony.asks_for(text, argument, value, "refuel_data") is asks


@pytest.mark.parametrize(
    ("text", "waits"),
    [
        ("Shall I go ahead?", True),
        ("Please confirm.", True),
        ("Is there anything else I can do for you?", False),
        ("Please note that this can be done only once.", False),
        ("Done, refunded.", False),
    ],
)
def test_what_waits_for_an_answer(text, waits):
    assert bool(testimony.open_requests(text)) is waits


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        (f"Thanks, bye! {bench.STOP}", True),
        (bench.STOP, True),
        (f"I'll think about it. {bench.STOP}", False),
        (f"No, thanks. {bench.STOP}", False),
    ],
)
def test_what_only_takes_leave(text, leaves):
    assert testimony.only_takes_leave(text) is leaves


def test_another_day_next_to_one_that_was_heard_accuses_nobody():
    """A user may say "the next day, May 24" of a trip on May 23 that the agent has named."""
    heard = Known("Your trip is on May 23, 2024.")
    assert of_user_said.may_be_heard(heard, "2024-05-24") and not of_user_said.may_be_heard(heard, "2024-05-28")
