"""More of the bundled helpdesk's tasks, by the domain's own generator and another seed.

The generator stays as it is: its 900 tasks are pinned. What it draws here is read back into wishes, and left out if the
900 have it. There are few ids, because each is one token, and test tasks have them too: an id names nothing by itself,
every task brings the order or line behind it. Owners are ids all the same, so that a held-out split has others.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from slime_tau2 import bench
from slime_tau2.domains.helpdesk import tasks as generator
from slime_tau2.factory.case import Case, Factory, Family
from slime_tau2.factory.draft import Call, Draft, Fact, Identity, Told, Wish
from slime_tau2.factory.helpdesk import policy
from slime_tau2.factory.helpdesk.attempts import attempts
from slime_tau2.factory.helpdesk.rulings import ruling
from slime_tau2.factory.rules import Finding
from slime_tau2.verification import declared

if TYPE_CHECKING:
    from slime_tau2.episode.world import World

Generator = Callable[[random.Random, str], dict[str, Any]]
DRAWS = 400
"""How often the generator is asked for a task about an owner; one in forty is."""


def _family(name: str, draw: Generator, findings: Callable[[Mapping[str, Any]], tuple[Finding, ...]]) -> Family:
    def make(case: Case) -> Wish | None:
        kind, _, ident = case.owner.partition(":")
        if kind != ("line" if name == "phones" else "order"):
            return None
        for _ in range(DRAWS):
            task = draw(case.rng, "")
            facts = json.loads(task["description"]["notes"])
            if facts["ident"] != ident:
                continue
            if _key(task) not in _taken(case.world) and not _said(task) & _said_in_tests(case.world):
                return _wish(task, facts, findings(task["initial_state"]["initialization_data"]["agent_data"]))
        return None

    return Family(make)


def _wish(task: Mapping[str, Any], facts: dict[str, str], findings: tuple[Finding, ...]) -> Wish:
    criteria, said = task["evaluation_criteria"], task["user_scenario"]["instructions"]
    return Wish(
        reason=said["reason_for_call"],
        facts=(Fact("what you know", said["known_info"], Told.AT_ONCE),),
        instructions=(said["task_instructions"],),
        calls=tuple(_call(action) for action in criteria["actions"]),
        findings=findings,
        tells=tuple(criteria["communicate_info"] or ()),
        topic=json.dumps(facts, sort_keys=True),
        data=task["initial_state"]["initialization_data"],
        notes=facts,
        assertions=tuple(bench.EnvAssertion(**check) for check in criteria["env_assertions"] or ()),
    )


def _call(action: Mapping[str, Any]) -> Call:
    looks = action["name"].startswith(("get_", "check_"))
    return Call(name=action["name"], arguments=action["arguments"], requestor=action["requestor"], write=not looks)


def _key(task: Mapping[str, Any]) -> str:
    """A task's key as the generator has it: family, gold calls, what the user knows."""
    gold = [(a["requestor"], a["name"], a["arguments"]) for a in task["evaluation_criteria"]["actions"]]
    facts = {key: value for key, value in json.loads(task["description"]["notes"]).items() if key != declared.KEY}
    return json.dumps([facts.get("family"), gold, facts], sort_keys=True)


@cache
def _taken(world: World) -> frozenset[str]:
    return frozenset(_key(task.model_dump(mode="json")) for task in world.tasks.values())


def _said(task: Mapping[str, Any]) -> set[str]:
    said = task["user_scenario"]["instructions"]
    return {said["reason_for_call"], said["known_info"], said["task_instructions"]}


@cache
def _said_in_tests(world: World) -> frozenset[str]:
    """What test tasks say and no train task does."""
    said = {
        split: set[str]().union(*(_said(world.task(t).model_dump(mode="json")) for t in world.task_ids(split)))
        for split in ("test", "train+val")
    }
    return frozenset(said["test"] - said["train+val"])


def _orders(data: Mapping[str, Any]) -> tuple[Finding, ...]:
    (order,) = data["orders"].values()
    return policy.known(True), policy.confirmed(True), policy.swap_or_return(order["status"])


def _refunds(data: Mapping[str, Any]) -> tuple[Finding, ...]:
    (order,) = data["orders"].values()
    final = order["seal"] == "final"
    if final:
        return policy.known(True), policy.final_sale(order["seal"])
    return policy.known(True), policy.confirmed(True), policy.amount(order["seal"], order["tier"])


def _phones(data: Mapping[str, Any]) -> tuple[Finding, ...]:
    (line,) = data["lines"].values()
    resumed = (policy.resumed(line["status"]),) if line["status"] == "suspended" else ()
    return (policy.known(True), *resumed, policy.settings(True))


def owners(world: World) -> list[str]:
    """All ids of orders and lines."""
    return [*(f"line:{ident}" for ident in generator.LINE_IDS), *(f"order:{ident}" for ident in generator.ORDER_IDS)]


def identity(case: Case) -> Identity:
    """Nobody is identified here: whoever knows an id is served."""
    return Identity((), (), (policy.known(True),))


def basis(draft: Draft) -> tuple[str, ...]:
    """Assertions for phones, databases and what is told for orders and refunds; as in the generator."""
    return ("ENV_ASSERTION",) if draft.families == ("phones",) else ("DB", "COMMUNICATE")


def notes(draft: Draft) -> dict[str, Any]:
    """The facts that the domain's scripted user reads."""
    (wish,) = draft.wishes
    return dict(wish.notes)


HELPDESK = Factory(
    domain="helpdesk",
    owners=owners,
    identity=identity,
    families={
        "orders": _family("orders", generator._orders, _orders),
        "refunds": _family("refunds", generator._refunds, _refunds),
        "phones": _family("phones", generator._phones, _phones),
    },
    recipes={("orders",): 1.0, ("refunds",): 1.0, ("phones",): 1.0},
    rules=policy.BOOK.rules,
    ruling=ruling,
    attempts=attempts,
    basis=basis,
    notes=notes,
)
