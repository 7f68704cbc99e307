"""How a passenger speaks of places, days, money and trips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Date
from typing import TYPE_CHECKING, Any

from slime_tau2.factory.airline.desk import Desk, halves
from slime_tau2.factory.airline.shapes import BookedFlight, PaymentMethod, Reservation
from slime_tau2.factory.draft import Call, Fact, Told, read
from slime_tau2.factory.stories import remembered

if TYPE_CHECKING:
    from slime_tau2.factory.case import Case

MONTHS = ("January February March April May June July August September October November December").split()
CABIN_WORDS = {"basic_economy": "basic economy", "economy": "economy", "business": "business"}
AROUND_NEW_YORK = ("JFK", "LGA", "EWR")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def cities(case: Case) -> dict[str, str]:
    """{airport: city}, as the agent can look them up."""
    tools: Any = case.environment.tools
    return {airport.iata: airport.city for airport in tools.list_all_airports()}


def place(desk: Desk, airport: str) -> str:
    """A city with its airport: some cities have several."""
    return f"{cities(desk.case)[airport]} ({airport})"


def plain(desk: Desk, airport: str) -> str | None:
    """A city by its name alone, for which the agent finds the airport; None where several airports may be meant."""
    return None if airport in AROUND_NEW_YORK else cities(desk.case)[airport]


def day(date: str) -> str:
    """ "May 20"."""
    parsed = Date.fromisoformat(date)
    return f"{MONTHS[parsed.month - 1]} {parsed.day}"


def clock_time(time: str) -> str:
    """ "6 am", of "06:00:00"."""
    hour, minute = int(time[:2]), time[3:5]
    half = "am" if hour < 12 else "pm"
    return f"{hour % 12 or 12}{'' if minute == '00' else ':' + minute} {half}"


def count(number: int, noun: str) -> str:
    """ "one bag", "three bags"."""
    word = NUMBERS[number] if number < len(NUMBERS) else str(number)
    return f"{word} {noun}{'' if number == 1 else 's'}"


def method_words(desk: Desk, method: PaymentMethod) -> str:
    """A payment method as only it can be meant among the user's."""
    if method.source == "credit_card":
        return f"your {method.brand.title()} credit card ending in {method.last_four}"
    kind = {"gift_card": "gift card", "certificate": "travel certificate"}[method.source]
    alike = [m for m in desk.user.payment_methods.values() if m.source == method.source]
    if len(alike) == 1 and not desk.case.wishes and desk.rng.random() < 0.6:
        return f"your {kind}"
    same = [m for m in alike if int(m.amount) == int(method.amount)]
    if len(same) == 1 and not desk.case.wishes:  # an earlier wish may change what is on it
        return f"your {kind} with {int(method.amount)} dollars on it"
    return f"your {kind} number {method.id.rsplit('_', 1)[-1]}"


def distinct_methods(desk: Desk, methods: Sequence[PaymentMethod]) -> list[PaymentMethod]:
    """Those that words can tell apart: no two credit cards of one brand that end alike."""
    names = [(m.brand, m.last_four) for m in desk.user.payment_methods.values() if m.source == "credit_card"]
    return [m for m in methods if m.source != "credit_card" or names.count((m.brand, m.last_four)) == 1]


@dataclass(frozen=True)
class Reference:
    """How the user speaks of a reservation.

    Attributes:
        words: "your trip from … to … on May 20".
        short: "your trip to …", where that is enough among the user's trips.
        facts: the reservation number, known or forgotten.
        reads: the gold calls that find it.
    """

    words: str
    short: str
    facts: tuple[Fact, ...]
    reads: tuple[Call, ...]


def refer(desk: Desk, reservation: Reservation) -> Reference:
    """A reservation by route and day; its number may be forgotten if no other trip has that route and day."""
    words, short = trip(desk, reservation), short_trip(desk, reservation)
    alike = [r for r in desk.reservations if trip_key(r) == trip_key(reservation)]
    number = Fact(
        f"the reservation number of {short}",
        f"The reservation number of {short} is {reservation.reservation_id}.",
    )
    fact = remembered(desk.rng, number, forget=0.3 if len(alike) == 1 else 0.0)
    return Reference(words, short, (fact,), find(desk, reservation, known=fact.told is not Told.FORGOTTEN))


def find(desk: Desk, reservation: Reservation, *, known: bool) -> tuple[Call, ...]:
    """The gold calls that find a reservation: all of the user's up to it if its number is not known."""
    numbers = [r.reservation_id for r in desk.reservations]
    if known:
        numbers = [reservation.reservation_id]
    else:
        numbers = numbers[: numbers.index(reservation.reservation_id) + 1]
    return tuple(read("get_reservation_details", reservation_id=number) for number in numbers)


def trip_key(reservation: Reservation) -> tuple[str, str, str]:
    """What the words of a trip tell."""
    return reservation.origin, reservation.destination, reservation.flights[0].date


def trip(desk: Desk, reservation: Reservation) -> str:
    """ "your round trip from … to … on May 20"."""
    kind = "round trip" if reservation.flight_type == "round_trip" else "trip"
    route = f"from {place(desk, reservation.origin)} to {place(desk, reservation.destination)}"
    return f"your {kind} {route} on {day(reservation.flights[0].date)}"


def short_trip(desk: Desk, reservation: Reservation) -> str:
    """ "your trip to …", with the day if the user has another trip there, or in full."""
    alike = [r for r in desk.reservations if r.destination == reservation.destination]
    words = f"your trip to {place(desk, reservation.destination)}"
    if len(alike) == 1:
        return words
    first = reservation.flights[0].date
    on_the_day = [r for r in alike if r.flights[0].date == first]
    return f"{words} on {day(first)}" if len(on_the_day) == 1 else trip(desk, reservation)


def half_words(desk: Desk, reservation: Reservation, flights: Sequence[BookedFlight]) -> str:
    """ "the outbound flight", or what there is of it."""
    kind = "flight" if len(flights) == 1 else "flights"
    if reservation.flight_type == "one_way":
        return f"present {kind}"
    return f"{'outbound' if list(flights) == halves(reservation)[0] else 'return'} {kind}"
