"""Tasks of tau2's airline domain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from slime_tau2.factory.airline import bags, book, cancel, change, compensate, passengers, policy, questions, transfers
from slime_tau2.factory.airline import refused_bookings as bookings
from slime_tau2.factory.airline import refused_changes as changes
from slime_tau2.factory.airline import refused_requests as requests
from slime_tau2.factory.airline.attempts import attempts
from slime_tau2.factory.airline.desk import owners
from slime_tau2.factory.airline.identity import identity
from slime_tau2.factory.airline.rulings import ruling
from slime_tau2.factory.case import Factory, Family

DONE = {
    "book": book.book,
    "book_budget": book.book_budget,
    "book_one_certificate": book.book_one_certificate,
    "change_flights": change.flights,
    "change_cabin": change.cabin,
    "cabin_then_flights": change.cabin_then_flights,
    "cancel_else_flights": change.cancel_else_flights,
    "change_passengers": passengers.passengers,
    "add_bags": bags.bags,
    "cancel_recent": cancel.recent,
    "cancel_airline_cancelled": cancel.airline_cancelled,
    "cancel_business": cancel.business,
    "cancel_insured": cancel.insured,
    "cancel_every": cancel.every,
    "compensate_cancelled": compensate.cancelled,
    "compensate_delayed_cancelled": compensate.delayed_cancelled,
    "compensate_delayed_changed": compensate.delayed_changed,
}
TOO = {
    "cancel": cancel.too,
    "passengers_too": passengers.passengers_too,
    "bags_too": bags.bags_too,
}
"""Families that stand only beside others."""
QUESTIONS = {
    "fare": questions.fare,
    "flight_number": questions.flight_number,
    "trip_cost": questions.trip_cost,
    "coming_cost": questions.coming_cost,
    "bag_fee": questions.bag_fee,
    "cabin_price": questions.cabin_price,
    "balance": questions.balance,
    "status": questions.status,
}
REFUSED = {
    "too_many": bookings.too_many,
    "foreign_card": bookings.foreign_card,
    "two_certificates": bookings.two_certificates,
    "two_credit_cards": bookings.two_credit_cards,
    "four_gift_cards": bookings.four_gift_cards,
    "no_seats": bookings.no_seats,
    "no_birth_date": bookings.no_birth_date,
    "today": bookings.today,
    "two_cabins": bookings.two_cabins,
    "basic_economy": changes.basic_economy,
    "other_route": changes.other_route,
    "other_type": changes.other_type,
    "certificate_for_change": changes.certificate_for_change,
    "one_flight_up": changes.one_flight_up,
    "one_passenger_up": changes.one_passenger_up,
    "cabin_flown": changes.cabin_flown,
    "fewer_bags": changes.fewer_bags,
    "late_insurance": changes.late_insurance,
    "more_passengers": changes.more_passengers,
    "fewer_passengers": changes.fewer_passengers,
    "no_ground": requests.no_ground,
    "no_insurance": requests.no_insurance,
    "not_entitled": requests.not_entitled,
    "only_late": requests.only_late,
    "not_true": requests.not_true,
    "other_complaint": requests.other_complaint,
    "complaint_only": requests.complaint_only,
    "kept": requests.kept,
    "withdrawn": changes.withdrawn,
}
TRANSFERRED = {"flown": transfers.flown, "service": transfers.service, "profile": transfers.profile}

PAID_WRONG = ("foreign_card", "two_certificates", "two_credit_cards", "four_gift_cards")
NEW_TRIP = ("too_many", *PAID_WRONG, "no_seats", "no_birth_date", "today", "two_cabins")
"""Refusals about a booking, which would be confused with another booking."""

SINGLE, PAIR, ASKING, REFUSING, SAME_TRIP, TRIPLE = 42.0, 20.0, 14.0, 11.0, 8.0, 6.0
"""How many tasks in a hundred of those with something to do are one wish; two; a question, or a wish and a question; a
wish and a refusal; two wishes for one trip; three wishes.
"""
WEIGHT = {
    "book": 7.0,
    "book_budget": 1.5,
    "change_flights": 5.0,
    "change_cabin": 4.0,
    "cabin_then_flights": 2.0,
    "change_passengers": 3.0,
    "add_bags": 2.5,
    "cancel_business": 3.0,
    "cancel_insured": 3.0,
    "cancel_recent": 1.0,
    "cancel_airline_cancelled": 0.5,
    "compensate_delayed_cancelled": 0.1,
    "compensate_delayed_changed": 0.4,
}
COMBINED = ("book", "change_flights", "change_cabin", "change_passengers", "add_bags", "cancel", "compensate_cancelled")
ASKED = ("fare", "trip_cost", "bag_fee", "cabin_price", "balance")


def _recipes() -> dict[tuple[str, ...], float]:
    pairs = [(one, other) for one, other in product(COMBINED, COMBINED) if one != other]
    pairs += [("change_flights", "change_flights"), ("change_cabin", "change_cabin"), ("cancel", "cancel")]
    same = [("change_cabin", "passengers_too"), ("change_cabin", "bags_too"), ("change_flights", "bags_too")]
    same += [("change_passengers", "bags_too"), ("change_flights", "passengers_too")]
    refusing = [(no, name) for name in ("book", "cancel", "add_bags") for no in REFUSED]
    handed_over = [(name, no) for name in ("book", "change_passengers", "add_bags") for no in ("service", "profile")]
    groups: list[tuple[float, Sequence[tuple[str, ...]]]] = [
        (SINGLE, [(name,) for name in DONE]),
        (PAIR, pairs),
        (ASKING, [(name,) for name in QUESTIONS] + [(name, question) for name in COMBINED for question in ASKED]),
        (REFUSING, [r for r in refusing if r[1] != "book" or r[0] not in NEW_TRIP]),
        (REFUSING / 6, [*handed_over, ("change_flights", "flown"), ("change_cabin", "flown")]),
        (REFUSING / 2, [(no, question) for no in REFUSED for question in ("fare", "balance")]),
        (SAME_TRIP, same),
        (TRIPLE, [(*pair, question) for pair in pairs for question in ("fare", "trip_cost")]),
    ]
    recipes: dict[tuple[str, ...], float] = {}
    for share, group in groups:
        weights = [_weight(recipe) for recipe in group]
        recipes |= {recipe: share * weight / sum(weights) for recipe, weight in zip(group, weights)}
    recipes |= {(name,): 1.0 for name in (*REFUSED, "unidentified")}
    recipes[("four_gift_cards",)] = 0.3  # few have so many
    recipes |= {("flown",): 2.0, ("service",): 1.5, ("profile",): 1.5, ("no_ground", "service"): 0.3}
    return recipes


def _weight(recipe: tuple[str, ...]) -> float:
    weight = 1.0
    for name in recipe:
        weight *= WEIGHT.get(name, 1.0) if len(recipe) == 1 else WEIGHT.get(name, 1.0) ** 0.3
    return weight


AIRLINE = Factory(
    domain="airline",
    owners=owners,
    identity=identity,
    families={
        **{name: Family(make) for name, make in {**DONE, **TOO, **QUESTIONS}.items()},
        **{name: Family(make, "refused") for name, make in REFUSED.items()},
        **{name: Family(make, "transferred") for name, make in TRANSFERRED.items()},
        "unidentified": Family(requests.unidentified, "refused", requests.nobody),
    },
    recipes=_recipes(),
    rules=policy.BOOK.rules,
    ruling=ruling,
    attempts=attempts,
)
