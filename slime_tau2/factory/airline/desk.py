"""Airline's database as a case has it now, from its owner's side. Nothing here writes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from slime_tau2.factory.airline.shapes import BookedFlight, Flight, PaymentMethod, Reservation, User
from slime_tau2.factory.case import Case

if TYPE_CHECKING:
    from slime_tau2.episode.environments import Environments
    from slime_tau2.episode.world import World

CABINS = ("basic_economy", "economy", "business")
FLOWN = ("landed", "flying")


class Desk:
    """What an agent can look up for the user of a case.

    Attributes:
        flights: all flights by number. Rows are shared with the database: to be read only.
        now: the policy's current time, in ISO 8601.
    """

    def __init__(self, case: Case):
        self.case, self.rng = case, case.rng
        self.db = case.db
        self.now = current_time(case.world.policy)
        self.user: User = self.db.users[case.owner]
        booked: list[Reservation] = [self.db.reservations[number] for number in self.user.reservations]
        self.reservations = [r for r in booked if r.created_at < self.now]

    @cached_property
    def flights(self) -> dict[str, Flight]:
        return {f.flight_number: f for f in self.db.flights.values()}

    @property
    def today(self) -> str:
        return self.now[:10]

    def open_dates(self) -> list[str]:
        """All dates on which flights can be booked, sorted."""
        known = _open_dates_of_shared(self.case.world.environments)
        return sorted(set().union(*(known.get(id(f)) or _open_dates(f) for f in self.flights.values())))

    def status(self, flight: BookedFlight) -> str:
        """The status of a flight of a reservation on its day."""
        day = self.flights[flight.flight_number].dates.get(flight.date)
        return day.status if day else "unknown"

    def statuses(self, reservation: Reservation) -> list[str]:
        """The statuses of a reservation's flights."""
        return [self.status(flight) for flight in reservation.flights]

    def flown(self, reservation: Reservation) -> bool:
        """Whether any part of a reservation has taken off."""
        return any(status in FLOWN for status in self.statuses(reservation))

    def upcoming(self) -> list[Reservation]:
        """Reservations of which no flight has a status but "available", and of which no earlier wish is."""
        return [r for r in self.untouched() if set(self.statuses(r)) == {"available"}]

    def untouched(self) -> list[Reservation]:
        """Reservations that are not cancelled and of which no earlier wish is; none that leads where it starts."""
        found = [r for r in self.reservations if r.status is None and r.origin != r.destination]
        return [r for r in found if not self.case.touched(r.reservation_id)]

    def recent(self, reservation: Reservation) -> bool:
        """Whether a reservation was made within the last 24 hours."""
        return datetime.fromisoformat(self.now) - datetime.fromisoformat(reservation.created_at) <= timedelta(hours=24)

    def methods(self, *sources: str) -> list[PaymentMethod]:
        """The user's payment methods of some sources, without empty cards and what has just been given."""
        base: Any = self.case.world.environments.base.tools
        before = base.db.users[self.case.owner].payment_methods
        methods = [m for m in self.user.payment_methods.values() if m.source in sources and m.id in before]
        return [m for m in methods if m.source == "credit_card" or m.amount >= 1]

    def free_bags(self, cabin: str) -> int:
        """How many checked bags each passenger has free."""
        return free_bags(self.user.membership, cabin)


def _open_dates(flight: Flight) -> frozenset[str]:
    return frozenset(date for date, day in flight.dates.items() if day.status == "available")


@lru_cache(maxsize=8)
def _open_dates_of_shared(environments: Environments) -> dict[int, frozenset[str]]:
    """{id of a row: its open dates} of the flights that all cases share, so that their 9,000 days are read once."""
    base: Any = environments.base.tools
    return {id(flight): _open_dates(flight) for flight in base.db.flights.values()}


def free_bags(membership: str, cabin: str) -> int:
    """How many checked bags each passenger of a member's booking has free."""
    return CABINS.index(cabin) + {"regular": 0, "silver": 1, "gold": 2}[membership]


def paid(reservation: Reservation) -> int:
    """What a reservation cost so far, in dollars."""
    return sum(payment.amount for payment in reservation.payment_history)


def halves(reservation: Reservation) -> tuple[list[BookedFlight], list[BookedFlight]]:
    """The flights to the destination, and those back."""
    flights = list(reservation.flights)
    if reservation.flight_type == "one_way":
        return flights, []
    for number, flight in enumerate(flights, start=1):
        if flight.destination == reservation.destination:
            return flights[:number], flights[number:]
    return flights, []


@lru_cache(maxsize=8)
def current_time(policy: str) -> str:
    """The time that the policy says it is, in ISO 8601 without a zone."""
    found = re.search(r"current time is (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)", policy)
    assert found, "airline's policy says what time it is"
    return f"{found[1]}T{found[2]}"


def owners(world: World) -> list[str]:
    """Users of whom no test or val task speaks, sorted."""
    db: Any = world.environments.base.tools.db
    taken: set[str] = set()
    for split in ("test", "val"):
        for task_id in world.splits.get(split, ()):
            text = world.task(task_id).model_dump_json()
            words = set(re.findall(r"\w+", text))
            taken |= {db.reservations[word].user_id for word in words if word in db.reservations}
            taken |= words & set(db.users)
            taken |= {user.user_id for user in db.users.values() if user.email in text}
            taken |= {user.user_id for user in db.users.values() if words & set(user.payment_methods)}
    return sorted(user for user in db.users if user not in taken)
