"""The scripted telecom agent's way through bills, suspensions, more data, and questions about an account."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Fact, Wish, write
from slime_tau2.factory.stories import listed
from slime_tau2.factory.telecom.clerk import Clerk
from slime_tau2.factory.telecom.faults import look, press
from slime_tau2.factory.telecom.policy import REFUEL_LIMIT_GB
from slime_tau2.factory.telecom.words import gigabytes, money
from slime_tau2.factory.voice import first_person


def instruction(wish: Wish, pattern: str) -> re.Match[str] | None:
    """The instruction of a wish that begins as a pattern."""
    return next((found for line in wish.instructions if (found := re.match(pattern, line))), None)


# Bills


def pay(clerk: Clerk, wish: Wish) -> Script[None]:
    """The overdue bill, or the older one of two."""
    yield from clerk.look_at_bills()
    overdue = clerk.with_status("Overdue")
    ids = [call.arguments["bill_id"] for call in wish.calls if call.name == "send_payment_request"]
    bills = [bill for bill in overdue if bill.bill_id in ids]
    if len(overdue) > len(bills):
        clerk.note(f"You have {len(overdue)} overdue bills; the older one is {clerk.bill_words(bills[0])}.")
    else:
        clerk.note(f"You have one overdue bill: {clerk.bill_words(bills[0])}.")
    yield from pay_bills(clerk, bills)


def pay_bills(clerk: Clerk, bills: Sequence[Any]) -> Script[None]:
    """Request and payment of each, one after the other; each is checked before the next."""
    for number, bill in enumerate(bills):
        name = f"bill {bill.bill_id} (${money(bill.total_due)})"
        yield from clerk.say(
            clerk.pick(
                f"Shall I send you a payment request for {name}? Please answer yes to confirm.",
                f"May I send you the payment request for {name} (yes/no)?",
                f"Would you like to pay {name} now? If yes, I'll send you a payment request.",
            )
        )
        yield from clerk.answer(clerk.voice.permits())
        yield from clerk.do(
            [write("send_payment_request", customer_id=clerk.customer.customer_id, bill_id=bill.bill_id)]
        )
        sent = clerk.pick(
            f"I have sent you a payment request for {name}.", f"The payment request for bill {bill.bill_id} is sent."
        )
        if clerk.rng.random() < 0.5:
            yield from clerk.say(
                sent, clerk.pick("Please check your payment requests and tell me what you see.", "Can you see it?")
            )
            yield from clerk.use_phone(look("check_payment_request"))
            yield from clerk.say(
                clerk.pick(
                    "If that is right, please accept it and make the payment.", "Please make the payment if you agree."
                )
            )
        else:
            yield from clerk.say(
                sent,
                clerk.pick(
                    "Please check your payment requests, and make the payment if everything is right.",
                    "Please look at it, and pay if you accept it.",
                ),
            )
            yield from clerk.press(look("check_payment_request"))
        yield from clerk.use_phone(press("make_payment"))
        paid = yield from clerk.look_at(bill.bill_id, anew=True)
        assert paid.status == "Paid"
        clerk.note(
            clerk.pick(f"Thank you, bill {bill.bill_id} is paid.", f"I see that bill {bill.bill_id} is now paid.")
        )
        if number + 1 < len(bills):
            clerk.note("Now to the next one.")


def settle(clerk: Clerk, wish: Wish) -> Script[None]:
    """A suspended line, by a user who knows why."""
    yield from lift(clerk)
    if not clerk.has_signal:
        yield from clerk.phone("check_status_bar")
    assert clerk.has_signal
    clerk.note(clerk.pick("Your phone has service again.", "Your line works again."))


def lift(clerk: Clerk) -> Script[None]:
    """All overdue bills are paid, the line is resumed, the phone restarted."""
    yield from clerk.look_at_bills()
    bills = clerk.with_status("Overdue")
    words = listed([clerk.bill_words(bill) for bill in bills])
    clerk.note(
        clerk.pick(
            f"Your line is suspended because of what is overdue: {words}. When that is paid, I can lift the "
            "suspension.",
            f"Your line {clerk.line.phone_number} is suspended, since there is an overdue balance: {words}. I can "
            "resume "
            "the line once it is paid.",
        )
    )
    yield from pay_bills(clerk, bills)
    yield from clerk.do([write("resume_line", **clerk.ids())])
    clerk.line.status = "Active"
    yield from clerk.phone(
        "reboot_device",
        "Please restart your phone now, so that it gets service.",
        "To get service back, please reboot your phone.",
        why=clerk.pick("I have lifted the suspension of your line.", "Your line is active again."),
    )


def unpaid(clerk: Clerk, wish: Wish) -> Script[None]:
    """No suspension is lifted while a bill is overdue."""
    yield from clerk.look_at_bills()
    bills = clerk.with_status("Overdue")
    words = listed([clerk.bill_words(bill) for bill in bills])
    yield from clerk.say(
        clerk.pick(
            f"Your line is suspended because of {words}. I can lift the suspension only when all overdue bills are "
            "paid.",
            f"I can't resume the line while {words} {'is' if len(bills) == 1 else 'are'} unpaid.",
        ),
        clerk.pick("Would you like to pay now?", "Shall I send you a payment request?"),
    )
    excuse = re.sub(r" Decline any payment request\.$", "", wish.instructions[0])
    yield from clerk.answer(f"{clerk.voice.pick('No.', 'No, thanks.', 'No, I will not.')} {first_person(excuse)}")
    yield from clerk.refuse(
        wish,
        "Then I'm sorry, but I can't lift the suspension. It takes the payment of all that is overdue.",
        "I understand. As long as there is an overdue bill, though, the line has to stay suspended.",
    )


def not_due(clerk: Clerk, wish: Wish) -> Script[None]:
    """A bill that is not overdue."""
    yield from clerk.look_at_bills()
    bill = clerk.rows[wish.topic]
    yield from clerk.refuse(
        wish,
        f"I see {clerk.bill_words(bill)}. It is not overdue, and I can send payment requests for overdue bills only.",
        f"[sorry] {clerk.bill_words(bill)} is not overdue yet. I can help with the payment of overdue bills only.",
        firm=("[sorry] it isn't possible before the bill is overdue.", "[understand] I can't request it now."),
    )


# Data


def refuel(clerk: Clerk, wish: Wish) -> Script[None]:
    """More data, at the plan's price."""
    usage = yield from clerk.look_at_usage()
    plan = yield from clerk.look_at_plan()
    clerk.note(
        clerk.pick(
            f"You have used {usage.data_used_gb} of {usage.data_limit_gb} GB.",
            f"Your plan ({plan.name}) has {plan.data_limit_gb} GB a month, of which you have used {usage.data_used_gb} "
            "GB.",
        )
    )
    yield from buy(clerk, wish, plan)


