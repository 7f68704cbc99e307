"""Writes that nobody asks for in an airline task: what check 8 makes beside gold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slime_tau2.factory.airline.desk import CABINS, Desk
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, write


def attempts(case: Case) -> Iterator[tuple[Call, ...]]:
    """For each reservation of the owner and one of somebody else, whatever the tools do to it; certificates."""
    desk = Desk(case)
    stranger: Reservation | None = next((r for r in desk.db.reservations.values() if r.user_id != case.owner), None)
    for reservation in (*desk.reservations, *([stranger] if stranger else ())):
        for call in _on_reservation(desk, reservation):
            yield (call,)
    for user_id in dict.fromkeys((case.owner, stranger.user_id if stranger else case.owner)):
        yield (write("send_certificate", user_id=user_id, amount=50),)


def _on_reservation(desk: Desk, reservation: Reservation) -> Iterator[Call]:
    ids: dict[str, Any] = {"reservation_id": reservation.reservation_id}
    payments = desk.db.users[reservation.user_id].payment_methods.values()
    payment_id = next((p.id for p in payments if p.source == "credit_card"), "")
    if reservation.status is None:
        yield write("cancel_reservation", **ids)
    flights = [{"flight_number": f.flight_number, "date": f.date} for f in reservation.flights]
    for cabin in CABINS:
        if cabin != reservation.cabin:
            yield write("update_reservation_flights", **ids, cabin=cabin, flights=flights, payment_id=payment_id)
    bags, nonfree = reservation.total_baggages, reservation.nonfree_baggages
    more: dict[str, Any] = {"total_baggages": bags + 1, "nonfree_baggages": nonfree + 1}
    yield write("update_reservation_baggages", **ids, **more, payment_id=payment_id)
    named = {"first_name": "Nobody", "last_name": "Known", "dob": "1990-01-01"}
    yield write("update_reservation_passengers", **ids, passengers=[named for _ in reservation.passengers])
