"""Writes beside gold's: what nobody asks for in a task, and what its user asks for and the policy forbids.

They are drawn from the database as gold leaves it: the records of whom the task is about, and one other's. What a task
refuses is among them, for it is about one of the owner's records.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.factory import factories
from slime_tau2.factory.case import Case
from slime_tau2.verification import declared
from slime_tau2.verification.plays import Step


def supported(domain: str) -> bool:
    """Whether there are attempts for a domain."""
    try:
        return factories.of(domain).attempts is not None
    except ConfigError:
        return False


def of(world: World, environment: bench.Environment, *, owner: str) -> Iterator[Sequence[Step]]:
    """Attempts at a task, each one or more calls to be made after gold's.

    Args:
        environment: where gold leaves it; to be read only.
        owner: whom the task is about.
    """
    attempts = factories.of(world.domain).attempts
    assert attempts is not None, "the caller has asked whether the domain is supported"
    yield from attempts(Case(world, owner, random.Random(0), environment=environment))


def owner(task: bench.Task, environment: bench.Environment) -> str | None:
    """Whom a task is about: as it declares, or the customer of the phone, or of the first record that gold names.

    None where nobody is to be found.
    """
    if (notes := declared.of(task)) is not None:
        return notes.owner
    database: Any = environment.tools.db
    phone: Any = environment.user_tools.db if environment.user_tools is not None else None
    if hasattr(database, "customers"):
        lines = {line.phone_number: line.line_id for line in database.lines}
        line_id = lines.get(phone.surroundings.phone_number)
        return next((c.customer_id for c in database.customers if line_id in c.line_ids), None)
    for action in (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []:
        if found := _user(database, action.arguments):
            return found
    return None


def _user(database: Any, arguments: Mapping[str, Any]) -> str | None:
    users = getattr(database, "users", {})
    if arguments.get("user_id") in users:
        return str(arguments["user_id"])
    for table, name in (("orders", "order_id"), ("reservations", "reservation_id")):
        row = getattr(database, table, {}).get(arguments.get(name))
        if row is not None and hasattr(row, "user_id"):
            return str(row.user_id)
    return None
