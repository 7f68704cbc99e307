"""Bookings that the policy forbids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.book import Trip, facts, flight_words, plan_trip, route_words, searches
from slime_tau2.factory.airline.desk import CABINS, Desk
from slime_tau2.factory.airline.people import stranger
from slime_tau2.factory.airline.refused import refused
from slime_tau2.factory.airline.shapes import PaymentMethod
from slime_tau2.factory.airline.words import (
    CABIN_WORDS,
    count,
    day,
    place,
)
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Told, Wish, read
from slime_tau2.factory.rules import Finding
from slime_tau2.factory.stories import remembered


def too_many(case: Case) -> Wish | None:
    """More than five passengers in one booking."""
    desk, rng = Desk(case), case.rng
    trip = plan_trip(desk, rng.choice(CABINS))
    if trip is None:
        return None
    number = rng.randint(6, 9)
    return refused(
        desk,
        f"You want to book a trip {route_words(desk, trip)}, for {count(number, 'passenger')} in one and the same "
        "booking.",
        topic=f"{number} {route_words(desk, trip)}",
        title="the booking",
        findings=(policy.at_most_five(number),),
        knows=_wanted(desk, flight_words(trip.choices), f"The new trip is to be in {CABIN_WORDS[trip.cabin]}."),
    )


def foreign_card(case: Case) -> Wish | None:
    """A card that is not in the profile pays for a booking."""
    desk, rng = Desk(case), case.rng
    trip = plan_trip(desk, rng.choice(CABINS))
    if trip is None:
        return None
    brand, digits = rng.choice(("Visa", "Mastercard")), rng.randint(1000, 9999)
    if any(m.source == "credit_card" and m.last_four == str(digits) for m in desk.user.payment_methods.values()):
        return None
    owner = rng.choice(("your new", "your sister's", "your employer's", "a friend's"))
    paying = (
        f"You want to pay with {owner} {brand} ending in {digits}, which is not in your profile, and with nothing else."
    )
    finding = policy.in_profile(desk, f"credit_card_{digits}")
    return _booking(desk, trip, [finding], paying=paying, what=str(digits))


def today(case: Case) -> Wish | None:
    """A flight of today, none of which can be booked any more."""
    desk, rng = Desk(case), case.rng
    late = [f for f in desk.flights.values() if f.scheduled_departure_time_est > desk.now[11:]]
    routes = sorted({(f.origin, f.destination) for f in late})
    if not routes or any(f.dates[desk.today].status == "available" for f in late if desk.today in f.dates):
        return None
    origin, destination = rng.choice(routes)
    cabin = rng.choice(CABINS)
    search = [
        read(f"search_{kind}_flight", origin=origin, destination=destination, date=desk.today)
        for kind in ("direct", "onestop")
    ]
    flights = [{"flight_number": f.flight_number, "date": desk.today} for f in late][:1]
    return refused(
        desk,
        f"You want to book a flight from {place(desk, origin)} to {place(desk, destination)} for today, "
        f"{day(desk.today)}, for yourself alone; tomorrow would be too late for you.",
        topic=f"{origin} {destination} {cabin}",
        title="the booking",
        findings=(policy.flights_available(desk, flights),),
        calls=search,
        knows=_wanted(desk, "Any flight of today will do.", f"The new trip is to be in {CABIN_WORDS[cabin]}."),
    )


def two_cabins(case: Case) -> Wish | None:
    """One cabin on the way there, another on the way back, in one booking."""
    desk, rng = Desk(case), case.rng
    there, back = rng.sample(CABINS, 2)
    trip = plan_trip(desk, there)
    if trip is None or len(trip.dates) < 2:
        return None
    words = f"You fly {CABIN_WORDS[there]} on the way there and {CABIN_WORDS[back]} on the way back, in one booking."
    return refused(
        desk,
        f"You want to book a round trip {route_words(desk, trip)}, for {count(len(trip.people), 'passenger')}.",
        topic=f"{there} {back} {route_words(desk, trip)}",
        title="the booking",
        findings=(policy.one_cabin([there, back]),),
        calls=searches(trip),
        knows=_wanted(desk, "You want the cheapest direct flights for the new trip.", words),
    )


def _wanted(desk: Desk, flights: str, cabin: str) -> tuple[Fact, ...]:
    return (
        remembered(desk.rng, Fact("the flights that you want to book", flights)),
        remembered(desk.rng, Fact("the cabin of the new trip", cabin)),
    )


def two_certificates(case: Case) -> Wish | None:
    """Two certificates are to pay for a booking."""
    return _several(
        case, "certificate", 2, "two travel certificates together, each of them used up", policy.one_certificate
    )


def two_credit_cards(case: Case) -> Wish | None:
    """Two credit cards are to pay for a booking."""
    return _several(case, "credit_card", 2, "two credit cards together, half on each", policy.one_credit_card)


def four_gift_cards(case: Case) -> Wish | None:
    """Four gift cards are to pay for a booking."""
    return _several(case, "gift_card", 4, "four gift cards together, each of them used up", policy.three_gift_cards)


def _several(
    case: Case, source: str, number: int, words: str, rule: Callable[[Sequence[PaymentMethod]], Finding]
) -> Wish | None:
    """More methods of one kind are to pay for a booking than the policy allows."""
    desk, rng = Desk(case), case.rng
    methods = desk.methods(source)[:number]
    trip = plan_trip(desk, rng.choice(CABINS)) if len(methods) == number else None
    if trip is None or (source != "credit_card" and trip.total(desk) <= sum(int(m.amount) for m in methods)):
        return None
    rest = "" if source == "credit_card" else ", and what remains with whatever the agent proposes"
    sentence = f"You want to pay for the new trip with {words}{rest}. With fewer, you do not book."
    return _booking(desk, trip, [rule(methods)], paying=sentence, what=source)


def no_seats(case: Case) -> Wish | None:
    """A flight that has not seats enough in the cabin that the user wants."""
    desk, rng = Desk(case), case.rng
    flights, date, cabin = list(desk.flights.values()), rng.choice(desk.open_dates()), rng.choice(CABINS)
    full = [f for f in flights if f.dates[date].available_seats[cabin] < 5]
    if not full:
        return None
    flight = rng.choice(full)
    number = flight.dates[date].available_seats[cabin] + 1
    route = f"from {place(desk, flight.origin)} to {place(desk, flight.destination)} on {day(date)}"
    wanted = [{"flight_number": flight.flight_number, "date": date}]
    return refused(
        desk,
        f"You want to book a one-way trip {route}, for {count(number, 'passenger')}.",
        topic=f"{wanted} {cabin}",
        title="the booking",
        findings=(policy.seats_enough(desk, wanted, cabin, number),),
        calls=(read("search_direct_flight", origin=flight.origin, destination=flight.destination, date=date),),
        knows=_wanted(
            desk,
            f"For the new trip, you want flight {flight.flight_number}, and no other.",
            f"The new trip is to be in {CABIN_WORDS[cabin]}; another cabin will not do.",
        ),
    )


def no_birth_date(case: Case) -> Wish | None:
    """A passenger whose date of birth nobody knows."""
    desk, rng = Desk(case), case.rng
    trip = plan_trip(desk, rng.choice(CABINS))
    if trip is None:
        return None
    person = stranger(desk)
    wish = refused(
        desk,
        f"You want to book a trip {route_words(desk, trip)}, for {person.name} alone.",
        topic=f"{route_words(desk, trip)} {person.name}",
        title="the booking",
        findings=(policy.passengers_known([{**person.argument(), "dob": ""}]),),
        calls=searches(trip),
        knows=(
            *_wanted(desk, flight_words(trip.choices), f"The new trip is to be in {CABIN_WORDS[trip.cabin]}."),
            Fact(f"the date of birth of {person.name}", "", Told.FORGOTTEN),
        ),
    )
    call_back = "You cannot find out the date of birth today. If it is needed, you will call again another day."
    return replace(wish, instructions=(call_back,))


def _booking(desk: Desk, trip: Trip, findings: Sequence[Finding], *, paying: str, what: str) -> Wish:
    """A booking that fails because of how it is to be paid."""
    return refused(
        desk,
        f"You want to book a trip {route_words(desk, trip)}, for {count(len(trip.people), 'passenger')}.",
        topic=f"{what} {route_words(desk, trip)}",
        title="the booking",
        findings=findings,
        calls=searches(trip),
        knows=facts(desk, trip, f"The new trip is to be in {CABIN_WORDS[trip.cabin]}.", paying),
    )
