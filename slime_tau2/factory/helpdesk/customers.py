"""Customers of the helpdesk's long conversations: each is a set of orders and lines, which a task fills."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING, Any

from slime_tau2.domains.helpdesk.tasks import ITEMS, LINE_IDS, ORDER_IDS, PRICES
from slime_tau2.factory.case import Case

if TYPE_CHECKING:
    from slime_tau2.episode.world import World

CUSTOMERS = 4000
ORDERS = 6
LINES = 2
"""Orders and lines of a customer."""


@cache
def _customers() -> tuple[str, ...]:
    """Sets of ids, each some orders and two lines, which are easily taken for each other: few digits make them all."""
    rng = random.Random("helpdesk cases")
    drawn: set[str] = set()
    while len(drawn) < CUSTOMERS:
        digits = rng.sample("0123456789", 4)
        orders, lines = ([i for i in pool if set(i[1:]) <= set(digits)] for pool in (ORDER_IDS, LINE_IDS))
        if len(orders) >= ORDERS and len(lines) >= LINES:
            drawn.add(" ".join([*sorted(rng.sample(orders, ORDERS)), *sorted(rng.sample(lines, LINES))]))
    return tuple(sorted(drawn))


def owners(world: World) -> list[str]:
    """All customers."""
    return list(_customers())


def idents(owner: str) -> tuple[list[str], list[str]]:
    """(orders, lines) of a customer."""
    ids = owner.split()
    return ids[:ORDERS], ids[ORDERS:]


def data(case: Case) -> dict[str, Any]:
    """The customer's orders, one of them with a line, and its phone."""
    rng, (orders, lines) = case.rng, idents(case.owner)
    items = rng.sample(ITEMS, len(orders))
    drawn = {ident: _order(rng, item) for ident, item in zip(orders, items, strict=True)}
    drawn[rng.choice(orders)]["line"] = rng.choice(lines)
    own = next(order["line"] for order in drawn.values() if "line" in order)
    return {
        "agent_data": {"orders": drawn, "lines": {line: {"status": "active"} for line in lines}},
        "user_data": {"line_id": own},
    }


def _order(rng: random.Random, item: str) -> dict[str, str]:
    price = rng.choice(PRICES)
    return {
        "item": item,
        "status": rng.choice(("pending", "pending", "shipped", "delivered")),
        "tier": rng.choice(("basic", "gold")),
        "seal": rng.choice(("sealed", "opened", "opened", "final")),
        "full": f"${price}",
        "half": f"${price // 2}",
    }
