"""Writes that nobody asks for in a helpdesk task: what check 8 makes beside gold."""

from __future__ import annotations

from collections.abc import Iterator

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, write


def attempts(case: Case) -> Iterator[tuple[Call, ...]]:
    """For each order and line of the task, whatever the tools do to it."""
    for order_id, order in case.db.orders.items():
        yield (write("refund", order_id=order_id, amount=order.full),)
        yield (write("deny_refund", order_id=order_id, reason="final sale"),)
        if order.status == "pending":
            yield (write("swap_item", order_id=order_id, item="lamp" if order.item != "lamp" else "chair"),)
        if not order.returned:
            yield (write("book_return", order_id=order_id),)
    for line_id in case.db.lines:
        yield (write("resume_line", line_id=line_id),)
