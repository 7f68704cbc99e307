"""Other flights for a reservation, or another cabin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date as Date
from datetime import timedelta
from typing import Any

from slime_tau2.factory.airline import payments, policy
from slime_tau2.factory.airline.desk import CABINS, Desk, halves
from slime_tau2.factory.airline.itineraries import Choice, Query, choose, cost
from slime_tau2.factory.airline.reasons import REASONS, ground, reason_fact, why
from slime_tau2.factory.airline.shapes import BookedFlight, Reservation
from slime_tau2.factory.airline.wishes import paying_fact, price_wanted
from slime_tau2.factory.airline.words import CABIN_WORDS, day, half_words, refer, short_trip, trip
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Wish, read, write
from slime_tau2.factory.rules import Finding

Flights = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Move:
    """Other flights for a reservation.

    Attributes:
        words: "instead of the return flight, you want … on May 20".
        flights: all flights of the reservation afterwards.
        difference: dollars to pay, below 0 if refunded.
        choice: the flights that are new, and how the user means them.
    """

    words: str
    flights: Flights
    difference: int
    choice: Choice


def move(desk: Desk, reservation: Reservation, *, delayed: bool = False) -> Move | None:
    """New flights for a half of a reservation; None where none are meant without doubt.

    Args:
        delayed: the half with a delayed flight is what moves.
    """
    rng = desk.rng
    there, back = halves(reservation)
    if reservation.flight_type == "round_trip" and not back:
        return None
    half, other = (there, back) if not back or rng.random() < 0.5 else (back, there)
    if delayed:
        late = [h for h in (there, back) if any(desk.status(flight) == "delayed" for flight in h)]
        if len(late) != 1 or any(desk.status(flight) in ("landed", "flying", "cancelled") for flight in late[0]):
            return None
        half, other = late[0], back if late[0] is there else there
    earliest = other[-1].date if half is back and other else ""
    latest = other[0].date if half is there and other else "9999"
    dates = [
        date
        for date in desk.open_dates()
        if (not earliest or _days(earliest, date) >= 2) and (latest == "9999" or _days(date, latest) >= 2)
    ]
    near = [date for date in dates if abs(_days(half[0].date, date)) <= 5 and date != half[0].date]
    same_day = half[0].date in dates and rng.random() < 0.35
    if not near and not same_day:
        return None
    date = half[0].date if same_day else rng.choice(near)
    query = Query(
        origin=half[0].origin,
        destination=half[-1].destination,
        date=date,
        cabin=reservation.cabin,
        passengers=len(reservation.passengers),
    )
    choice = choose(desk, query)
    if choice is None or (same_day and len(choice.option) > 1):
        return None
    new = [leg.argument() for leg in choice.option]
    kept = {(flight.flight_number, flight.date) for flight in reservation.flights}
    if any((leg["flight_number"], leg["date"]) in kept for leg in new):
        return None
    paid = sum(flight.price for flight in half)
    old = [{"flight_number": flight.flight_number, "date": flight.date} for flight in other]
    when = f"on the same day, {day(date)}" if same_day else f"on {day(date)}"
    return Move(
        words=f"instead of the {half_words(desk, reservation, half)}, you want {choice.words}, {when}",
        flights=[*new, *old] if half is there else [*old, *new],
        difference=(cost(choice.option) - paid) * len(reservation.passengers),
        choice=choice,
    )


def _days(start: str, end: str) -> int:
    return (Date.fromisoformat(end) - Date.fromisoformat(start)) // timedelta(days=1)


def flights(case: Case) -> Wish | None:
    """The way there or the way back on another day, or with another flight."""
    desk = Desk(case)
    found = [r for r in desk.upcoming() if r.cabin != "basic_economy"]
    return _flights(desk, case.rng.choice(found)) if found else None


def cancel_else_flights(case: Case) -> Wish | None:
    """A trip that cannot be cancelled is moved instead."""
    desk = Desk(case)
    reason, words = why(desk, *REASONS)
    found = [r for r in desk.upcoming() if r.cabin != "basic_economy" and not ground(desk, r, reason)]
    wish = _flights(desk, desk.rng.choice(found)) if found else None
    if wish is None:
        return None
    reservation = next(r for r in found if r.reservation_id in wish.entities)
    instead = wish.reason.removeprefix(f"You want to change {trip(desk, reservation)}: ")
    ask = desk.rng.choice(("If the agent says that it cannot be cancelled", "If cancelling is not possible"))
    return replace(
        wish,
        about="the cancellation",
        reason=f"You want to cancel {trip(desk, reservation)} and get your money back.",
        facts=(*wish.facts, reason_fact(words, short_trip(desk, reservation))),
        instructions=(f"{ask}, you want to change the flights: {instead}", *wish.instructions),
        tried=tuple(policy.grounds(desk, reservation, reason)),
    )


def _flights(desk: Desk, reservation: Reservation) -> Wish | None:
    change = move(desk, reservation)
    if change is None or not change.difference:
        return None
    reference = refer(desk, reservation)
    paying = payments.single(desk, change.difference, reference.short)
    if paying is None:
        return None
    told = price_wanted(desk, change.difference, reference)
    return Wish(
        about="the other flights",
        reason=f"You want to change {reference.words}: {change.words}.",
        facts=(*reference.facts, paying_fact(desk, paying, f"changes of {reference.short}")),
        instructions=told.instructions,
        tells=told.tells,
        calls=(
            *reference.reads,
            *change.choice.reads,
            write(
                "update_reservation_flights",
                reservation_id=reservation.reservation_id,
                cabin=reservation.cabin,
                flights=change.flights,
                payment_id=paying.method.id,
            ),
        ),
        findings=(*flight_findings(desk, reservation, change, paying), policy.confirmed(True)),
        entities=frozenset({reservation.reservation_id}) | paying.ids(),
        sensitive=paying.ids(),
    )


def flight_findings(desk: Desk, reservation: Reservation, change: Move, paying: payments.Single) -> tuple[Finding, ...]:
    """The rules that a change of flights touches."""
    new = [leg.argument() for leg in change.choice.option]
    return (
        policy.reservation_found(desk, reservation),
        policy.not_basic_economy(reservation),
        policy.same_route(reservation, (reservation.origin, reservation.destination), reservation.flight_type),
        policy.flights_available(desk, new),
        policy.seats_enough(desk, new, reservation.cabin, len(reservation.passengers)),
        policy.difference_payable(paying.method, change.difference),
        policy.in_profile(desk, paying.method.id),
    )


def cabin(case: Case) -> Wish | None:
    """All flights of a reservation in another cabin."""
    desk = Desk(case)
    found = desk.upcoming()
    return _cabin(desk, case.rng.choice(found)) if found else None


def cabin_quote(desk: Desk, reservation: Reservation, new: str) -> int | None:
    """What a cabin costs more than was paid for a reservation's flights; None if there are no seats."""
    days = [desk.flights[flight.flight_number].dates[flight.date] for flight in reservation.flights]
    passengers = len(reservation.passengers)
    if any(d.status != "available" or d.available_seats[new] < passengers for d in days):
        return None
    return (sum(d.prices[new] for d in days) - sum(f.price for f in reservation.flights)) * passengers