def buy(clerk: Clerk, wish: Wish, plan: Any) -> Script[None]:
    """Ask how much, name the price, refuel."""
    call = next(call for call in wish.calls if call.name == "refuel_data")
    facts: list[Fact] = [fact for fact in wish.facts if "data you w" in fact.name]
    price = plan.data_refueling_price_per_gb
    yield from clerk.ask(
        facts,
        f"How many GB would you like to add? It costs ${money(price)} per GB, and {gigabytes(REFUEL_LIMIT_GB)} is the "
        "most that can be added.",
        f"How much data would you like to add, at ${money(price)} per GB?",
        "How much data would you like to add?",
    )
    amount: float = call.arguments["gb_amount"]
    first = re.match(r"At first you want ([\d.]+) GB\.$", facts[0].words)
    much = re.match(r"You ask for ([\d.]+) GB\.$", facts[0].words)
    if much:
        yield from clerk.say(
            clerk.pick(
                f"[sorry] {much[1]} GB is too much: at most {gigabytes(REFUEL_LIMIT_GB)} can be added.",
                f"The most that can be added is {gigabytes(REFUEL_LIMIT_GB)}, so {much[1]} GB isn't possible.",
            )
        )
        yield from clerk.answer(
            clerk.voice.pick(f"Then {gigabytes(amount)}, please.", f"OK, I take {gigabytes(amount)}.")
        )
    if first:
        yield from clerk.propose(_refuel_lines(clerk, float(first[1]), price))
        yield from clerk.answer(
            clerk.voice.pick(
                f"Hmm, make it {gigabytes(amount)} instead.", f"On second thought, I'd like {gigabytes(amount)}."
            )
        )
    yield from clerk.carry_out(_refuel_lines(clerk, amount, price), [call])
    clerk.note(
        clerk.pick(
            f"{gigabytes(amount)} has been added to your line, for ${money(amount * price)}.",
            f"[done] your line has {gigabytes(amount)} more now.",
        )
    )


