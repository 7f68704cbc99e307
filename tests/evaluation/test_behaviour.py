"""What an agent does is counted from records: lengths, refusals, writes that the solution does not hold."""

from math import isnan

import pytest
import run_files

from slime_tau2.evaluation import behaviour
from slime_tau2.evaluation.behaviour import Tools

TOOLS = Tools({"swap_item", "refund", "deny_refund", "toggle"}, {"refund": ("order_id", "amount")})
GOLD = [
    {"name": "get_order", "arguments": {"order_id": "W1"}, "requestor": "assistant"},
    {"name": "refund", "arguments": {"order_id": "W1", "amount": "$40"}, "requestor": "assistant"},
    {"name": "deny_refund", "arguments": {"order_id": "W2", "reason": "final sale"}, "requestor": "assistant"},
]


def attempt(*calls, gold=GOLD, task="a", **more):
    """calls: (tool, arguments, "user" for the user's or "error" for one that failed)."""
    messages = []
    for n, (name, arguments, *how) in enumerate(calls):
        role = "user" if "user" in how else "assistant"
        call = {"id": str(n), "name": name, "arguments": arguments, "requestor": role}
        messages.append({"role": role, "tool_calls": [call]})
        messages.append({"role": "tool", "id": str(n), "content": "", "error": "error" in how})
    agents = sum(m["role"] == "assistant" for m in messages)
    info = {"reward": 0.0, "action_checks": [{"action": action} for action in gold]} if gold else {"reward": 0.0}
    told = {"messages": messages, "turns": [run_files.TURN] * agents, "reward_info": info, "sampled_tokens": 30}
    return run_files.record("helpdesk", task, 0, 0.0, **told | more)


def test_measures_by_hand():
    done = attempt(
        ("get_order", {"order_id": "W1"}),
        ("refund", {"order_id": "W1", "amount": "$40"}),
        ("refund", {"order_id": "W1", "amount": "$40"}),
        ("refund", {"order_id": "W1"}, "error"),  # refused by the tool: it changed nothing
        ("deny_refund", {"order_id": "W2", "reason": "final sale"}),
        ("deny_refund", {"order_id": "W3", "reason": "final sale"}),
        ("transfer_to_human_agents", {"summary": ""}),
        ("swap_item", {"order_id": "W1", "item": "lamp"}),
        ("swap_item", {"order_id": "W1", "item": "lamp"}),
        ("toggle", {"setting": "vpn"}, "user"),
        tool_errors=1,
    )
    assert behaviour.measures(done, TOOLS, GOLD) == {
        "turns": 9,
        "tokens": 30,
        "calls": 9,
        "errors": 1,
        "incomplete": 1,
        "repeated": 2,
        "refused": 3,
        "refused without need": 2,
        "forbidden writes": 3,
    }


def test_an_attempt_that_ran_out_is_measured_by_the_solution_that_another_record_names():
    """tau2 checks nothing of it: every write would seem forbidden."""
    right = ("refund", {"order_id": "W1", "amount": "$40"})
    wrong = ("refund", {"order_id": "W1", "amount": "$20"})
    means = behaviour.means([attempt(right, gold=[]), attempt(wrong), attempt(right, task="b", gold=[])], TOOLS)
    assert means["forbidden writes"] == means["forbidden writes in"] == 0.5, "of task b nobody knows"
    assert means["turns"] == 1.0 and means["calls"] == 1.0
    assert isnan(behaviour.means([attempt(right, gold=[])], TOOLS)["forbidden writes"])


def test_means_are_over_episodes():
    right, wrong = ("refund", {"order_id": "W1", "amount": "$40"}), ("refund", {"order_id": "W1", "amount": "$20"})
    means = behaviour.means([attempt(wrong, wrong), attempt(right, sampled_tokens=60)], TOOLS)
    assert (means["forbidden writes"], means["forbidden writes in"], means["tokens"]) == (1.0, 0.5, 45)
    assert means["turns"] == pytest.approx(1.5)