def _cabin(desk: Desk, reservation: Reservation) -> Wish | None:
    rng = desk.rng
    new = rng.choice([c for c in CABINS if c != reservation.cabin])
    difference = cabin_quote(desk, reservation, new)
    allowance = len(reservation.passengers) * desk.free_bags(new)
    if not difference or reservation.total_baggages - reservation.nonfree_baggages > allowance:
        return None
    reference = refer(desk, reservation)
    paying = payments.single(desk, difference, reference.short)
    if paying is None:
        return None
    up = CABINS.index(new) > CABINS.index(reservation.cabin)
    told = price_wanted(desk, difference, reference)
    everyone = " for all passengers" if len(reservation.passengers) > 1 else ""
    verb = "upgrade" if up else "downgrade"
    return Wish(
        about="the change of cabin",
        reason=f"You want to {verb} {reference.words} to {CABIN_WORDS[new]}{everyone}, on the flights that it has.",
        facts=(*reference.facts, paying_fact(desk, paying, f"changes of {reference.short}")),
        instructions=told.instructions,
        tells=told.tells,
        calls=(
            *reference.reads,
            *(
                read("search_direct_flight", origin=f.origin, destination=f.destination, date=f.date)
                for f in reservation.flights
            ),
            write(
                "update_reservation_flights",
                reservation_id=reservation.reservation_id,
                cabin=new,
                flights=[{"flight_number": f.flight_number, "date": f.date} for f in reservation.flights],
                payment_id=paying.method.id,
            ),
        ),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.cabin_before_flight(desk, reservation),
            policy.cabin_for_all(len(reservation.flights), reservation),
            policy.difference_payable(paying.method, difference),
            policy.in_profile(desk, paying.method.id),
            policy.confirmed(True),
        ),
        entities=frozenset({reservation.reservation_id}) | paying.ids(),
        sensitive=paying.ids(),
    )


