"""Writes that nobody asks for in a telecom task: what check 8 makes beside gold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, write
from slime_tau2.factory.telecom.faults import press

GIGABYTES = (1.0, 5.0)
"""What the policy lets a line have more, and what it does not."""


def attempts(case: Case) -> Iterator[tuple[Call, ...]]:
    """For each line and each kind of bill of the owner and of one other customer, whatever its tools do to it.

    A payment request goes with its payment: tau2 has no assertion that tells a bill that awaits payment from one that
    is due, and the users of the factory pay what they are asked to.
    """
    others = [customer for customer in case.db.customers if customer.customer_id != case.owner]
    own = [customer for customer in case.db.customers if customer.customer_id == case.owner]
    for customer in (*own, *others[:1]):
        for line in (line for line in case.db.lines if line.line_id in customer.line_ids):
            yield from _on_line({"customer_id": customer.customer_id, "line_id": line.line_id}, line)
        seen = set[str]()
        for bill in (bill for bill in case.db.bills if bill.bill_id in customer.bill_ids):
            if bill.status not in seen:
                seen.add(bill.status)
                request = write("send_payment_request", customer_id=customer.customer_id, bill_id=bill.bill_id)
                yield request, press("make_payment")


def _on_line(ids: dict[str, Any], line: Any) -> Iterator[tuple[Call, ...]]:
    for gb in GIGABYTES:
        yield (write("refuel_data", **ids, gb_amount=gb),)
    if line.status == "Active":
        yield (write("suspend_line", **ids, reason="-"),)
    else:
        yield (write("resume_line", **ids),)
    yield (write("disable_roaming" if line.roaming_enabled else "enable_roaming", **ids),)