def _refuel_lines(clerk: Clerk, amount: float, price: float) -> list[str]:
    return [
        f"Line: {clerk.line.phone_number}",
        f"Data: {gigabytes(amount)} more",
        f"Price: ${money(amount * price)} (${money(price)} per GB)",
    ]


def too_much(clerk: Clerk, wish: Wish) -> Script[None]:
    """More than may be refueled."""
    yield from clerk.look_at_usage()
    much = wish.topic.split()[-1]
    yield from clerk.refuse(
        wish,
        f"[sorry] at most {gigabytes(REFUEL_LIMIT_GB)} can be added to a line, so {much} GB isn't possible.",
        f"{much} GB is more than can be added: the limit is {gigabytes(REFUEL_LIMIT_GB)}. Would that help you?",
        accepts=(
            "No, that is of no use to me. Then leave it.",
            "Then never mind.",
            "That's too little. Leave it, then.",
        ),
    )


def for_free(clerk: Clerk, wish: Wish) -> Script[None]:
    """Data below their price."""
    plan = yield from clerk.look_at_plan()
    price = money(plan.data_refueling_price_per_gb)
    yield from clerk.refuse(
        wish,
        f"[sorry] added data costs ${price} per GB on your plan, {plan.name}, and I can't change that price.",
        f"I can add data only at the price of your plan, which is ${price} per GB.",
        firm=("[understand] I can't give you another price.", f"[sorry] it stays at ${price} per GB."),
    )


# Questions


def data_left(clerk: Clerk, wish: Wish) -> Script[str]:
    """How much is left."""
    usage = yield from clerk.look_at_usage()
    left = wish.tells[0]
    added = f", beside {usage.data_refueling_gb} GB that were added" if float(usage.data_refueling_gb) else ""
    return clerk.pick(
        f"You have {left} GB left this month: {usage.data_used_gb} GB are used, and your plan has "
        f"{usage.data_limit_gb} GB{added}.",
        f"There are {left} GB left on your line until {usage.cycle_end_date}.",
    )


def owed(clerk: Clerk, wish: Wish) -> Script[str]:
    """What is overdue."""
    yield from clerk.look_at_bills()
    bills = clerk.with_status("Overdue")
    words = listed([clerk.bill_words(bill) for bill in bills])
    if len(bills) == 1:
        return f"You owe ${wish.tells[0]}: {words} is overdue."
    return f"Your overdue bills are {words}; that is ${wish.tells[0]} all together."


def newest_bill(clerk: Clerk, wish: Wish) -> Script[str]:
    """This month's bill."""
    yield from clerk.look_at_bills()
    bill = clerk.with_status("Issued")[-1]
    return clerk.pick(
        f"Your newest bill, {bill.bill_id}, was issued on {bill.issue_date} and amounts to ${wish.tells[0]}.",
        f"It is ${wish.tells[0]} (bill {bill.bill_id}), due on {bill.due_date}.",
    )


def refuel_price(clerk: Clerk, wish: Wish) -> Script[str]:
    """What more data would cost."""
    plan = yield from clerk.look_at_plan()
    amount = re.search(r"([\d.]+) GB", wish.about)
    assert amount
    each = plan.data_refueling_price_per_gb
    return f"{amount[1]} GB more would cost ${money(float(amount[1]) * each)}, at ${money(each)} per GB."


def plan_name(clerk: Clerk, wish: Wish) -> Script[str]:
    """Which plan it is."""
    plan = yield from clerk.look_at_plan()
    return clerk.pick(
        f"Your line is on the {plan.name}." if plan.name.endswith("Plan") else f"Your line is on the plan {plan.name}.",
        f"Your plan is called {plan.name}; it costs ${money(plan.price_per_month)} a month.",
    )


ANSWERS: Mapping[str, Callable[[Clerk, Wish], Script[str]]] = {
    "data_left": data_left,
    "owed": owed,
    "newest_bill": newest_bill,
    "refuel_price": refuel_price,
    "plan_name": plan_name,
}
Step = Callable[[Clerk, Wish], Script[None]]
SERVED: Mapping[str, Step] = {
    "pay": pay,
    "pay_oldest": pay,
    "settle": settle,
    "unpaid": unpaid,
    "not_due": not_due,
    "refuel": refuel,
    "too_much": too_much,
    "for_free": for_free,
}
