"""Airline's policy as named predicates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from slime_tau2.factory.airline.desk import Desk, free_bags
from slime_tau2.factory.airline.shapes import PaymentMethod, Reservation
from slime_tau2.factory.rules import Finding, Rulebook

BOOK = Rulebook()
rule = BOOK.rule

GENERAL, BOOKING, MODIFYING = "Airline agent policy", "Book flight", "Modify flight"
CANCELLING, COMPENSATING = "Cancel flight", "Refunds and compensation"
INSURED_REASONS = ("health", "weather")


class Bags(NamedTuple):
    """The checked bags of a reservation, and what its allowance goes by."""

    total: int
    nonfree: int
    passengers: int
    membership: str
    cabin: str


@rule(GENERAL, "the user says who they are by their user id")
def user_id_given(desk: Desk, user_id: str) -> bool:
    return user_id == desk.user.user_id


@rule(GENERAL, "a write is listed in detail and agreed to before it is made")
def confirmed(agrees: bool) -> bool:
    return agrees


@rule(GENERAL, "what the user asks can be answered from the tools and the policy")
def information(known: bool) -> bool:
    return known


@rule(GENERAL, "the agent's actions cover what the user asks; else the user is handed over to a person")
def in_scope(covered: bool) -> bool:
    return covered


@rule(BOOKING, "only a flight whose status on its day is available can be booked")
def flights_available(desk: Desk, flights: Sequence[Mapping[str, str]]) -> bool:
    return all(desk.flights[f["flight_number"]].dates[f["date"]].status == "available" for f in flights)


@rule(BOOKING, "there is a seat in the cabin for each passenger")
def seats_enough(desk: Desk, flights: Sequence[Mapping[str, str]], cabin: str, passengers: int) -> bool:
    days = [desk.flights[f["flight_number"]].dates[f["date"]] for f in flights]
    return all(day.status == "available" and day.available_seats[cabin] >= passengers for day in days)


@rule(BOOKING, "all flights of a reservation are in one cabin")
def one_cabin(cabins: Collection[str]) -> bool:
    return len(set(cabins)) == 1


@rule(BOOKING, "a reservation has at most five passengers")
def at_most_five(passengers: int) -> bool:
    return passengers <= 5


@rule(BOOKING, "each passenger's first name, last name and date of birth are known")
def passengers_known(passengers: Sequence[Mapping[str, str]]) -> bool:
    return all(p["first_name"] and p["last_name"] and p["dob"] for p in passengers)


@rule(BOOKING, "at most one travel certificate pays for a reservation")
def one_certificate(methods: Sequence[PaymentMethod]) -> bool:
    return sum(method.source == "certificate" for method in methods) <= 1


@rule(BOOKING, "at most one credit card pays for a reservation")
def one_credit_card(methods: Sequence[PaymentMethod]) -> bool:
    return sum(method.source == "credit_card" for method in methods) <= 1


@rule(BOOKING, "at most three gift cards pay for a reservation")
def three_gift_cards(methods: Sequence[PaymentMethod]) -> bool:
    return sum(method.source == "gift_card" for method in methods) <= 3


@rule(BOOKING, "whatever pays is in the user's profile already")
def in_profile(desk: Desk, payment_id: str) -> bool:
    return payment_id in desk.user.payment_methods


@rule(BOOKING, "bags beyond the allowance of membership and cabin are paid, and no others")
def bag_allowance(bags: Bags) -> bool:
    return bags.nonfree == max(0, bags.total - bags.passengers * free_bags(bags.membership, bags.cabin))


@rule(BOOKING, "no bags are added that the user does not need")
def bags_as_wished(bags: int, wished: int) -> bool:
    return bags == wished


@rule(BOOKING, "insurance is offered, and bought if the user wants it")
def insurance_as_wished(insurance: str, wished: bool) -> bool:
    return (insurance == "yes") == wished


@rule(MODIFYING, "the reservation is known by its number, or the agent finds it in the user's profile")
def reservation_found(desk: Desk, reservation: Reservation) -> bool:
    return reservation.reservation_id in desk.user.reservations


@rule(MODIFYING, "the flights of a basic economy reservation cannot be changed")
def not_basic_economy(reservation: Reservation) -> bool:
    return reservation.cabin != "basic_economy"


@rule(MODIFYING, "origin, destination and trip type stay when flights change")
def same_route(reservation: Reservation, route: tuple[str, str], flight_type: str) -> bool:
    return (reservation.origin, reservation.destination) == route and reservation.flight_type == flight_type


@rule(MODIFYING, "the cabin can only change while no flight of the reservation has been flown")
def cabin_before_flight(desk: Desk, reservation: Reservation) -> bool:
    return not desk.flown(reservation)


@rule(MODIFYING, "the cabin changes for all flights of a reservation, and for all passengers")
def cabin_for_all(flights: int, reservation: Reservation) -> bool:
    return flights == len(reservation.flights)


@rule(MODIFYING, "the difference in price is paid or refunded by one gift card or one credit card of the profile")
def difference_payable(method: PaymentMethod, difference: int) -> bool:
    return method.source == "credit_card" or (method.source == "gift_card" and method.amount >= difference)


@rule(MODIFYING, "bags can be added, never removed")
def bags_only_added(before: int, after: int) -> bool:
    return after >= before


@rule(MODIFYING, "insurance cannot be added after the booking")
def insurance_at_booking(wants_insurance: bool) -> bool:
    return not wants_insurance


@rule(MODIFYING, "the number of passengers cannot change")
def as_many_passengers(reservation: Reservation, passengers: int) -> bool:
    return passengers == len(reservation.passengers)


@rule(CANCELLING, "nothing of the reservation has been flown; else the user is handed over to a person")
def nothing_flown(desk: Desk, reservation: Reservation) -> bool:
    return not desk.flown(reservation)


@rule(CANCELLING, "ground: it was booked within the last 24 hours")
def booked_within_a_day(desk: Desk, reservation: Reservation) -> bool:
    return desk.recent(reservation)


@rule(CANCELLING, "ground: the airline cancelled a flight of it")
def cancelled_by_airline(desk: Desk, reservation: Reservation) -> bool:
    return "cancelled" in desk.statuses(reservation)


@rule(CANCELLING, "ground: it is a business reservation")
def is_business(reservation: Reservation) -> bool:
    return reservation.cabin == "business"


@rule(CANCELLING, "ground: it is insured and the reason is health or weather")
def insured_reason(reservation: Reservation, reason: str) -> bool:
    return reservation.insurance == "yes" and reason in INSURED_REASONS


@rule(COMPENSATING, "only silver and gold members, the insured and business passengers are compensated")
def may_be_compensated(desk: Desk, reservation: Reservation) -> bool:
    return desk.user.membership != "regular" or reservation.insurance == "yes" or reservation.cabin == "business"


@rule(COMPENSATING, "the facts are as the user says")
def facts_confirmed(desk: Desk, reservation: Reservation, status: str) -> bool:
    return status in desk.statuses(reservation)


@rule(COMPENSATING, "only cancelled and delayed flights are compensated")
def compensated_reason(reason: str) -> bool:
    return reason in ("cancelled", "delayed")


@rule(COMPENSATING, "a delay is compensated once the reservation has been changed or cancelled")
def changed_or_cancelled(done: bool) -> bool:
    return done


@rule(COMPENSATING, "a certificate is for 100 dollars a passenger if a flight was cancelled, 50 if it was delayed")
def certificate_amount(reservation: Reservation, reason: str, amount: int) -> bool:
    return amount == {"cancelled": 100, "delayed": 50}[reason] * len(reservation.passengers)


@rule(COMPENSATING, "no compensation unless the user asks for one")
def asked_for(asks: bool) -> bool:
    return asks


def grounds(desk: Desk, reservation: Reservation, reason: str) -> list[Finding]:
    """What was found of each ground on which a reservation can be cancelled."""
    return [
        booked_within_a_day(desk, reservation),
        cancelled_by_airline(desk, reservation),
        is_business(reservation),
        insured_reason(reservation, reason),
    ]
