"""Parts of wishes about a reservation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from slime_tau2.factory.airline import payments
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.airline.words import Reference, trip
from slime_tau2.factory.draft import Call, Fact, Wish
from slime_tau2.factory.stories import remembered

LEAST_TOLD = 100
"""Smaller amounts stand in too many answers by chance."""


@dataclass(frozen=True)
class PriceAsked:
    instructions: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()


def price_wanted(desk: Desk, difference: int, reference: Reference, what: str = "") -> PriceAsked:
    """Whether the user wants to be told an amount before it is charged, and what then must be said."""
    if abs(difference) < LEAST_TOLD or desk.rng.random() < 0.6:
        return PriceAsked()
    if not what:
        what = "more it costs" if difference > 0 else "you get back"
        what = f"{what} to change {reference.short}" if difference > 0 else f"{what} for {reference.short}"
    return PriceAsked((f"Before you agree, you want to hear how much {what}.",), (str(abs(difference)),))


def previous(desk: Desk) -> Reservation | None:
    """The reservation of the wish before, as that wish left it."""
    entities = desk.case.wishes[-1].entities if desk.case.wishes else frozenset()
    return next((r for r in desk.reservations if r.reservation_id in entities and r.status is None), None)


def afterwards(desk: Desk, reservation: Reservation, wish: Wish) -> Wish:
    """A wish about the trip of the wish before it: the agent knows already which."""
    reason = wish.reason.replace(trip(desk, reservation), "that same trip")
    facts = tuple(fact for fact in wish.facts if not fact.name.startswith("the reservation number"))
    calls = tuple(call for call in wish.calls if call.name != "get_reservation_details")
    return replace(wish, reason=reason, facts=facts, calls=calls, after=True)


def paying_fact(desk: Desk, paying: payments.Single, what: str) -> Fact:
    """What the user pays with."""
    return remembered(desk.rng, Fact(f"the payment for {what}", paying.words), at_once=0.3)


def free_argument(call: Call, name: str) -> Call:
    """The call, with an argument on which nothing depends."""
    return replace(call, free=(*call.free, name))
