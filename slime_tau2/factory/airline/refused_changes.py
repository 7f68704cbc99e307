"""Changes that the policy forbids, and one that is too dear."""

from __future__ import annotations

from collections.abc import Sequence

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.change import move
from slime_tau2.factory.airline.desk import CABINS, Desk, halves
from slime_tau2.factory.airline.people import stranger
from slime_tau2.factory.airline.refused import about, pick, titled
from slime_tau2.factory.airline.words import (
    CABIN_WORDS,
    Reference,
    count,
    day,
    half_words,
    method_words,
    place,
    refer,
)
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Wish
from slime_tau2.factory.stories import remembered


def basic_economy(case: Case) -> Wish | None:
    """Other flights for basic economy."""
    desk = Desk(case)
    reservation = pick(desk, lambda r: r.cabin == "basic_economy")
    change = move(desk, reservation) if reservation else None
    if reservation is None or change is None:
        return None
    sentence = f"You want to change {{trip}}: {change.words}. You do not want another cabin."
    wish = about(desk, reservation, sentence, [policy.not_basic_economy(reservation)])
    return titled(wish, f"basic economy {change.flights}", reservation)


def other_route(case: Case) -> Wish | None:
    """Another destination, or another origin."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: r.cabin != "basic_economy")
    if reservation is None:
        return None
    airports = sorted({f.origin for f in desk.flights.values()} - {reservation.origin, reservation.destination})
    other = rng.choice(airports)
    route = (reservation.origin, other)
    sentence = f"You want to change {{trip}}, so that it goes to {place(desk, other)} instead, on the same days."
    if rng.random() < 0.4:
        route = (other, reservation.destination)
        sentence = f"You want to change {{trip}}, so that it starts in {place(desk, other)} instead, on the same days."
    return about(desk, reservation, sentence, [policy.same_route(reservation, route, reservation.flight_type)])


def other_type(case: Case) -> Wish | None:
    """A way back for a one-way trip, or none for a round trip."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: r.cabin != "basic_economy")
    if reservation is None:
        return None
    route, last = (reservation.origin, reservation.destination), desk.open_dates()[-1]
    if reservation.flight_type == "one_way":
        later = [date for date in desk.open_dates() if date > reservation.flights[-1].date]
        date = rng.choice(later or [last])
        sentence = (
            f"You want to make a round trip of {{trip}}: add a flight back on {day(date)} to the same reservation."
        )
        kind = "round_trip"
        if not later:
            return None
    else:
        sentence = "You want to take the return flight off {trip} and get the money for it, and keep the way there."
        kind = "one_way"
    return about(desk, reservation, sentence, [policy.same_route(reservation, route, kind)])


def certificate_for_change(case: Case) -> Wish | None:
    """A certificate is to pay for a dearer flight."""
    desk, rng = Desk(case), case.rng
    certificates = desk.methods("certificate")
    reservation = pick(desk, lambda r: r.cabin != "basic_economy")
    change = move(desk, reservation) if reservation else None
    if reservation is None or change is None or change.difference <= 0 or not certificates:
        return None
    method = rng.choice(certificates)
    name = method_words(desk, method)

    def paying(reference: Reference) -> Sequence[Fact]:
        words = (
            f"You pay for the change of {reference.short} with {name} or not at all: then you leave the trip as it is."
        )
        return (remembered(rng, Fact(f"the payment for changes of {reference.short}", words)),)

    sentence = f"You want to change {{trip}}: {change.words}."
    findings = [policy.difference_payable(method, change.difference)]
    wish = about(desk, reservation, sentence, findings, more=paying, calls=change.choice.reads)
    return titled(wish, f"certificate {change.flights}", reservation)


