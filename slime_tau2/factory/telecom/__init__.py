"""Tasks of tau2's telecom domain, about customers that are not in its database."""

from __future__ import annotations

from slime_tau2.factory.case import Factory, Family
from slime_tau2.factory.draft import Draft
from slime_tau2.factory.telecom import bills, data, policy, questions, repairs, transfers
from slime_tau2.factory.telecom.account import by_assertions, guards
from slime_tau2.factory.telecom.attempts import attempts
from slime_tau2.factory.telecom.households import owners, scene
from slime_tau2.factory.telecom.identity import identity, nobody
from slime_tau2.factory.telecom.rulings import ruling
from slime_tau2.factory.telecom.words import PERSONAS

REPAIRS = {
    "service": repairs.service,
    "no_data": repairs.no_data,
    "slow_data": repairs.slow_data,
    "mms": repairs.mms,
}
DONE = {
    **REPAIRS,
    "pay": bills.pay,
    "pay_oldest": bills.pay_oldest,
    "settle": bills.settle,
    "refuel": data.refuel,
}
QUESTIONS = {
    "data_left": questions.data_left,
    "owed": questions.owed,
    "newest_bill": questions.newest_bill,
    "refuel_price": questions.refuel_price,
    "plan_name": questions.plan_name,
}
REFUSED = {
    "unpaid": bills.unpaid,
    "not_due": bills.not_due,
    "too_much": data.too_much,
    "for_free": data.for_free,
}
TRANSFERRED = {
    "locked": transfers.locked,
    "ended": transfers.ended,
    "exhausted": transfers.exhausted,
    "plan_change": transfers.plan_change,
    "beyond": transfers.beyond,
}


def _recipes() -> dict[tuple[str, ...], float]:
    recipes: dict[tuple[str, ...], float] = {
        ("service",): 11.0,
        ("no_data",): 13.0,
        ("slow_data",): 14.0,
        ("mms",): 16.0,
        ("pay",): 5.0,
        ("settle",): 4.0,
        ("refuel",): 5.0,
        ("pay", "refuel"): 3.0,
        ("owed", "pay"): 2.0,
        ("pay_oldest", "unpaid"): 3.0,
        ("pay", "not_due"): 2.0,
    }
    recipes |= {(name,): 0.8 for name in QUESTIONS}
    recipes |= {(name, question): 0.6 for name in REPAIRS for question in ("data_left", "newest_bill", "plan_name")}
    recipes |= {(name, no): 0.7 for name in REPAIRS for no in ("not_due", "too_much", "for_free")}
    recipes |= {(name, beyond): 0.7 for name in (*REPAIRS, "pay", "refuel") for beyond in ("beyond", "plan_change")}
    recipes |= {("refuel", question): 0.8 for question in ("data_left", "newest_bill", "plan_name")}
    recipes |= {("settle", "newest_bill"): 0.8, ("settle", "refuel"): 0.8, ("newest_bill", "refuel"): 0.8}
    recipes |= {("unpaid",): 2.0, ("not_due",): 1.0, ("too_much",): 1.5, ("for_free",): 1.0, ("unidentified",): 1.0}
    recipes |= {("not_due", "data_left"): 0.3, ("too_much", "refuel_price"): 0.3}
    recipes |= {("locked",): 3.0, ("ended",): 1.5, ("exhausted",): 2.0, ("plan_change",): 1.0, ("beyond",): 1.0}
    return recipes


def basis(draft: Draft) -> tuple[str, ...]:
    """The databases, or assertions where the user changes the phone or pays; the transfer where somebody is to be
    handed over; the answers where something is to be told.
    """
    transferred = any(wish.outcome == "transferred" for wish in draft.wishes)
    return (
        "ENV_ASSERTION" if by_assertions(draft.families) else "DB",
        *(("ACTION",) if transferred else ()),
        *(("COMMUNICATE",) if draft.tells() else ()),
    )


TELECOM = Factory(
    domain="telecom",
    owners=owners,
    identity=identity,
    scene=scene,
    guards=guards,
    families={
        **{name: Family(make) for name, make in {**DONE, **QUESTIONS}.items()},
        **{name: Family(make, "refused") for name, make in REFUSED.items()},
        **{name: Family(make, "transferred") for name, make in TRANSFERRED.items()},
        "unidentified": Family(data.unidentified, "refused", nobody),
    },
    recipes=_recipes(),
    rules=policy.BOOK.rules,
    ruling=ruling,
    attempts=attempts,
    basis=basis,
    personas=PERSONAS,
)
