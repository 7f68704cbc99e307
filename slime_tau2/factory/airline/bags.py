"""More checked bags, free or paid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slime_tau2.factory.airline import payments, policy
from slime_tau2.factory.airline.book import BAG
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.airline.wishes import afterwards, free_argument, paying_fact, previous, price_wanted
from slime_tau2.factory.airline.words import count, refer
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Wish, read, write
from slime_tau2.factory.rules import Finding


def bags(case: Case) -> Wish | None:
    """More checked bags, free or paid."""
    desk = Desk(case)
    found = desk.upcoming()
    return _bags(desk, case.rng.choice(found)) if found else None


def bags_too(case: Case) -> Wish | None:
    """The same, on the trip that was just changed: what is free goes by its new cabin."""
    desk = Desk(case)
    reservation = previous(desk)
    wish = _bags(desk, reservation) if reservation else None
    return afterwards(desk, reservation, wish) if reservation and wish else None


def _bags(desk: Desk, reservation: Reservation) -> Wish | None:
    rng = desk.rng
    added = rng.choice((1, 1, 2, 2, 3))
    total = reservation.total_baggages + added
    free = len(reservation.passengers) * desk.free_bags(reservation.cabin)
    nonfree = max(0, total - free)
    if reservation.total_baggages - reservation.nonfree_baggages > free or nonfree < reservation.nonfree_baggages:
        return None
    price = BAG * (nonfree - reservation.nonfree_baggages)
    reference = refer(desk, reservation)
    paying = payments.for_bags(desk, price, reference.short)
    if paying is None:
        return None
    told = price_wanted(desk, price, reference, "the added bags cost")
    words = policy.Bags(total, nonfree, len(reservation.passengers), desk.user.membership, reservation.cabin)
    amount = f"add {count(added, 'checked bag')} to"
    if reservation.total_baggages and rng.random() < 0.4:
        amount = f"have {count(total, 'checked bag')} in total, instead of {reservation.total_baggages}, on"
    hoped: tuple[Finding, ...] = ()
    if price and rng.random() < 0.4:
        hoped = (policy.bag_allowance(words._replace(nonfree=0)),)
        belief = "You believe that all your bags are free, and say so; if the agent knows better, you pay."
        told = replace(told, instructions=(belief, *told.instructions))
    expression = f"{reservation.total_baggages} + {added}"
    summed = (read("calculate", expression=expression),) if reservation.total_baggages else ()
    arguments: dict[str, Any] = {"total_baggages": total, "nonfree_baggages": nonfree, "payment_id": paying.method.id}
    call = write("update_reservation_baggages", reservation_id=reservation.reservation_id, **arguments)
    return Wish(
        about="the added bags",
        reason=f"You want to {amount} {reference.words}.",
        facts=(*reference.facts, paying_fact(desk, paying, f"added bags on {reference.short}")),
        instructions=told.instructions,
        tells=told.tells,
        calls=(*reference.reads, *summed, call if price else free_argument(call, "payment_id")),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.bags_only_added(reservation.total_baggages, total),
            policy.bag_allowance(words),
            policy.difference_payable(paying.method, price),
            policy.in_profile(desk, paying.method.id),
            policy.confirmed(True),
        ),
        tried=hoped,
        entities=frozenset({reservation.reservation_id}) | (paying.ids() if price else frozenset()),
        sensitive=paying.ids(),
    )