def one_flight_up(case: Case) -> Wish | None:
    """Another cabin for a part of the trip."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: len(r.flights) > 1 and r.cabin != "business")
    if reservation is None:
        return None
    there, back = halves(reservation)
    higher = rng.choice(CABINS[CABINS.index(reservation.cabin) + 1 :])
    part = half_words(desk, reservation, rng.choice((there, back))) if back else "first flight"
    sentence = f"You want an upgrade to {CABIN_WORDS[higher]} for the {part} of {{trip}} only, not for the rest."
    return about(desk, reservation, sentence, [policy.cabin_for_all(1, reservation)])


def one_passenger_up(case: Case) -> Wish | None:
    """Another cabin for one of the passengers."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: len(r.passengers) > 1 and r.cabin != "business")
    if reservation is None:
        return None
    passenger = rng.choice(reservation.passengers)
    higher = rng.choice(CABINS[CABINS.index(reservation.cabin) + 1 :])
    name = f"{passenger.first_name} {passenger.last_name}"
    sentence = f"You want an upgrade to {CABIN_WORDS[higher]} on {{trip}}, but only for {name}."
    return about(desk, reservation, sentence, [policy.cabin_for_all(0, reservation)])


def cabin_flown(case: Case) -> Wish | None:
    """Another cabin for what is left of a trip that has begun."""
    desk, rng = Desk(case), case.rng
    reservation = pick(
        desk, lambda r: desk.flown(r) and "available" in desk.statuses(r) and r.cabin != "business", upcoming=False
    )
    if reservation is None:
        return None
    higher = rng.choice(CABINS[CABINS.index(reservation.cabin) + 1 :])
    sentence = f"You want an upgrade to {CABIN_WORDS[higher]} for what is still to come of {{trip}}."
    return about(desk, reservation, sentence, [policy.cabin_before_flight(desk, reservation)])


def fewer_bags(case: Case) -> Wish | None:
    """Bags are to be removed."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: r.total_baggages > 0)
    if reservation is None:
        return None
    less = rng.randint(1, min(2, reservation.total_baggages))
    sentence = f"You want to take {count(less, 'checked bag')} off {{trip}}: you carry less than you thought."
    findings = [policy.bags_only_added(reservation.total_baggages, reservation.total_baggages - less)]
    return about(desk, reservation, sentence, findings)


def late_insurance(case: Case) -> Wish | None:
    """Insurance after the booking."""
    desk = Desk(case)
    reservation = pick(desk, lambda r: r.insurance == "no")
    if reservation is None:
        return None
    sentence = desk.rng.choice(
        (
            "You want to add travel insurance to {trip}.",
            "You want to buy the travel insurance for {trip}, which you did not take when you booked.",
        )
    )
    return titled(about(desk, reservation, sentence, [policy.insurance_at_booking(True)]), "insurance", reservation)


def more_passengers(case: Case) -> Wish | None:
    """Somebody is to come along."""
    desk = Desk(case)
    reservation = pick(desk, lambda r: len(r.passengers) < 5)
    if reservation is None:
        return None
    person = stranger(desk)
    sentence = f"You want to add a passenger to {{trip}}: {person.words}."
    return about(desk, reservation, sentence, [policy.as_many_passengers(reservation, len(reservation.passengers) + 1)])


def fewer_passengers(case: Case) -> Wish | None:
    """Somebody is to stay at home."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: len(r.passengers) > 1)
    if reservation is None:
        return None
    passenger = rng.choice(reservation.passengers)
    sentence = f"You want to take {passenger.first_name} {passenger.last_name} off {{trip}} and get that fare back."
    return about(desk, reservation, sentence, [policy.as_many_passengers(reservation, len(reservation.passengers) - 1)])


def withdrawn(case: Case) -> Wish | None:
    """A change that the policy allows, and that is too dear for the user once the price is known."""
    desk = Desk(case)
    reservation = pick(desk, lambda r: r.cabin != "basic_economy")
    change = move(desk, reservation) if reservation else None
    if reservation is None or change is None or change.difference < 60:
        return None
    limit = change.difference // 2 // 10 * 10
    reference = refer(desk, reservation)
    return Wish(
        about="the other flights",
        reason=f"You want to change {reference.words}: {change.words}.",
        facts=reference.facts,
        instructions=(
            f"Before you agree to the change of {reference.short}, you want to hear how much more it costs in total. "
            f"If that is more than {limit} dollars, you do not want the change, nor anything else in its place.",
        ),
        calls=(*reference.reads, *change.choice.reads),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.not_basic_economy(reservation),
            policy.confirmed(False),
        ),
        outcome="refused",
        topic=f"too dear {reservation.reservation_id} {change.flights}",
        entities=frozenset({reservation.reservation_id}),
    )