def cabin_then_flights(case: Case) -> Wish | None:
    """Basic economy is upgraded first, and its flights are changed afterwards."""
    desk, rng = Desk(case), case.rng
    basic = [r for r in desk.upcoming() if r.cabin == "basic_economy"]
    if not basic:
        return None
    reservation = rng.choice(basic)
    new = rng.choice(("economy", "economy", "business"))
    upgrade = cabin_quote(desk, reservation, new)
    if not upgrade:
        return None
    lifted = _Lifted(desk, reservation, new)
    change = move(desk, lifted)
    if change is None or not change.difference:
        return None
    reference = refer(desk, reservation)
    paying = payments.single(desk, max(upgrade, upgrade + change.difference), reference.short)
    if paying is None:
        return None
    same = [{"flight_number": f.flight_number, "date": f.date} for f in reservation.flights]
    arguments: dict[str, Any] = {
        "reservation_id": reservation.reservation_id,
        "cabin": new,
        "payment_id": paying.method.id,
    }
    return Wish(
        about="the other flights",
        reason=f"You want to change {reference.words}: {change.words}.",
        facts=(*reference.facts, paying_fact(desk, paying, f"changes of {reference.short}")),
        instructions=(
            f"If the agent says that the flights cannot be changed, ask for an upgrade to {CABIN_WORDS[new]} on the "
            "flights as they are, and only when that has been done, ask again for the other flight.",
        ),
        calls=(
            *reference.reads,
            write("update_reservation_flights", flights=same, **arguments),
            *change.choice.reads,
            write("update_reservation_flights", flights=change.flights, **arguments),
        ),
        findings=(
            *flight_findings(desk, lifted, change, paying),
            policy.cabin_before_flight(desk, reservation),
            policy.cabin_for_all(len(same), reservation),
            policy.confirmed(True),
        ),
        tried=(policy.not_basic_economy(reservation),),
        entities=frozenset({reservation.reservation_id}) | paying.ids(),
        sensitive=paying.ids(),
    )


class _Lifted:
    """A reservation as it is after a change of cabin on its flights."""

    def __init__(self, desk: Desk, reservation: Reservation, cabin: str):
        self.reservation_id, self.user_id = reservation.reservation_id, reservation.user_id
        self.origin, self.destination = reservation.origin, reservation.destination
        self.flight_type, self.cabin = reservation.flight_type, cabin
        self.flights: Sequence[BookedFlight] = [
            flight.model_copy(  # type: ignore[attr-defined]
                update={"price": desk.flights[flight.flight_number].dates[flight.date].prices[cabin]}
            )
            for flight in reservation.flights
        ]
        self.passengers, self.payment_history = reservation.passengers, reservation.payment_history
        self.created_at, self.insurance, self.status = reservation.created_at, reservation.insurance, reservation.status
        self.total_baggages, self.nonfree_baggages = reservation.total_baggages, reservation.nonfree_baggages
