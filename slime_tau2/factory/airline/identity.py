"""How an airline agent finds out who the user is: the user says the user id."""

from __future__ import annotations

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Identity, Told, read
from slime_tau2.factory.stories import remembered


def identity(case: Case) -> Identity:
    """By user id; airline's agent has no other way."""
    desk = Desk(case)
    name = Fact("your name", f"You are {desk.user.name.first_name} {desk.user.name.last_name}.", Told.AT_ONCE)
    user_id = remembered(case.rng, Fact("your user id", f"Your user id is {case.owner}."))
    calls = (read("get_user_details", user_id=case.owner),)
    return Identity((name, user_id), calls, (policy.user_id_given(desk, case.owner),))
