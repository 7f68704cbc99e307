"""A certificate as a gesture, for those who ask, may have one, and tell the facts as they are."""

from __future__ import annotations

from slime_tau2.factory.airline import payments, policy
from slime_tau2.factory.airline.cancel import cancellation
from slime_tau2.factory.airline.change import flight_findings, move
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.reasons import ground, reason_fact, why
from slime_tau2.factory.airline.shapes import BookedFlight, Reservation
from slime_tau2.factory.airline.wishes import paying_fact
from slime_tau2.factory.airline.words import Reference, count, day, place, refer
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read, write
from slime_tau2.factory.rules import Finding

ANGER = (
    "You are upset about it.",
    "It cost you a whole day.",
    "You missed an important appointment because of it.",
    "You had to sleep at the airport.",
    "You find that this should not happen.",
)


def flight_words(desk: Desk, flight: BookedFlight) -> str:
    """A flight of a reservation, as the user speaks of it."""
    words = f"from {place(desk, flight.origin)} to {place(desk, flight.destination)} on {day(flight.date)}"
    return f"flight {flight.flight_number} {words}" if desk.rng.random() < 0.5 else f"your flight {words}"


def with_status(desk: Desk, status: str) -> list[tuple[Reservation, BookedFlight]]:
    """Reservations that no wish is about, each with its first flight of a status."""
    found = []
    for reservation in desk.untouched():
        flight = next((f for f in reservation.flights if desk.status(f) == status), None)
        if flight is not None:
            found.append((reservation, flight))
    return found


def status_read(flight: BookedFlight) -> Call:
    """The gold call that confirms the facts."""
    return read("get_flight_status", flight_number=flight.flight_number, date=flight.date)


def eligible(desk: Desk, reservation: Reservation) -> bool:
    return policy.may_be_compensated(desk, reservation).holds


def _certificates(desk: Desk) -> frozenset[str]:
    """Ids of the user's certificates: a new one makes it doubtful which of them words mean."""
    return frozenset(method.id for method in desk.methods("certificate"))


def certificate(desk: Desk, reservation: Reservation, dollars: int) -> Call:
    """The gold call."""
    return write("send_certificate", user_id=desk.user.user_id, amount=dollars * len(reservation.passengers))


def cancelled(case: Case) -> Wish | None:
    """The airline cancelled a flight: 100 dollars for each passenger."""
    desk, rng = Desk(case), case.rng
    found = [pair for pair in with_status(desk, "cancelled") if eligible(desk, pair[0])]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    reference = refer(desk, reservation)
    amount = 100 * len(reservation.passengers)
    calculate = read("calculate", expression=f"100 * {len(reservation.passengers)}")
    hoped: tuple[Finding, ...] = ()
    accept: tuple[str, ...] = (f"You do not want to change or cancel {reference.short} now.", _accept(desk))
    if rng.random() < 0.35:
        wanted = amount + 50 * rng.randint(2, 8)
        hoped = (policy.certificate_amount(reservation, "cancelled", wanted),)
        accept = (*accept, f"Ask for {wanted} dollars at first.")
    return Wish(
        about="the compensation",
        reason=f"You want to complain: {flight_words(desk, flight)}, part of {reference.words}, was cancelled by the "
        f"airline. {rng.choice(ANGER)} You ask for a compensation.",
        facts=(*reference.facts, *_passengers(desk, reservation, reference)),
        instructions=accept,
        calls=(*reference.reads, status_read(flight), calculate, certificate(desk, reservation, 100)),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.asked_for(True),
            policy.may_be_compensated(desk, reservation),
            policy.facts_confirmed(desk, reservation, "cancelled"),
            policy.compensated_reason("cancelled"),
            policy.certificate_amount(reservation, "cancelled", amount),
        ),
        entities=frozenset({reservation.reservation_id}) | _certificates(desk),
        tried=hoped,
        topic=f"cancelled {reservation.reservation_id}",
    )


