"""helpdesk's tasks, generated from a seed.

Every name is one token from a closed pool, so that a small model learns to copy it. A task's key is (family, gold
calls, user facts); keys are unique over both splits, hence no test task shares one with a train task.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from functools import cache

from slime_tau2.bench import Task
from slime_tau2.domains.helpdesk.environment import SETTINGS

SEED = 20260901
TRAIN_PER_FAMILY, TEST_PER_FAMILY = 250, 50
FAMILIES = ("orders", "refunds", "phones")
ORDER_IDS = tuple(f"W{n}" for n in range(10, 50))
LINE_IDS = tuple(f"L{n}" for n in range(10, 40))
ITEMS = tuple(
    "lamp mug sofa desk chair clock vase rug fan kettle radio mirror shelf stool pillow blanket candle basket "
    "bench cabinet drawer carpet curtain toaster".split()
)
PRICES = tuple(range(20, 68, 2))
AMOUNTS = tuple(f"${n}" for n in range(10, 67))


@dataclass(frozen=True)
class Facts:
    """What one user knows and wants. `ident` is an order or line id; `second_item` replaces `item` when asked to
    confirm.
    """

    family: str
    ident: str
    item: str = ""
    second_item: str = ""


def facts_of(task: Task) -> Facts:
    """The user's facts, which the task carries as its scenario's notes."""
    return Facts(**json.loads(task.description.notes))


def _action(task_id: str, n: int, name: str, requestor: str = "assistant", **arguments: str) -> dict:
    return {"action_id": f"{task_id}_{n}", "name": name, "requestor": requestor, "arguments": arguments}


def _task(
    task_id: str, facts: Facts, reason: str, known: str, then: str, init: dict, gold: list[tuple], criteria: dict
) -> dict:
    actions = [_action(task_id, n, name, who, **args) for n, (who, name, args) in enumerate(gold)]
    instructions = {
        "domain": "helpdesk",
        "reason_for_call": reason,
        "known_info": known,
        "unknown_info": None,
        "task_instructions": then,
    }
    return {
        "id": task_id,
        "description": {"purpose": facts.family, "relevant_policies": None, "notes": json.dumps(asdict(facts))},
        "user_scenario": {"persona": None, "instructions": instructions},
        "ticket": None,
        "initial_state": {"initialization_data": init, "initialization_actions": None, "message_history": None},
        "evaluation_criteria": {"actions": actions, "nl_assertions": None, **criteria},
    }


def _order(rng: random.Random, **fields: str) -> dict:
    price = rng.choice(PRICES)
    drawn = {"item": rng.choice(ITEMS), "status": "delivered", "tier": rng.choice(("basic", "gold")), "seal": "sealed"}
    return drawn | {"full": f"${price}", "half": f"${price // 2}"} | fields


def _orders(rng: random.Random, task_id: str) -> dict:
    ident, (old, item, second) = rng.choice(ORDER_IDS), rng.sample(ITEMS, 3)
    status = rng.choice(("pending", "pending", "shipped"))
    second = second if status == "pending" and rng.random() < 0.5 else ""
    facts = Facts("orders", ident, item, second)
    write = (
        ("swap_item", {"order_id": ident, "item": second or item})
        if status == "pending"
        else ("book_return", {"order_id": ident})
    )
    then = (
        f"When asked to confirm the {item}, ask for the {second} instead; then confirm."
        if second
        else "Confirm when asked."
    )
    gold = [("assistant", "get_order", {"order_id": ident}), ("assistant", *write)]
    init = {"agent_data": {"orders": {ident: _order(rng, item=old, status=status)}}, "user_data": None}
    criteria = {"env_assertions": None, "communicate_info": None, "reward_basis": ["DB", "COMMUNICATE"]}
    return _task(
        task_id,
        facts,
        f"You want order {ident} swapped to a {item}.",
        f"Your order is {ident}.",
        then,
        init,
        gold,
        criteria,
    )


def _refunds(rng: random.Random, task_id: str) -> dict:
    ident = rng.choice(ORDER_IDS)
    order = _order(rng, seal=rng.choice(("sealed", "opened", "opened", "final")))
    amount = order["full"] if order["seal"] == "sealed" or order["tier"] == "gold" else order["half"]
    denied = order["seal"] == "final"
    write = (
        ("deny_refund", {"order_id": ident, "reason": "final sale"})
        if denied
        else ("refund", {"order_id": ident, "amount": amount})
    )
    gold = [("assistant", "get_order", {"order_id": ident}), ("assistant", *write)]
    told = ["final sale" if denied else amount]
    init = {"agent_data": {"orders": {ident: order}}, "user_data": None}
    criteria = {"env_assertions": None, "communicate_info": told, "reward_basis": ["DB", "COMMUNICATE"]}
    facts, known = Facts("refunds", ident), f"Your order is {ident}."
    return _task(
        task_id, facts, f"You want a refund for order {ident}.", known, "Confirm any amount.", init, gold, criteria
    )


def _phones(rng: random.Random, task_id: str) -> dict:
    ident, faults = rng.choice(LINE_IDS), rng.sample(sorted(SETTINGS), rng.choice((0, 1, 1, 2, 2, 3)))
    suspended = not faults or rng.random() < 0.5
    wrong = {s: "on" if SETTINGS[s] == "off" else "off" for s in faults}
    gold: list[tuple] = [("assistant", "get_line", {"line_id": ident})]
    gold += [("assistant", "resume_line", {"line_id": ident})] if suspended else []
    gold += [("user", "check_phone", {}), *(("user", "toggle", {"setting": s}) for s in SETTINGS if s in wrong)]
    line = {ident: {"status": "suspended" if suspended else "active"}}
    checks = [("assistant", "assert_line_active", {"line_id": ident})] if suspended else []
    checks += [("user", "assert_setting", {"setting": s, "value": SETTINGS[s]}) for s in wrong] + [
        ("user", "assert_online", {})
    ]
    assertions = [
        {"env_type": e, "func_name": f, "arguments": a, "assert_value": True, "message": None} for e, f, a in checks
    ]
    init = {
        "agent_data": {"lines": line},
        "user_data": {"line_id": ident, "signal": "none" if suspended else "ok", **wrong},
    }
    criteria = {"env_assertions": assertions, "communicate_info": None, "reward_basis": ["ENV_ASSERTION"]}
    facts, then = Facts("phones", ident), "Use your phone's tools when asked. Stop when you are online."
    return _task(
        task_id,
        facts,
        f"Your phone has no internet; its line is {ident}.",
        f"Your line is {ident}.",
        then,
        init,
        gold,
        criteria,
    )


@cache
def _generated() -> tuple[list[dict], dict[str, list[str]]]:
    rng, seen, tasks = random.Random(SEED), set(), []
    split: dict[str, list[str]] = {"train": [], "test": []}
    make = {"orders": _orders, "refunds": _refunds, "phones": _phones}
    for family in FAMILIES:
        for n in range(TRAIN_PER_FAMILY + TEST_PER_FAMILY):
            while True:
                task = make[family](rng, f"{family}_{n}")
                gold = [(a["requestor"], a["name"], a["arguments"]) for a in task["evaluation_criteria"]["actions"]]
                key = json.dumps([family, gold, task["description"]["notes"]], sort_keys=True)
                if key not in seen:
                    break
            seen.add(key)
            tasks.append(task)
            split["train" if n < TRAIN_PER_FAMILY else "test"].append(task["id"])
    return tasks, split | {"base": split["train"] + split["test"]}


def splits() -> dict[str, list[str]]:
    """{split: task ids}: train 750, test 150, base both."""
    return _generated()[1]


def get_tasks(task_split_name: str | None = None) -> list[Task]:
    """tau2's loader: the tasks of a split, all when None."""
    tasks, split = _generated()
    wanted = None if task_split_name is None else set(split[task_split_name])
    return [Task.model_validate(t) for t in tasks if wanted is None or t["id"] in wanted]
