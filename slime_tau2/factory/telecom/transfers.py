"""What goes to a person: what nobody in the conversation can mend, and what the agent has no action for."""

from __future__ import annotations

from dataclasses import replace

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Told, Wish, hand_over, read
from slime_tau2.factory.telecom import faults, policy
from slime_tau2.factory.telecom.account import Account, left_alone
from slime_tau2.factory.telecom.repairs import COMPLAINTS, NO_DATA, SERVICE, SLOW_DATA, draw, place, situation
from slime_tau2.factory.telecom.words import ANY_REQUEST, HANDED_OVER, some, told, with_phone


def locked(case: Case) -> Wish | None:
    """A SIM card that is locked, whatever else is wrong."""
    account, rng = Account(case), case.rng
    if account.suspended or account.with_status("Overdue"):
        return None
    complaint = rng.choice(COMPLAINTS)
    mode = rng.choice(("sim_pin", "sim_puk"))
    others = draw(rng, complaint, ()) - {"sim_missing", "usage", "roaming_line", "roaming_phone"}
    wrong = others | {mode}
    if faults.named(wrong) in faults.held_out_sets(case.world):
        return None
    return Wish(
        reason=complaint.reason(rng),
        about=complaint.about,
        facts=(place(rng, away=False),) if complaint.data else (),
        instructions=(*with_phone(rng), some(rng, UNKNOWN_CODE), some(rng, HANDED_OVER), some(rng, ANY_REQUEST)),
        calls=(*complaint.tests, faults.look("check_sim_status"), hand_over("The SIM card is locked.")),
        findings=faults.FAULTS[mode].findings,
        outcome="transferred",
        setup=situation(account, wrong, away=False, over=0.0),
        assertions=complaint.broken,
        entities=account.entities,
    )


UNKNOWN_CODE = (
    "If you are asked for a code of the SIM card, you do not have it.",
    "You have no paper with the codes of your SIM card.",
)


def ended(case: Case) -> Wish | None:
    """A line that is suspended and whose contract has ended, with or without an unpaid bill."""
    account, rng = Account(case), case.rng
    if not account.suspended or account.runs:
        return None
    complaint = rng.choice((SERVICE, SERVICE, NO_DATA))
    others = (
        draw(rng, complaint, ()) - {"usage", "roaming_line", "roaming_phone"} if rng.random() < 0.6 else frozenset()
    )
    if faults.named(others | {"ended"}) in faults.held_out_sets(case.world):
        return None
    instructions = [*with_phone(rng), some(rng, HANDED_OVER)]
    if account.with_status("Overdue"):
        instructions.append("If there is an unpaid bill, you are willing to pay it.")
    return Wish(
        reason=complaint.reason(rng),
        about=complaint.about,
        facts=(place(rng, away=False),) if complaint.data else (),
        instructions=tuple(instructions),
        calls=(
            *complaint.tests,
            account.look_at_line(),
            account.look_at_bills(),
            hand_over("The line is suspended and its contract has ended."),
        ),
        findings=(policy.suspension(account.line), policy.contract_runs(account.line, account.today)),
        outcome="transferred",
        setup=situation(account, others, away=False, over=0.0),
        assertions=complaint.broken,
        entities=account.entities,
    )


def exhausted(case: Case) -> Wish | None:
    """Data used up beyond all that may be refueled, and no wish for another plan."""
    account, rng = Account(case), case.rng
    if account.suspended or account.with_status("Overdue") or account.plan.data_limit_gb > 100:
        return None
    complaint = rng.choice((NO_DATA, SLOW_DATA))
    others = (
        draw(rng, complaint, ()) - {"usage", "roaming_line", "roaming_phone"} if rng.random() < 0.7 else frozenset()
    )
    if faults.named(others | {"exhausted"}) in faults.held_out_sets(case.world):
        return None
    wrong, over = others | {"usage"}, rng.randint(1, 9) / 10
    return Wish(
        reason=complaint.reason(rng),
        about=complaint.about,
        facts=(place(rng, away=False),),
        instructions=(
            *with_phone(rng),
            "You would buy more data, but you do not want another plan.",
            some(rng, HANDED_OVER),
            some(rng, ANY_REQUEST),
        ),
        calls=(
            *complaint.tests,
            account.look_at_usage(),
            account.look_at_plan(),
            hand_over("The data are used up, and no more can be refueled."),
        ),
        findings=(policy.data_limit(exceeded=True), policy.refuel_limit(1.0, policy.REFUEL_LIMIT_GB)),
        outcome="transferred",
        setup=situation(account, wrong, away=False, over=over, refueled=policy.REFUEL_LIMIT_GB),
        assertions=complaint.broken,
        entities=account.entities,
    )


def plan_change(case: Case) -> Wish | None:
    """Another plan, where there is no tool to apply it."""
    account, rng = Account(case), case.rng
    tools = account.tools()
    others = [plan for plan in account.db.plans if plan.plan_id != account.plan.plan_id]
    if any("plan" in tool for tool in tools) or not others or account.suspended:
        return None
    plan = rng.choice(others)
    reasons = (
        f"You want to change your line to the plan {plan.name}.",
        f"You want another plan: {plan.name}, as soon as possible.",
        f"You want to leave your plan {account.plan.name} for {plan.name}.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the plan",
        facts=(
            Fact(
                "the id of the plan",
                f"The id of {plan.name} is {plan.plan_id}; you have it from a leaflet.",
                Told.ASKED,
            ),
        ),
        instructions=("If the agent tells you the price, you agree to it.", some(rng, HANDED_OVER), *left_alone(case)),
        calls=(account.look_at_plan(), read("get_details_by_id", id=plan.plan_id), hand_over("A change of plan.")),
        findings=(policy.plan_tool(tools),),
        outcome="transferred",
        topic=f"{account.line.line_id} to {plan.plan_id}",
        entities=account.entities,
    )


def beyond(case: Case) -> Wish | None:
    """Something that the agent has no action for."""
    account, rng = Account(case), case.rng
    if account.suspended:
        return None
    surname = some(rng, ("Ashworth", "Brandt", "Corelli", "Duval"))
    wants = (
        ("a new SIM card", "You want a new SIM card sent to you: the old one is broken in two."),
        ("another number", f"You want another phone number for your {account.device.model}."),
        ("a closed line", "You want to close your line for good at the end of the month."),
        ("a new address", f"You want your bills to go to your new address: {rng.randint(2, 99)} Quarry Hill, Salem."),
        ("a changed name", f"You want your last name changed to {surname} in your account."),
        ("a disputed charge", "You want to dispute a charge on last month's bill: you never made those calls."),
        ("another line", "You want to add a new line to your account, for your son."),
        ("a moved number", "You want to take your number with you to another carrier."),
        ("a new card on file", "You want to replace the payment method on your account by a new one."),
        ("a repaired screen", "You want the cracked screen of your phone repaired under its insurance."),
    )
    what, reason = rng.choice(wants)
    wish = Wish(
        reason=told(rng, (reason,)),
        about=what,
        instructions=(some(rng, HANDED_OVER), *left_alone(case)),
        calls=(hand_over(f"The user asks for {what}, which the agent has no action for."),),
        findings=(policy.in_scope(what),),
        outcome="transferred",
        topic=f"{what} {account.line.line_id}",
        entities=account.entities,
    )
    return replace(wish, after=True) if case.wishes else wish
