"""helpdesk's tasks, generated from a seed.

Every name is one token from a closed pool, so that a small model learns to copy it. A task's key is (family, gold
calls, user facts); keys are unique over both splits, hence no test task shares one with a train task.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

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


Json = dict[str, Any]
GoldCall = tuple[str, str, dict[str, str]]
"""(requestor, tool, arguments)"""


@dataclass(frozen=True)
class Facts:
    """What one user knows and wants.

    Attributes:
        family: orders, refunds or phones.
        ident: an order or line id.
        item: what the user wants swapped in.
        second_item: what the user wants instead when asked to confirm; "" for no change of mind.
    """

    family: str
    ident: str
    item: str = ""
    second_item: str = ""


def facts_of(task: Task) -> Facts:
    """The user's facts, which the task carries as its scenario's notes."""
    assert task.description is not None and task.description.notes is not None, "no task of helpdesk"
    notes = json.loads(task.description.notes)
    return Facts(**{field.name: notes[field.name] for field in fields(Facts)})


def _action(task_id: str, n: int, call: GoldCall) -> Json:
    requestor, name, arguments = call
    return {"action_id": f"{task_id}_{n}", "name": name, "requestor": requestor, "arguments": arguments}


def _task(
    task_id: str,
    facts: Facts,
    *,
    reason: str,
    known: str,
    then: str,
    init: Json,
    gold: list[GoldCall],
    criteria: Json,
) -> Json:
    """A tau2 Task as JSON; `reason`, `known` and `then` are what an LLM user is told."""
    instructions = {
        "domain": "helpdesk",
        "reason_for_call": reason,
        "known_info": known,
        "unknown_info": None,
        "task_instructions": then,
    }
    actions = [_action(task_id, n, call) for n, call in enumerate(gold)]
    return {
        "id": task_id,
        "description": {"purpose": facts.family, "relevant_policies": None, "notes": json.dumps(asdict(facts))},
        "user_scenario": {"persona": None, "instructions": instructions},
        "ticket": None,
        "initial_state": {"initialization_data": init, "initialization_actions": None, "message_history": None},
        "evaluation_criteria": {"actions": actions, "nl_assertions": None, **criteria},
    }


def _order(rng: random.Random, **fields: str) -> dict[str, str]:
    price = rng.choice(PRICES)
    drawn = {"item": rng.choice(ITEMS), "status": "delivered", "tier": rng.choice(("basic", "gold")), "seal": "sealed"}
    return drawn | {"full": f"${price}", "half": f"${price // 2}"} | fields


def _orders(rng: random.Random, task_id: str) -> Json:
    """A pending order whose item is swapped, perhaps after a change of mind, or a shipped one that is returned."""
    ident = rng.choice(ORDER_IDS)
    old, item, second = rng.sample(ITEMS, 3)
    status = rng.choice(("pending", "pending", "shipped"))
    changes_mind = status == "pending" and rng.random() < 0.5
    write: GoldCall = ("assistant", "book_return", {"order_id": ident})
    if status == "pending":
        write = ("assistant", "swap_item", {"order_id": ident, "item": second if changes_mind else item})
    then = "Confirm when asked."
    if changes_mind:
        then = f"When asked to confirm the {item}, ask for the {second} instead; then confirm."
    return _task(
        task_id,
        Facts("orders", ident, item, second if changes_mind else ""),
        reason=f"You want order {ident} swapped to a {item}.",
        known=f"Your order is {ident}.",
        then=then,
        init={"agent_data": {"orders": {ident: _order(rng, item=old, status=status)}}, "user_data": None},
        gold=[("assistant", "get_order", {"order_id": ident}), write],
        criteria={"env_assertions": None, "communicate_info": None, "reward_basis": ["DB", "COMMUNICATE"]},
    )


def _refunds(rng: random.Random, task_id: str) -> Json:
    """A refund in full or by half, as seal and tier have it, or the refusal of a final sale."""
    ident = rng.choice(ORDER_IDS)
    order = _order(rng, seal=rng.choice(("sealed", "opened", "opened", "final")))
    amount = order["full"] if order["seal"] == "sealed" or order["tier"] == "gold" else order["half"]
    denied = order["seal"] == "final"
    write: GoldCall = ("assistant", "refund", {"order_id": ident, "amount": amount})
    if denied:
        write = ("assistant", "deny_refund", {"order_id": ident, "reason": "final sale"})
    told = ["final sale" if denied else amount]
    return _task(
        task_id,
        Facts("refunds", ident),
        reason=f"You want a refund for order {ident}.",
        known=f"Your order is {ident}.",
        then="Confirm any amount.",
        init={"agent_data": {"orders": {ident: order}}, "user_data": None},
        gold=[("assistant", "get_order", {"order_id": ident}), write],
        criteria={"env_assertions": None, "communicate_info": told, "reward_basis": ["DB", "COMMUNICATE"]},
    )


def _phones(rng: random.Random, task_id: str) -> Json:
    """A phone without internet: its line is suspended, up to three of its settings are wrong, or both."""
    ident = rng.choice(LINE_IDS)
    faults = rng.sample(sorted(SETTINGS), rng.choice((0, 1, 1, 2, 2, 3)))
    suspended = not faults or rng.random() < 0.5
    wrong = {setting: "on" if SETTINGS[setting] == "off" else "off" for setting in faults}
    gold: list[GoldCall] = [("assistant", "get_line", {"line_id": ident})]
    checks: list[GoldCall] = []
    if suspended:
        gold.append(("assistant", "resume_line", {"line_id": ident}))
        checks.append(("assistant", "assert_line_active", {"line_id": ident}))
    gold.append(("user", "check_phone", {}))
    gold += [("user", "toggle", {"setting": setting}) for setting in SETTINGS if setting in wrong]
    checks += [("user", "assert_setting", {"setting": setting, "value": SETTINGS[setting]}) for setting in wrong]
    checks.append(("user", "assert_online", {}))
    assertions = [
        {"env_type": who, "func_name": name, "arguments": arguments, "assert_value": True, "message": None}
        for who, name, arguments in checks
    ]
    return _task(
        task_id,
        Facts("phones", ident),
        reason=f"Your phone has no internet; its line is {ident}.",
        known=f"Your line is {ident}.",
        then="Use your phone's tools when asked. Stop when you are online.",
        init={
            "agent_data": {"lines": {ident: {"status": "suspended" if suspended else "active"}}},
            "user_data": {"line_id": ident, "signal": "none" if suspended else "ok", **wrong},
        },
        gold=gold,
        criteria={"env_assertions": assertions, "communicate_info": None, "reward_basis": ["ENV_ASSERTION"]},
    )


_MAKE = {"orders": _orders, "refunds": _refunds, "phones": _phones}


@cache
def _generated() -> tuple[list[Json], dict[str, list[str]]]:
    """(all tasks, {split: task ids})."""
    rng = random.Random(SEED)
    seen: set[str] = set()
    tasks: list[Json] = []
    split: dict[str, list[str]] = {"train": [], "test": []}
    for family in FAMILIES:
        for n in range(TRAIN_PER_FAMILY + TEST_PER_FAMILY):
            task = _unseen(rng, family, n, seen)
            tasks.append(task)
            split["train" if n < TRAIN_PER_FAMILY else "test"].append(task["id"])
    return tasks, split | {"base": split["train"] + split["test"]}


def _unseen(rng: random.Random, family: str, n: int, seen: set[str]) -> Json:
    """A task whose key is not in `seen`, to which it is added."""
    while True:
        task = _MAKE[family](rng, f"{family}_{n}")
        gold = [(a["requestor"], a["name"], a["arguments"]) for a in task["evaluation_criteria"]["actions"]]
        key = json.dumps([family, gold, task["description"]["notes"]], sort_keys=True)
        if key not in seen:
            seen.add(key)
            return task


def splits() -> dict[str, list[str]]:
    """{split: task ids}: train 750, test 150, base both."""
    return _generated()[1]


def get_tasks(task_split_name: str | None = None) -> list[Task]:
    """tau2's loader: the tasks of a split, all when None."""
    tasks, split = _generated()
    wanted = None if task_split_name is None else set(split[task_split_name])
    return [Task.model_validate(t) for t in tasks if wanted is None or t["id"] in wanted]
