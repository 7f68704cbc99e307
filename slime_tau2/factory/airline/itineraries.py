"""Ways to fly from one airport to another on a day, and choices among them that leave no doubt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Flight
from slime_tau2.factory.airline.words import CABIN_WORDS, clock_time
from slime_tau2.factory.draft import Call, read

CONNECTION = timedelta(minutes=45)


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One flight on its day, as the search tools show it.

    Attributes:
        price: dollars for one passenger in the cabin that was searched for.
        departure: local time, "06:00:00".
        arrival: the same, with "+1" if on the next day.
    """

    number: str
    date: str
    price: int
    departure: str
    arrival: str

    def argument(self) -> dict[str, str]:
        """As the tools take it."""
        return {"flight_number": self.number, "date": self.date}


Option = tuple[Leg, ...]


@dataclass(frozen=True)
class Choice:
    """An option, the words that choose it and no other, and the gold calls that find it.

    Attributes:
        words: "the cheapest direct flight".
    """

    option: Option
    words: str
    reads: tuple[Call, ...]


def cost(option: Option) -> int:
    """Dollars for one passenger."""
    return sum(leg.price for leg in option)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What the user needs a flight for. `cabin` and `passengers` decide which flights have seats."""

    origin: str
    destination: str
    date: str
    cabin: str
    passengers: int

    def search(self, kind: str) -> Call:
        """The gold call."""
        return read(f"search_{kind}_flight", origin=self.origin, destination=self.destination, date=self.date)


def direct(desk: Desk, query: Query) -> list[Option]:
    """All direct flights, with or without seats."""
    return [
        (_leg(f, query.date, query.cabin),)
        for f in desk.flights.values()
        if (f.origin, f.destination) == (query.origin, query.destination)
        and query.date in f.dates
        and f.dates[query.date].status == "available"
    ]


def onestop(desk: Desk, query: Query) -> list[Option]:
    """All ways with one stop that the search tool shows, with or without seats."""
    tools: Any = desk.case.environment.tools
    pairs = tools.search_onestop_flight(query.origin, query.destination, query.date)
    return [tuple(_leg(desk.flights[found.flight_number], found.date, query.cabin) for found in pair) for pair in pairs]


def _leg(flight: Flight, date: str, cabin: str) -> Leg:
    return Leg(
        number=flight.flight_number,
        date=date,
        price=flight.dates[date].prices[cabin],
        departure=flight.scheduled_departure_time_est,
        arrival=flight.scheduled_arrival_time_est,
    )


def seats(desk: Desk, option: Option, query: Query) -> bool:
    """Whether every flight has seats for all."""
    days = [desk.flights[leg.number].dates[leg.date] for leg in option]
    return all(day.available_seats[query.cabin] >= query.passengers for day in days)


def choose(desk: Desk, query: Query) -> Choice | None:
    """One of the ways to fly, by a wish that only it fulfils; None where no wish does."""
    makers = [cheapest_direct, cheapest_direct, by_time, by_time, cheapest_onestop, by_number, cheapest_of_all]
    desk.rng.shuffle(makers)
    for maker in makers[:3]:
        choice = maker(desk, query)
        if choice is not None:
            return choice
    return None


def cheapest_direct(desk: Desk, query: Query) -> Choice | None:
    best = _cheapest(desk, query, direct(desk, query))
    words = f"the cheapest direct flight in {CABIN_WORDS[query.cabin]}"
    return Choice(best, words, (query.search("direct"),)) if best else None


def cheapest_onestop(desk: Desk, query: Query) -> Choice | None:
    best = _cheapest(desk, query, onestop(desk, query))
    if best is None or not _connects(best):
        return None
    if not direct(desk, query):
        words = "the cheapest connection with one stop, as there is no direct flight"
        return Choice(best, words, (query.search("direct"), query.search("onestop")))
    words = "the cheapest connection with exactly one stop"
    return Choice(best, words, (query.search("onestop"),))


def cheapest_of_all(desk: Desk, query: Query) -> Choice | None:
    best = _cheapest(desk, query, [*direct(desk, query), *onestop(desk, query)])
    if best is None or (len(best) > 1 and not _connects(best)):
        return None
    words = "whatever is cheapest, direct or with one stop"
    return Choice(best, words, (query.search("direct"), query.search("onestop")))


def by_time(desk: Desk, query: Query) -> Choice | None:
    """The earliest, the latest or the only one of a part of the day."""
    flights = sorted(direct(desk, query), key=lambda option: option[0].departure)
    bookable = [option for option in flights if seats(desk, option, query)]
    if not bookable:
        return None
    times = [option[0].departure for option in flights]
    if len(flights) == 1:
        return Choice(flights[0], "the only direct flight of the day", (query.search("direct"),))
    wishes: list[tuple[str, Callable[[Sequence[Option]], Option | None]]] = [
        ("the direct flight that leaves earliest in the day", lambda options: options[0]),
        ("the last direct flight of the day", lambda options: options[-1]),
        ("a direct flight that leaves before noon", lambda options: _only(o for o in options if _hour(o) < 12)),
        ("a direct flight that leaves after 3 pm", lambda options: _only(o for o in options if _hour(o) > 15)),
    ]
    words, pick = desk.rng.choice(wishes)
    option = pick(flights)
    if option is None or option not in bookable or times.count(option[0].departure) > 1:
        return None
    return Choice(option, words, (query.search("direct"),))


def by_number(desk: Desk, query: Query) -> Choice | None:
    """The user has looked the flight up."""
    bookable = [option for option in direct(desk, query) if seats(desk, option, query)]
    if not bookable:
        return None
    option = desk.rng.choice(bookable)
    departures = [other[0].departure for other in direct(desk, query)]
    if departures.count(option[0].departure) == 1 and desk.rng.random() < 0.6:
        words = f"the direct flight that leaves at {clock_time(option[0].departure)}"
    else:
        words = f"flight {option[0].number}"
    return Choice(option, words, (query.search("direct"),))


def _cheapest(desk: Desk, query: Query, options: Sequence[Option]) -> Option | None:
    """The one that costs least; None if two do."""
    bookable = sorted((option for option in options if seats(desk, option, query)), key=cost)
    if not bookable or (len(bookable) > 1 and cost(bookable[0]) == cost(bookable[1])):
        return None
    return bookable[0]


def _only(options: Iterable[Option]) -> Option | None:
    found = list(options)
    return found[0] if len(found) == 1 else None


def _hour(option: Option) -> float:
    departure = option[0].departure
    return int(departure[:2]) + int(departure[3:5]) / 60


def _connects(option: Option) -> bool:
    """Whether there is time to change planes."""
    first, second = option
    return _moment(second.date, second.departure) - _moment(first.date, first.arrival) >= CONNECTION


def _moment(date: str, time: str) -> datetime:
    late = timedelta(days=1) if time.endswith("+1") else timedelta()
    return datetime.fromisoformat(f"{date}T{time[:8]}") + late
