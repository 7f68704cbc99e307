"""An account as the families see it: shapes for type checkers, and what they look up in a case. Nothing here writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from functools import cache
from typing import Any, Protocol

from slime_tau2 import bench
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, read
from slime_tau2.factory.telecom.words import LEFT_ALONE


class Plan(Protocol):
    plan_id: str
    name: str
    data_limit_gb: float
    price_per_month: float
    data_refueling_price_per_gb: float


class Line(Protocol):
    line_id: str
    phone_number: str
    status: str
    plan_id: str
    device_id: str
    data_used_gb: float
    data_refueling_gb: float
    roaming_enabled: bool
    contract_end_date: date | None


class Bill(Protocol):
    bill_id: str
    total_due: float
    due_date: date
    status: str


class Device(Protocol):
    device_id: str
    model: str


class Customer(Protocol):
    customer_id: str
    full_name: str
    date_of_birth: str
    phone_number: str
    line_ids: Sequence[str]
    bill_ids: Sequence[str]


class Account:
    """The user's account: the customer, the line that the phone is on, its plan and the bills."""

    def __init__(self, case: Case):
        self.case, self.db = case, case.db
        phone: Any = case.environment.user_tools
        number = phone.db.surroundings.phone_number
        self.customer: Customer = _only(c for c in self.db.customers if c.customer_id == case.owner)
        self.line: Line = _only(line for line in self.db.lines if line.phone_number == number)
        self.plan: Plan = _only(plan for plan in self.db.plans if plan.plan_id == self.line.plan_id)
        self.device: Device = _only(d for d in self.db.devices if d.device_id == self.line.device_id)
        self.bills: list[Bill] = [bill for bill in self.db.bills if bill.bill_id in self.customer.bill_ids]
        self.today = today(case.world.policy)

    @property
    def lines(self) -> list[Line]:
        """All lines of the customer."""
        return [line for line in self.db.lines if line.line_id in self.customer.line_ids]

    def with_status(self, status: str) -> list[Bill]:
        """The customer's bills of a status, oldest first."""
        return sorted((bill for bill in self.bills if bill.status == status), key=lambda bill: bill.due_date)

    @property
    def runs(self) -> bool:
        """Whether the line's contract has not ended."""
        return self.line.contract_end_date is None or self.line.contract_end_date >= self.today

    @property
    def suspended(self) -> bool:
        return self.line.status == "Suspended"

    @property
    def entities(self) -> frozenset[str]:
        """Customer and line."""
        return frozenset({self.customer.customer_id, self.line.line_id})

    def ids(self) -> dict[str, Any]:
        """What most of the agent's tools ask for."""
        return {"customer_id": self.customer.customer_id, "line_id": self.line.line_id}

    def tools(self) -> list[str]:
        """Names of the agent's tools."""
        return [schema["function"]["name"] for schema in self.case.world.tool_schemas]

    def look_at_line(self) -> Call:
        return read("get_details_by_id", id=self.line.line_id)

    def look_at_plan(self) -> Call:
        return read("get_details_by_id", id=self.plan.plan_id)

    def look_at_bills(self) -> Call:
        return read("get_bills_for_customer", customer_id=self.customer.customer_id)

    def look_at_usage(self) -> Call:
        return read("get_data_usage", **self.ids())


def _only(rows: Any) -> Any:
    (row,) = rows
    return row


@cache
def today(policy: str) -> date:
    """The day that the policy says it is."""
    day = re.search(r"current time is (\d{4}-\d\d-\d\d)", policy)
    if day is None:
        raise ValueError("telecom's policy does not say what day it is")
    return date.fromisoformat(day.group(1))


def function(side: bench.Requestor, name: str, /, **arguments: Any) -> bench.EnvFunctionCall:
    """A call of an environment's function: "user" for the phone, "assistant" for the carrier."""
    return bench.EnvFunctionCall(env_type=side, func_name=name, arguments=arguments)


def holds(side: bench.Requestor, name: str, /, *, value: bool = True, **arguments: Any) -> bench.EnvAssertion:
    """An assertion: the function of that name, less "assert_", returns `value` at the end."""
    return bench.EnvAssertion(env_type=side, func_name=f"assert_{name}", arguments=arguments, assert_value=value)


def paid(bill: Bill, value: bool = True) -> bench.EnvAssertion:
    """A bill is paid at the end, or is not."""
    return holds("assistant", "no_overdue_bill", value=value, overdue_bill_id=bill.bill_id)


PHONE = frozenset({"service", "no_data", "slow_data", "mms", "locked", "ended", "exhausted"})
"""Families in which the user changes settings of the phone, or may."""
PAYING = frozenset({"pay", "pay_oldest", "settle"})
"""Families in which the user pays. tau2 plays gold without telling the phone of a request, so that gold's databases
never have a bill that is paid.
"""


def by_assertions(families: Iterable[str]) -> bool:
    """Whether a task is graded by assertions, because databases that equal gold's are too much to ask for."""
    return not (PHONE | PAYING).isdisjoint(families)


def left_alone(case: Case) -> tuple[str, ...]:
    """What the user of a task that is graded by databases is told once: the phone's is one of them."""
    return () if case.wishes or by_assertions(case.recipe) else (case.rng.choice(LEFT_ALONE),)


def guards(case: Case) -> tuple[bench.EnvAssertion, ...]:
    """All lines in the books are in the state that they should be in and have the data that were asked for, no more,
    and the bills are paid that should be, no others.
    """
    if not by_assertions(case.recipe):
        return ()
    # whose contract has ended may pay all the same
    open_to_pay = ("Overdue",) if "ended" in case.recipe else ()
    checks = []
    for customer in case.db.customers:
        for line in (line for line in case.db.lines if line.line_id in customer.line_ids):
            ids = {"customer_id": customer.customer_id, "line_id": line.line_id}
            status = str.__str__(line.status)  # tau2's is an Enum of strings
            checks.append(holds("assistant", "line_status", **ids, expected_status=status))
            gb = line.data_refueling_gb
            checks.append(holds("assistant", "data_refueling_amount", **ids, expected_amount=gb))
    checks += [paid(bill, bill.status == "Paid") for bill in case.db.bills if bill.status not in open_to_pay]
    return tuple(checks)
