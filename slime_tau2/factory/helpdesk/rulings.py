"""The helpdesk's rules on a write of a finished task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slime_tau2.domains.helpdesk.environment import SETTINGS, Order
from slime_tau2.factory.case import Write
from slime_tau2.factory.helpdesk import policy
from slime_tau2.factory.rules import Finding


def ruling(write: Write) -> Iterator[Finding]:
    """What the database before a write, the write and the scenario decide."""
    tool, arguments = write.call.name, write.call.arguments
    if tool == "toggle":
        phone: Any = write.case.environment.user_tools
        yield policy.settings(getattr(phone.db, arguments["setting"]) != SETTINGS[arguments["setting"]])
        return
    yield policy.known(any(_known(write, arguments[name]) for name in ("order_id", "line_id") if name in arguments))
    if tool == "resume_line":
        yield policy.resumed(write.case.db.lines[arguments["line_id"]].status)
        return
    order: Order = write.case.db.orders[arguments["order_id"]]
    if tool in ("swap_item", "book_return"):
        wanted = {"swap_item": "pending", "book_return": "shipped"}[tool]
        yield policy.swap_or_return(order.status if order.status == wanted else "")
    elif tool == "refund":
        amount = order.full if order.seal == "sealed" or order.tier == "gold" else order.half
        yield policy.BOOK.rules["amount"](order.seal != "final" and arguments["amount"] == amount)
    elif tool == "deny_refund":
        yield policy.final_sale(order.seal)


def _known(write: Write, ident: str) -> bool:
    """Whether the user tells an id, or an order that the line belongs to."""
    orders: dict[str, Order] = write.case.db.orders
    return any(one in write.story for one in (ident, *(key for key, order in orders.items() if order.line == ident)))