def delayed_cancelled(case: Case) -> Wish | None:
    """A flight is late, and the user cancels the trip: 50 dollars for each passenger."""
    desk, rng = Desk(case), case.rng
    reason, words = why(desk, "change of plan", "health")
    found = [
        (reservation, flight)
        for reservation, flight in with_status(desk, "delayed")
        if eligible(desk, reservation) and not desk.flown(reservation) and ground(desk, reservation, reason)
    ]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    reference = refer(desk, reservation)
    return Wish(
        about="the compensation",
        reason=f"You want to cancel {reference.words}, because {flight_words(desk, flight)} is delayed, and to get a "
        f"compensation for the delay. {rng.choice(ANGER)}",
        facts=(*reference.facts, reason_fact(words, reference.short)),
        instructions=(_accept(desk),),
        calls=(
            *reference.reads,
            status_read(flight),
            cancellation(reservation),
            read("calculate", expression=f"50 * {len(reservation.passengers)}"),
            certificate(desk, reservation, 50),
        ),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.nothing_flown(desk, reservation),
            *(finding for finding in policy.grounds(desk, reservation, reason) if finding.holds),
            *_delay_findings(desk, reservation),
        ),
        entities=frozenset({reservation.reservation_id}) | _certificates(desk),
    )


def delayed_changed(case: Case) -> Wish | None:
    """A flight is late, and the user takes another: 50 dollars for each passenger."""
    desk, rng = Desk(case), case.rng
    found = [
        (reservation, flight)
        for reservation, flight in with_status(desk, "delayed")
        if eligible(desk, reservation) and reservation.cabin != "basic_economy"
    ]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    change = move(desk, reservation, delayed=True)
    if change is None or not change.difference:
        return None
    reference = refer(desk, reservation)
    paying = payments.single(desk, change.difference, reference.short)
    if paying is None:
        return None
    return Wish(
        about="the compensation",
        reason=f"You want to change {reference.words}, because {flight_words(desk, flight)} is delayed: "
        f"{change.words}.",
        facts=(*reference.facts, paying_fact(desk, paying, f"changes of {reference.short}")),
        instructions=(
            "When the flights have been changed, ask for a compensation for the delay.",
            _accept(desk),
        ),
        calls=(
            *reference.reads,
            status_read(flight),
            *change.choice.reads,
            write(
                "update_reservation_flights",
                reservation_id=reservation.reservation_id,
                cabin=reservation.cabin,
                flights=change.flights,
                payment_id=paying.method.id,
            ),
            read("calculate", expression=f"50 * {len(reservation.passengers)}"),
            certificate(desk, reservation, 50),
        ),
        findings=(*flight_findings(desk, reservation, change, paying), *_delay_findings(desk, reservation)),
        entities=frozenset({reservation.reservation_id}) | _certificates(desk) | paying.ids(),
        sensitive=paying.ids(),
    )


def _delay_findings(desk: Desk, reservation: Reservation) -> tuple[Finding, ...]:
    return (
        policy.asked_for(True),
        policy.may_be_compensated(desk, reservation),
        policy.facts_confirmed(desk, reservation, "delayed"),
        policy.compensated_reason("delayed"),
        policy.changed_or_cancelled(True),
        policy.certificate_amount(reservation, "delayed", 50 * len(reservation.passengers)),
        policy.confirmed(True),
    )


def _passengers(desk: Desk, reservation: Reservation, reference: Reference) -> tuple[Fact, ...]:
    """Now and then, how many passengers the user thinks that there were: the agent has to look it up."""
    number = len(reservation.passengers)
    if desk.rng.random() < 0.7:
        return ()
    words = f"You believe that {count(number + 1, 'passenger')} were booked on {reference.short}."
    return (Fact(f"how many passengers were on {reference.short}", words, Told.ASKED),)


def _accept(desk: Desk) -> str:
    return desk.rng.choice(
        (
            "You accept the compensation that the agent offers.",
            "Whatever certificate the agent offers you is fine with you.",
        )
    )
