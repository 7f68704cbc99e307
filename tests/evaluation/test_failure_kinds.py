"""Which kind of failure the reader is told, for every test task of the real domains and each way to spoil its solution."""

import copy
import json
from collections import Counter

import pytest
from test_failures import kind_of

from slime_tau2 import bench
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.users import USER_TOOL
from slime_tau2.evaluation.failures import TRANSFER

WON = "won"
AGENTS, USERS, NEEDLESS = "missing write, the agent's", "missing write, the user's", "transferred without need"
ARGUMENT, FORBIDDEN, TRANSFER_MISSING, UNSAID = (
    "wrong argument",
    "forbidden write",
    "transfer not made",
    "wrong amount told",
)

ALLOWED = {
    "noop": {WON, AGENTS, USERS, TRANSFER_MISSING, UNSAID},
    "transfer-only": {WON, NEEDLESS, AGENTS},
    "without a write of the agent's": {WON, AGENTS},
    "without a write of the user's": {WON, USERS},
    "without a read": {WON},
    "without the transfer": {WON, TRANSFER_MISSING},
    "without all that the user does": {USERS},
    "with another argument": {WON, ARGUMENT},
    "with a write twice": {WON, FORBIDDEN},
    "with another task's write": {WON, FORBIDDEN},
}
"""What each way can be called, whatever the vintage of tau2. None of them is `other`."""

TABLE = {
    "telecom": {
        "noop": {USERS: 9, AGENTS: 19, TRANSFER_MISSING: 12},
        "transfer-only": {NEEDLESS: 28, WON: 12},
        "without a write of the agent's": {AGENTS: 29},
        "without a write of the user's": {USERS: 119, WON: 2},
        "without the transfer": {TRANSFER_MISSING: 12},
        "without all that the user does": {USERS: 28},
        "with another argument": {ARGUMENT: 124},
        "with a write twice": {FORBIDDEN: 69, WON: 81},
    },
    "airline": {
        "noop": {AGENTS: 14, WON: 6},
        "transfer-only": {NEEDLESS: 14, WON: 6},
        "without a write of the agent's": {AGENTS: 26},
        "without a read": {WON: 34},
        "without the transfer": {WON: 1},
        "with another argument": {ARGUMENT: 119},
        "with a write twice": {FORBIDDEN: 5, WON: 21},
    },
    "retail": {
        "noop": {AGENTS: 36, UNSAID: 2, WON: 2},
        "transfer-only": {NEEDLESS: 37, AGENTS: 1, WON: 2},
        "without a write of the agent's": {AGENTS: 55, WON: 2},
        "without a read": {WON: 127},
        "without the transfer": {WON: 2},
        "with another argument": {ARGUMENT: 231, WON: 7},
        "with a write twice": {WON: 57},
    },
}
"""PyPI's copy of tau2: conversations by kind."""


def made(action, **changes):
    """The message of a gold agent that makes an action, or has the user make it."""
    arguments = {**copy.deepcopy(action.arguments), **changes}
    if action.requestor == "user":
        return scripts._say(USER_TOOL + json.dumps({"name": action.name, "arguments": arguments}))
    return scripts._call(action.name, arguments)


def another(value):
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return value + "9" if isinstance(value, str) else value[:-1]


def spoiled(task, writes):
    """(way, script) of every way to spoil a task's solution, once for each action or argument that it concerns."""
    actions, gold = task.evaluation_criteria.actions or [], scripts.gold(task)
    yield "noop", scripts.noop(task)
    yield "transfer-only", scripts.transfer(task)
    for n, a in enumerate(actions):
        side = "agent" if a.requestor == "assistant" else "user"
        what = f"a write of the {side}'s" if a.name in writes else "the transfer" if TRANSFER in a.name else "a read"
        yield f"without {what}", gold[:n] + gold[n + 1 :]
        if a.name in writes:
            yield "with a write twice", [*gold[:n], gold[n], *gold[n:]]
            for name, value in a.arguments.items():
                yield "with another argument", [*gold[:n], made(a, **{name: another(value)}), *gold[n + 1 :]]
    if any(a.requestor == "user" for a in actions):
        yield "without all that the user does", [*(m for m, a in zip(gold, actions) if a.requestor != "user"), gold[-1]]


def elsewhere(world, few=3):
    """A few writes of train tasks, no two alike."""
    found = {
        f"{a.name}{json.dumps(a.arguments)}": a
        for t in world.task_ids("train")
        for a in world.task(t).evaluation_criteria.actions or []
        if a.name in world.writes
    }
    return list(found.values())[:: max(1, len(found) // few)]


@pytest.mark.parametrize("domain", TABLE)
def test_every_way_to_fail_has_its_kind(domain):
    world = worlds.load(domain, retail_basis="communicate")
    told = {}
    for task_id in world.task_ids("test"):
        task = world.task(task_id)
        for way, script in spoiled(task, world.writes):
            found = kind_of(world, task_id, script)
            told.setdefault(way, Counter())[found.kind if found else WON] += 1
    assert {way: set(kinds) - ALLOWED[way] for way, kinds in told.items() if set(kinds) - ALLOWED[way]} == {}
    if bench.VINTAGE.name == "pypi":
        assert {way: dict(kinds) for way, kinds in told.items()} == TABLE[domain]


@pytest.mark.parametrize("domain", TABLE)
def test_a_write_of_another_task(domain):
    world = worlds.load(domain, retail_basis="communicate")
    told = Counter()
    for task_id in world.task_ids("test"):
        gold = scripts.gold(world.task(task_id))
        for action in elsewhere(world):
            found = kind_of(world, task_id, [*gold[:-1], made(action), gold[-1]])
            told[found.kind if found else WON] += 1
    assert set(told) <= ALLOWED["with another task's write"] and told[FORBIDDEN] > 0, told
