"""Bills that are overdue, and lines that are suspended because of them."""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2 import bench
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read, write
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.telecom import policy
from slime_tau2.factory.telecom.account import Account, Bill, holds, left_alone, paid
from slime_tau2.factory.telecom.faults import look, press
from slime_tau2.factory.telecom.words import ACCEPTED, ANY_REQUEST, money, some, told, with_phone


def settling(account: Account, bills: Sequence[Bill]) -> tuple[tuple[Call, ...], tuple[Finding, ...]]:
    """Requests and payments, one bill after the other, and the rules for them."""
    calls: list[Call] = [account.look_at_bills()]
    findings: list[Finding] = [policy.one_at_a_time(len(account.with_status("Awaiting Payment")))]
    for bill in bills:
        calls += [
            write("send_payment_request", customer_id=account.customer.customer_id, bill_id=bill.bill_id),
            look("check_payment_request"),
            press("make_payment"),
            read("get_details_by_id", id=bill.bill_id),
        ]
        findings.append(policy.bill_overdue(bill))
    return tuple(calls), (*findings, policy.pays(accepts=True))


def resuming(account: Account) -> tuple[tuple[Call, ...], tuple[Finding, ...]]:
    """The line resumed once its bills are paid. The reboot is up to the caller."""
    findings = (
        policy.all_paid(()),
        policy.contract_runs(account.line, account.today),
        policy.rebooted(account.line),
    )
    return (write("resume_line", **account.ids()),), findings


REQUEST = (
    "When the agent has sent a payment request, check it, and pay.",
    "You pay when there is a request and the amount in it is what the agent said.",
    "Ask the agent for the amount first. When the request is there, check it, then pay it.",
)


def pay(case: Case) -> Wish | None:
    """An overdue bill, before any line is suspended for it."""
    account, rng = Account(case), case.rng
    bills = account.with_status("Overdue")
    if not bills or account.suspended:
        return None
    calls, findings = settling(account, bills)
    reasons = (
        "You want to pay your overdue bill.",
        "You want to settle what you owe: you got a reminder that a bill of yours is overdue.",
        "You want to pay the bill that you missed last month.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the bill",
        facts=(Fact("the number of the bill", "", Told.FORGOTTEN),),
        instructions=(some(rng, REQUEST),),
        calls=calls,
        findings=findings,
        assertions=tuple(paid(bill) for bill in bills),
        entities=account.entities,
    )


def settle(case: Case) -> Wish | None:
    """A user who knows that the line is suspended, and wants to pay for it."""
    account, rng = Account(case), case.rng
    bills = account.with_status("Overdue")
    if not bills or not account.suspended or not account.runs:
        return None
    calls, findings = settling(account, bills)
    resume, rules = resuming(account)
    reasons = (
        "You want your suspended line back, and you know that you are behind with your bills.",
        "You want to pay what is open so that your line is not suspended any more.",
        "Your line was suspended because you forgot to pay. You want to put that right and use your phone again.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the suspension",
        instructions=(some(rng, REQUEST), "You are done when your phone shows a signal again.", *with_phone(rng)),
        calls=(*calls, *resume, press("reboot_device"), look("check_status_bar")),
        findings=(policy.suspension(account.line), *findings, *rules),
        assertions=(*(paid(bill) for bill in bills), _signal()),
        entities=account.entities,
    )


def pay_oldest(case: Case) -> Wish | None:
    """One of two overdue bills: there is no money for the other."""
    account, rng = Account(case), case.rng
    bills = account.with_status("Overdue")
    if len(bills) < 2:
        return None
    calls, findings = settling(account, bills[:1])
    reasons = (
        "You want to pay the older one of your two overdue bills, and only that one.",
        "You want to pay the overdue bill that was due first; for the other you have no money before next month.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the older bill",
        instructions=(some(rng, REQUEST), "You do not pay the other bill, whatever the agent says."),
        calls=calls,
        findings=findings,
        assertions=(paid(bills[0]), paid(bills[1], value=False)),
        entities=account.entities,
    )


# Refused


def unpaid(case: Case) -> Wish | None:
    """The line resumed though a bill stays unpaid."""
    account, rng = Account(case), case.rng
    open_bills = account.with_status("Overdue")
    if not open_bills or not account.suspended or not account.runs:
        return None
    excuses = (
        "You find the bill too high and will not pay it.",
        "You are short of money, and cannot pay before next month.",
        "You will pay some other day, on your own time; today you pay nothing.",
        "You think that your brother should pay, and you will not do it for him.",
    )
    reasons = (
        "You want your suspended line switched on again right now.",
        "You want the suspension of your line lifted.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the suspension",
        instructions=(
            f"{some(rng, excuses)} Say so as soon as a bill is named, and decline any payment request.",
            some(rng, ACCEPTED),
            *left_alone(case),
        ),
        calls=(account.look_at_bills(),),
        findings=(policy.suspension(account.line), policy.pays(accepts=False), policy.all_paid(open_bills)),
        outcome="refused",
        assertions=tuple(paid(bill, value=False) for bill in open_bills),
        entities=account.entities,
        after=True,
    )


def not_due(case: Case) -> Wish | None:
    """A bill that is issued, and not overdue."""
    account, rng = Account(case), case.rng
    issued = account.with_status("Issued")
    if not issued or account.suspended:
        return None
    (bill,) = issued
    reasons = (
        f"You want to pay this month's bill of {money(bill.total_due)} dollars ahead of its date.",
        f"You want a payment request for your newest bill, the one of {money(bill.total_due)} dollars.",
        "You want to pay your latest bill now, though it is not due yet.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the newest bill",
        instructions=(some(rng, ACCEPTED), *(left_alone(case) or (some(rng, ANY_REQUEST),))),
        calls=(account.look_at_bills(),),
        findings=(policy.bill_overdue(bill),),
        outcome="refused",
        topic=bill.bill_id,
        assertions=(paid(bill, value=False),),
        entities=account.entities,
    )


def _signal() -> bench.EnvAssertion:
    return holds("user", "service_status", expected_status="connected")
