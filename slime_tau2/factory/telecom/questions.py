"""Questions that the agent answers from the account."""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Wish
from slime_tau2.factory.telecom import policy
from slime_tau2.factory.telecom.account import Account, left_alone
from slime_tau2.factory.telecom.words import gigabytes, money, told


def _question(account: Account, reasons: Sequence[str], calls: tuple[Call, ...], answer: str, about: str) -> Wish:
    case = account.case
    return Wish(
        reason=told(case.rng, reasons),
        about=about,
        instructions=left_alone(case),
        calls=calls,
        findings=(policy.information(True), policy.in_scope("information")),
        tells=(answer,),
        topic=f"{about} {account.line.line_id}",
        entities=account.entities,
        after=bool(case.wishes),
    )


def data_left(case: Case) -> Wish | None:
    """How much of this month's data is left."""
    account = Account(case)
    left = account.plan.data_limit_gb + account.line.data_refueling_gb - account.line.data_used_gb
    answer = f"{left:.1f}"
    if account.plan.data_limit_gb > 100 or left < 0.1 or answer.endswith(".0"):
        return None
    reasons = (
        "You want to know how many GB of data are left on your line this month.",
        "You want to know how much data you can still use until the end of the month, in GB.",
    )
    return _question(account, reasons, (account.look_at_usage(),), answer, "the data that are left")


def owed(case: Case) -> Wish | None:
    """What all overdue bills come to."""
    account = Account(case)
    bills = account.with_status("Overdue")
    if not bills:
        return None
    answer = money(sum(bill.total_due for bill in bills))
    if answer.endswith("0"):
        return None
    reasons = (
        "You want to know how much you owe in overdue bills altogether.",
        "You want to know what your unpaid bills that are past their date add up to.",
    )
    return _question(account, reasons, (account.look_at_bills(),), answer, "what you owe")


def newest_bill(case: Case) -> Wish | None:
    """What the bill of this month comes to."""
    account = Account(case)
    issued = account.with_status("Issued")
    if not issued:
        return None
    reasons = (
        "You want to know what your newest bill amounts to.",
        "You want to know the total of the bill that was issued this month.",
    )
    return _question(account, reasons, (account.look_at_bills(),), money(issued[0].total_due), "the newest bill")


def refuel_price(case: Case) -> Wish | None:
    """What more data would cost."""
    account = Account(case)
    amount = case.rng.choice((0.5, 1.5))
    price = amount * account.plan.data_refueling_price_per_gb
    if price == int(price) or account.plan.data_limit_gb > 100:
        return None
    reasons = (
        f"You want to know what {gigabytes(amount)} more data would cost you, without buying any now.",
        f"You want to know the price of {gigabytes(amount)} of extra data on your plan. You only ask.",
    )
    return _question(account, reasons, (account.look_at_plan(),), f"{price:g}", f"the price of {gigabytes(amount)}")


def plan_name(case: Case) -> Wish | None:
    """Which plan the line is on."""
    account = Account(case)
    reasons = (
        "You want to know which plan your line is on.",
        "You want to know what your plan is called.",
    )
    return _question(account, reasons, (account.look_at_plan(),), account.plan.name, "your plan")
