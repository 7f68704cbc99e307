"""The rows of airline's database, as type checkers see them. tau2's are pydantic models that are found at run time; the
Protocols name the fields that we read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Name(Protocol):
    first_name: str
    last_name: str


class Passenger(Protocol):
    first_name: str
    last_name: str
    dob: str


class PaymentMethod(Protocol):
    """`amount` only of gift cards and certificates, `brand` and `last_four` only of credit cards."""

    source: str
    id: str
    amount: float
    brand: str
    last_four: str


class User(Protocol):
    user_id: str
    name: Name
    email: str
    dob: str
    payment_methods: Mapping[str, PaymentMethod]
    saved_passengers: Sequence[Passenger]
    membership: str
    reservations: Sequence[str]


class FlightDay(Protocol):
    """`prices` and `available_seats` by cabin, only where the status is "available"."""

    status: str
    prices: Mapping[str, int]
    available_seats: Mapping[str, int]


class Flight(Protocol):
    flight_number: str
    origin: str
    destination: str
    scheduled_departure_time_est: str
    scheduled_arrival_time_est: str
    dates: Mapping[str, FlightDay]


class BookedFlight(Protocol):
    flight_number: str
    origin: str
    destination: str
    date: str
    price: int


class Payment(Protocol):
    payment_id: str
    amount: int


class Reservation(Protocol):
    reservation_id: str
    user_id: str
    origin: str
    destination: str
    flight_type: str
    cabin: str
    flights: Sequence[BookedFlight]
    passengers: Sequence[Passenger]
    payment_history: Sequence[Payment]
    created_at: str
    total_baggages: int
    nonfree_baggages: int
    insurance: str
    status: str | None
