"""Airline's rules on a write of a finished task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.book import BAG
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.case import Write
from slime_tau2.factory.rules import Finding

Flights = Sequence[Mapping[str, str]]
CHANGES = ("update_reservation_flights", "cancel_reservation")
"""What has to come before a compensation for a delay."""
DOLLARS = {"cancelled": 100, "delayed": 50}


def ruling(write: Write) -> Iterator[Finding]:
    """What the database before a write, the write and the scenario decide."""
    owner, tool, arguments = write.case.owner, write.call.name, write.call.arguments
    if owner not in write.case.db.users:
        yield policy.BOOK.rules["user_id_given"](False)
        return
    desk = Desk(write.case)
    acted_for = arguments.get("user_id", owner)
    yield policy.user_id_given(desk, acted_for if owner in write.story else "")
    if tool == "book_reservation":
        yield from _booked(desk, arguments)
        return
    if tool == "send_certificate":
        yield from _compensated(write, arguments["amount"])
        return
    reservation: Reservation = desk.db.reservations[arguments["reservation_id"]]
    yield policy.reservation_found(desk, reservation)
    if reservation.user_id != owner:
        return  # the other rules are about what the user has
    if tool == "cancel_reservation":
        yield policy.nothing_flown(desk, reservation)
        found = policy.grounds(desk, reservation, policy.INSURED_REASONS[0])  # the reason is the user's word
        yield from [finding for finding in found if finding.holds] or found
    elif tool == "update_reservation_passengers":
        yield policy.as_many_passengers(reservation, len(arguments["passengers"]))
        yield policy.passengers_known(arguments["passengers"])
    elif tool == "update_reservation_baggages":
        yield from _more_bags(desk, reservation, arguments)
    elif tool == "update_reservation_flights":
        yield from _changed(desk, reservation, arguments)


def _booked(desk: Desk, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    flights, cabin, passengers = arguments["flights"], arguments["cabin"], arguments["passengers"]
    yield policy.flights_available(desk, flights)
    yield policy.seats_enough(desk, flights, cabin, len(passengers))
    yield policy.at_most_five(len(passengers))
    yield policy.passengers_known(passengers)
    ids = [part["payment_id"] for part in arguments["payment_methods"]]
    methods = [desk.user.payment_methods[payment_id] for payment_id in ids if payment_id in desk.user.payment_methods]
    yield from (policy.in_profile(desk, payment_id) for payment_id in ids)
    yield policy.one_certificate(methods)
    yield policy.one_credit_card(methods)
    yield policy.three_gift_cards(methods)
    total, nonfree = arguments["total_baggages"], arguments["nonfree_baggages"]
    yield policy.bag_allowance(policy.Bags(total, nonfree, len(passengers), desk.user.membership, cabin))


def _more_bags(desk: Desk, reservation: Reservation, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    total, nonfree = arguments["total_baggages"], arguments["nonfree_baggages"]
    passengers = len(reservation.passengers)
    yield policy.bags_only_added(reservation.total_baggages, total)
    yield policy.bag_allowance(policy.Bags(total, nonfree, passengers, desk.user.membership, reservation.cabin))
    yield from _paid(desk, arguments["payment_id"], BAG * max(0, nonfree - reservation.nonfree_baggages))


def _changed(desk: Desk, reservation: Reservation, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    """Other flights, another cabin, or both."""
    flights, cabin = arguments["flights"], arguments["cabin"]
    before = {(flight.flight_number, flight.date): flight.price for flight in reservation.flights}
    new = [flight for flight in flights if (flight["flight_number"], flight["date"]) not in before]
    if new or len(flights) < len(before):
        yield policy.not_basic_economy(reservation)
        yield policy.same_route(reservation, *_route(desk, reservation, flights))
    if cabin != reservation.cabin:
        yield policy.cabin_before_flight(desk, reservation)
        if not new:
            yield policy.cabin_for_all(len(flights), reservation)
    priced = flights if cabin != reservation.cabin else new
    yield policy.flights_available(desk, priced)
    yield policy.seats_enough(desk, priced, cabin, len(reservation.passengers))
    prices = [desk.flights[flight["flight_number"]].dates[flight["date"]].prices[cabin] for flight in priced]
    if cabin == reservation.cabin:
        prices += [before[key] for key in map(_key, flights) if key in before]
    difference = (sum(prices) - sum(before.values())) * len(reservation.passengers)
    yield from _paid(desk, arguments["payment_id"], difference)


def _key(flight: Mapping[str, str]) -> tuple[str, str]:
    return flight["flight_number"], flight["date"]


def _route(desk: Desk, reservation: Reservation, flights: Flights) -> tuple[tuple[str, str], str]:
    """From where to where a list of flights goes, and whether there and back."""
    rows = [desk.flights[flight["flight_number"]] for flight in flights]
    first, last = rows[0].origin, rows[-1].destination
    if reservation.flight_type == "round_trip" and last == first:
        reached = {row.destination for row in rows[:-1]}
        return (first, reservation.destination if reservation.destination in reached else ""), "round_trip"
    return (first, last), "one_way"


def _paid(desk: Desk, payment_id: str, dollars: int) -> Iterator[Finding]:
    """Of what pays a difference, or takes a refund."""
    yield policy.in_profile(desk, payment_id)
    if payment_id in desk.user.payment_methods:
        yield policy.difference_payable(desk.user.payment_methods[payment_id], dollars)


def _compensated(write: Write, amount: int) -> Iterator[Finding]:
    """Of a certificate: by the reservation and the reason that fit it best, of those that the calls name."""
    desk = Desk(write.begun)
    named = {str(value) for call in write.earlier for value in call.arguments.values()}
    done = {call.arguments.get("reservation_id") for call in write.earlier if call.name in CHANGES}
    readings: list[list[Finding]] = []
    for reservation in desk.reservations:
        if reservation.reservation_id not in named:
            continue
        for reason in DOLLARS:
            findings = [
                policy.facts_confirmed(desk, reservation, reason),
                policy.certificate_amount(reservation, reason, amount),
                policy.may_be_compensated(desk, reservation),
            ]
            if reason == "delayed":
                findings.append(policy.changed_or_cancelled(reservation.reservation_id in done))
            readings.append(findings)
    if not readings:
        yield policy.BOOK.rules["facts_confirmed"](False)
        return
    yield from min(readings, key=lambda findings: (_broken(findings[:2]), _broken(findings)))


def _broken(findings: Sequence[Finding]) -> int:
    return sum(not finding.holds for finding in findings)
