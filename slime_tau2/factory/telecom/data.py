"""More data for a line: what is granted, and what is not."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Told, Wish, write
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered
from slime_tau2.factory.telecom import policy
from slime_tau2.factory.telecom.account import Account, holds, left_alone
from slime_tau2.factory.telecom.words import ACCEPTED, gigabytes, money, some, told

AMOUNTS = (0.5, 1.0, 1.5, 2.0)
TOO_MUCH = (2.5, 3.0, 4.0, 5.0, 8.0, 10.0)


def refuel(case: Case) -> Wish | None:
    """More data on demand: an amount, another one on second thoughts, as much as may be, as much as money buys."""
    account, rng = Account(case), case.rng
    if account.plan.data_limit_gb > 100 or account.line.data_refueling_gb or account.suspended:
        return None
    price = account.plan.data_refueling_price_per_gb
    amount = rng.choice(AMOUNTS)
    facts: tuple[Fact, ...] = ()
    instructions: list[str] = []
    tried: tuple[Finding, ...] = ()
    way = rng.random()
    if way < 0.4:
        facts = (remembered(rng, Fact("how much data you want", f"You want {gigabytes(amount)}.")),)
    elif way < 0.6:
        first = rng.choice([a for a in AMOUNTS if a != amount])
        facts = (Fact("how much data you want", f"At first you want {gigabytes(first)}.", Told.ASKED),)
        instructions.append(f"When the agent names the price, you change your mind: make it {gigabytes(amount)}.")
    elif way < 0.8:
        much, amount = rng.choice(TOO_MUCH), policy.REFUEL_LIMIT_GB
        facts = (Fact("how much data you want", f"You ask for {gigabytes(much)}.", Told.ASKED),)
        instructions.append(f"If that is more than is allowed, you take {gigabytes(amount)}.")
        tried = (policy.refuel_limit(much),)
    else:
        most = money(amount * price + rng.randint(0, 2))
        words = f"You want {gigabytes(amount)} if that costs no more than {most} dollars; otherwise you want none."
        facts = (Fact("how much data you want", words, Told.ASKED),)
    reasons = (
        "You want to add data to your line for the rest of the month.",
        "You want more data for this month, without a change of your plan.",
        "You want to top up your mobile data before a weekend with a lot of videos.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the data",
        facts=facts,
        instructions=(*instructions, *left_alone(case)),
        calls=(
            account.look_at_usage(),
            account.look_at_plan(),
            write("refuel_data", **account.ids(), gb_amount=amount),
        ),
        findings=(policy.refuel_limit(amount), policy.refuel_agreed(agrees=True)),
        tried=tried,
        assertions=(holds("assistant", "data_refueling_amount", **account.ids(), expected_amount=amount),),
        entities=account.entities,
    )


# Refused


def too_much(case: Case) -> Wish | None:
    """More than may be refueled, and nothing less will do."""
    account, rng = Account(case), case.rng
    if account.plan.data_limit_gb > 100 or account.line.data_refueling_gb or account.suspended:
        return None
    much = rng.choice(TOO_MUCH)
    reasons = (
        f"You want to add {gigabytes(much)} of data to your line.",
        f"You want {gigabytes(much)} more data this month.",
    )
    return Wish(
        reason=told(rng, reasons),
        about="the data",
        instructions=(
            "Less than that is of no use to you, and you do not want another plan either.",
            some(rng, ACCEPTED),
            *left_alone(case),
        ),
        calls=(account.look_at_usage(),),
        findings=(policy.refuel_limit(much),),
        outcome="refused",
        topic=f"{account.line.line_id} {much}",
        entities=account.entities,
    )


def for_free(case: Case) -> Wish | None:
    """Data without paying the plan's price for it."""
    account, rng = Account(case), case.rng
    if account.plan.data_limit_gb > 100 or account.line.data_refueling_gb or account.suspended:
        return None
    amount = rng.choice(AMOUNTS)
    price = account.plan.data_refueling_price_per_gb
    offers = (
        "for free, as an apology for last month's outage",
        "without a charge, because you have been a customer for so long",
        f"at half of the usual {money(price)} dollars a GB",
    )
    offer = some(rng, offers)
    return Wish(
        reason=told(rng, (f"You want to add {gigabytes(amount)} of data to your line {offer}.",)),
        about="the data",
        instructions=("You do not pay the regular price.", some(rng, ACCEPTED), *left_alone(case)),
        calls=(account.look_at_plan(),),
        findings=(policy.refuel_agreed(agrees=False),),
        outcome="refused",
        topic=f"{account.line.line_id} {amount} {offer}",
        entities=account.entities,
    )


SECRET = (
    "You do not tell your date of birth to anybody. If your name is not enough, say that you will call again.",
    "You give your name and nothing else about yourself, not even when you were born. If that is not enough, end the "
    "conversation.",
    "You find it none of the agent's business when you were born. If you cannot be helped without that, leave it.",
)


def unidentified(case: Case) -> Wish | None:
    """A user whom the agent cannot find: a name alone is not enough."""
    account, rng = Account(case), case.rng
    if account.suspended:
        return None
    wants = (
        "You want to know what your current bill amounts to.",
        "You want to add 1.0 GB of data to your line.",
        "You want to have roaming switched on for your line, since you are abroad.",
        "You want to pay a bill that may be overdue.",
        "You want to know how much data you have left.",
        "You want to know which plan your line is on.",
        "You want to get rid of the suspension of your line.",
        "You want to have your picture messages looked at, which fail.",
        "You want another plan for your line.",
        "You want to know when your next bill is due.",
    )
    reason = some(rng, wants)
    return Wish(
        reason=told(rng, (reason,)),
        instructions=(some(rng, SECRET), *left_alone(case)),
        findings=(policy.identified(("name",)),),
        outcome="refused",
        topic=reason,
        entities=account.entities,
    )
