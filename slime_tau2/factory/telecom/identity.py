"""How a telecom agent finds out who the user is, and which line it is about."""

from __future__ import annotations

from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Identity, Told, read
from slime_tau2.factory.stories import remembered
from slime_tau2.factory.telecom import policy
from slime_tau2.factory.telecom.account import Account


def identity(case: Case) -> Identity:
    """By the line's number; by customer id; by name and date of birth where the user has neither at hand.

    A user who does not know the number of the line says which of the phones it is, if there are several.
    """
    account, rng = Account(case), case.rng
    customer = account.customer
    name = Fact("your name", f"You are {customer.full_name}.", Told.AT_ONCE)
    number = Fact("your phone number", f"The phone number of the line is {account.line.phone_number}.")
    way = rng.random()
    if way < 0.62:
        call = read("get_customer_by_phone", phone_number=account.line.phone_number)
        facts = (name, remembered(rng, number))
        return Identity(facts, (call, account.look_at_line()), (policy.identified(("phone",)),))
    forgotten = Fact("the phone number of the line", "", Told.FORGOTTEN)
    which = _which(account)
    if way < 0.78:
        key = remembered(rng, Fact("your customer id", f"Your customer id is {customer.customer_id}."))
        call = read("get_customer_by_id", customer_id=customer.customer_id)
        return Identity((name, key, *which, forgotten), (call, *_looks(account)), (policy.identified(("id",)),))
    birth = Fact("your date of birth", f"You were born on {customer.date_of_birth}.")
    call = read("get_customer_by_name", full_name=customer.full_name, dob=customer.date_of_birth)
    return Identity((name, birth, *which, forgotten), (call, *_looks(account)), (policy.identified(("name", "birth")),))


def _which(account: Account) -> tuple[Fact, ...]:
    if len(account.lines) == 1:
        return ()
    return (Fact("which of your phones it is", f"It is about the line of your {account.device.model}.", Told.ASKED),)


def _looks(account: Account) -> list[Call]:
    """Every line, and its device, up to the one that it is."""
    calls: list[Call] = []
    for line in account.lines:
        calls.append(read("get_details_by_id", id=line.line_id))
        if len(account.lines) > 1:
            calls.append(read("get_details_by_id", id=line.device_id))
        if line.line_id == account.line.line_id:
            break
    return calls


def nobody(case: Case) -> Identity:
    """A user who cannot say enough to be found."""
    account = Account(case)
    facts = (
        Fact("your name", f"You are {account.customer.full_name}.", Told.AT_ONCE),
        Fact("the phone number of the line", "", Told.FORGOTTEN),
        Fact("your customer id", "", Told.FORGOTTEN),
    )
    return Identity(facts, (), (policy.identified(("name",)),))
