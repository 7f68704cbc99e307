"""Cancel a reservation, by each ground that the policy knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.desk import Desk, paid
from slime_tau2.factory.airline.reasons import PRIVATE, REASONS, ground, reason_fact, why
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.airline.wishes import LEAST_TOLD
from slime_tau2.factory.airline.words import find, refer
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, write


def cancellation(reservation: Reservation) -> Call:
    """The gold call."""
    return write("cancel_reservation", reservation_id=reservation.reservation_id)


def recent(case: Case) -> Wish | None:
    """Booked within the last 24 hours, whatever the reason."""
    desk = Desk(case)
    return _cancel(desk, desk.recent, *why(desk, *PRIVATE))


def airline_cancelled(case: Case) -> Wish | None:
    """The airline cancelled a flight, and nothing was flown."""
    desk = Desk(case)

    def fits(reservation: Reservation) -> bool:
        return "cancelled" in desk.statuses(reservation)

    return _cancel(desk, fits, "airline cancelled", "the airline has cancelled a flight of it")


def business(case: Case) -> Wish | None:
    """A business reservation, whatever the reason."""
    desk = Desk(case)
    kinds = (*PRIVATE, "health")
    return _cancel(desk, lambda r: r.cabin == "business" and desk.upcoming().count(r) == 1, *why(desk, *kinds))


def insured(case: Case) -> Wish | None:
    """Insured, for a reason of health or weather."""
    desk = Desk(case)

    def fits(reservation: Reservation) -> bool:
        return reservation.insurance == "yes" and reservation.cabin != "business" and reservation in desk.upcoming()

    return _cancel(desk, fits, *why(desk, "health", "health", "weather"))


def too(case: Case) -> Wish | None:
    """Another trip, for the same grounds as any: what comes with a wish before it."""
    desk = Desk(case)
    reason, words = why(desk, *REASONS)
    return _cancel(desk, lambda r: ground(desk, r, reason) is not None, reason, words)


def _cancel(desk: Desk, fits: Callable[[Reservation], bool], reason: str, words: str) -> Wish | None:
    found = [r for r in desk.untouched() if not desk.flown(r) and fits(r)]
    if not found:
        return None
    reservation = desk.rng.choice(found)
    holding = ground(desk, reservation, reason)
    assert holding is not None, "what fits has a ground"
    reference = refer(desk, reservation)
    wish = Wish(
        about="the cancellation",
        reason=f"You want to cancel {reference.words}.",
        facts=(*reference.facts, reason_fact(words, reference.short)),
        calls=(*reference.reads, cancellation(reservation)),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.nothing_flown(desk, reservation),
            *(finding for finding in policy.grounds(desk, reservation, reason) if finding.holds),
            policy.confirmed(True),
        ),
        entities=frozenset({reservation.reservation_id}),
    )
    if paid(reservation) < LEAST_TOLD or desk.rng.random() < 0.7:
        return wish
    asked = f"You want to hear from the agent how many dollars you get back for {reference.short}."
    return replace(wish, instructions=(asked,), tells=(str(paid(reservation)),))


EVERY = (
    ("change of plan", "your plans have changed"),
    ("change of plan", "you have no time to travel any more"),
    ("health", "you have fallen ill and cannot fly"),
    ("health", "your doctor has told you not to fly, for your health"),
)


def every(case: Case) -> Wish | None:
    """All trips to come, as far as the policy lets them go: some can be cancelled, some cannot."""
    desk = Desk(case)
    coming = [r for r in desk.reservations if r.status is None and set(desk.statuses(r)) == {"available"}]
    past = [r for r in desk.reservations if set(desk.statuses(r)) == {"landed"}]
    if len(coming) < 2 or len(coming) + len(past) < len(desk.reservations) or case.wishes:
        return None
    reason, words = desk.rng.choice(EVERY)
    free = [r for r in coming if ground(desk, r, reason)]
    if not free or len(free) > 3:
        return None
    stuck = [r for r in coming if r not in free]
    lookups = [call for r in desk.reservations for call in find(desk, r, known=True)]
    held = [ground(desk, r, reason) for r in free]
    return Wish(
        about="the cancellation",
        reason="You want to cancel all the trips that you have still ahead of you.",
        facts=(
            Fact("the reservation numbers of your trips", "", Told.FORGOTTEN),
            Fact("the reason for cancelling", f"You cancel because {words}.", Told.ASKED),
        ),
        instructions=("If some of the trips cannot be cancelled, you keep those as they are and cancel the others.",),
        calls=(*lookups, *map(cancellation, free)),
        findings=(
            *(policy.nothing_flown(desk, r) for r in free),
            *(finding for finding in held if finding is not None),
            policy.confirmed(True),
        ),
        tried=tuple(finding for r in stuck for finding in policy.grounds(desk, r, reason)),
        entities=frozenset(r.reservation_id for r in coming),
    )
