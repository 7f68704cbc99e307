"""Cancellations and compensations that the policy forbids, and a user who cannot say who they are."""

from __future__ import annotations

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.compensate import ANGER, eligible, status_read, with_status
from slime_tau2.factory.airline.compensate import flight_words as leg_words
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.reasons import PRIVATE, REASONS, ground, reason_fact, why
from slime_tau2.factory.airline.refused import about, pick, titled
from slime_tau2.factory.airline.words import (
    refer,
    trip,
)
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Identity, Told, Wish


def no_ground(case: Case) -> Wish | None:
    """A cancellation without a ground: not insured, or not for this reason."""
    desk = Desk(case)
    return _no_ground(desk, *why(desk, *PRIVATE))


def no_insurance(case: Case) -> Wish | None:
    """A cancellation for health or weather, without insurance."""
    desk = Desk(case)
    return _no_ground(desk, *why(desk, "health", "weather"))


def _no_ground(desk: Desk, reason: str, words: str) -> Wish | None:
    reservation = pick(desk, lambda r: ground(desk, r, reason) is None)
    if reservation is None:
        return None
    wish = about(
        desk,
        reservation,
        desk.rng.choice(("You want to cancel {trip} and get your money back.", "You want to cancel {trip}.")),
        policy.grounds(desk, reservation, reason),
        title="the cancellation",
        more=lambda reference: (reason_fact(words, reference.short),),
    )
    return titled(wish, f"cancel for {reason}", reservation)


def kept(case: Case) -> Wish | None:
    """A trip that could be cancelled, and that the user keeps when it comes to a yes."""
    desk = Desk(case)
    reason, words = why(desk, *REASONS)
    reservation = pick(desk, lambda r: ground(desk, r, reason) is not None)
    if reservation is None:
        return None
    reference = refer(desk, reservation)
    return Wish(
        about="the cancellation",
        reason=f"You want to cancel {reference.words}.",
        facts=(*reference.facts, reason_fact(words, reference.short)),
        instructions=(
            f"When the agent asks you to confirm the cancellation of {reference.short}, you change your mind: you keep "
            "the trip, and want nothing done about it.",
        ),
        calls=reference.reads,
        findings=(
            policy.reservation_found(desk, reservation),
            policy.nothing_flown(desk, reservation),
            policy.confirmed(False),
        ),
        outcome="refused",
        topic=f"kept {reservation.reservation_id}",
        entities=frozenset({reservation.reservation_id}),
    )


def not_entitled(case: Case) -> Wish | None:
    """A compensation for a regular member in economy without insurance."""
    desk, rng = Desk(case), case.rng
    status = rng.choice(("cancelled", "cancelled", "delayed"))
    found = [pair for pair in with_status(desk, status) if not eligible(desk, pair[0])]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    word = "was cancelled by the airline" if status == "cancelled" else "is delayed"
    sentence = (
        f"You want a compensation: {leg_words(desk, flight)}, part of {{trip}}, {word}. {rng.choice(ANGER)} You do not "
        "want to change or cancel anything."
    )
    findings = [policy.may_be_compensated(desk, reservation)]
    return titled(
        about(desk, reservation, sentence, findings, title="the compensation", calls=(status_read(flight),)),
        "not entitled",
        reservation,
    )


def only_late(case: Case) -> Wish | None:
    """A compensation for a delay, though the trip is to stay as it is."""
    desk, rng = Desk(case), case.rng
    found = [pair for pair in with_status(desk, "delayed") if eligible(desk, pair[0])]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    sentence = (
        f"You want a compensation, because {leg_words(desk, flight)}, part of {{trip}}, is delayed. "
        f"{rng.choice(ANGER)} You want to keep the trip as it is, neither changed nor cancelled."
    )
    findings = [policy.changed_or_cancelled(False)]
    return titled(
        about(desk, reservation, sentence, findings, title="the compensation", calls=(status_read(flight),)),
        "only late",
        reservation,
    )


def not_true(case: Case) -> Wish | None:
    """A compensation for a cancellation that never was."""
    desk, rng = Desk(case), case.rng
    found = [pair for pair in with_status(desk, "landed") if "cancelled" not in desk.statuses(pair[0])]
    found = [pair for pair in found if "delayed" not in desk.statuses(pair[0])]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    sentence = (
        f"You want a compensation: you claim that {leg_words(desk, flight)}, part of {{trip}}, was cancelled, which is "
        f"not true. {rng.choice(ANGER)}"
    )
    findings = [policy.facts_confirmed(desk, reservation, "cancelled")]
    return titled(
        about(desk, reservation, sentence, findings, title="the compensation", calls=(status_read(flight),)),
        "not true",
        reservation,
    )


COMPLAINTS = (
    "the food on board was cold",
    "your seat did not recline",
    "the crew was unfriendly",
    "your bag came late",
    "there was no internet on board",
    "the boarding took far too long",
)


def other_complaint(case: Case) -> Wish | None:
    """A compensation for something that is not compensated."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: set(desk.statuses(r)) == {"landed"}, upcoming=False)
    if reservation is None:
        return None
    complaint = rng.choice(COMPLAINTS)
    sentence = f"You want a certificate as a compensation, because {complaint} on {{trip}}."
    return about(desk, reservation, sentence, [policy.compensated_reason(complaint)], title="the compensation")


def complaint_only(case: Case) -> Wish | None:
    """A cancelled flight is complained about, but no compensation is asked for: none is offered."""
    desk, rng = Desk(case), case.rng
    found = [pair for pair in with_status(desk, "cancelled") if eligible(desk, pair[0])]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    reference = refer(desk, reservation)
    return Wish(
        about="the complaint",
        reason=f"You want to complain that {leg_words(desk, flight)}, part of {reference.words}, was cancelled by the "
        f"airline. {rng.choice(ANGER)}",
        facts=reference.facts,
        instructions=(
            "You only want to have said it, and do not ask for anything. If the agent offers you something of its own "
            "accord, you take it.",
        ),
        calls=(*reference.reads, status_read(flight)),
        findings=(policy.may_be_compensated(desk, reservation), policy.asked_for(False)),
        outcome="refused",
        topic=f"complaint {reservation.reservation_id}",
        entities=frozenset({reservation.reservation_id}),
    )


def nobody(case: Case) -> Identity:
    """A user who does not know the user id."""
    desk = Desk(case)
    facts = (
        Fact("your name", f"You are {desk.user.name.first_name} {desk.user.name.last_name}.", Told.AT_ONCE),
        Fact("your email address", f"Your email address is {desk.user.email}."),
        Fact("your user id", "", Told.FORGOTTEN),
    )
    return Identity(facts, (), (policy.user_id_given(desk, ""),))


def unidentified(case: Case) -> Wish | None:
    """Something about a trip, by a user who cannot give the user id."""
    desk, rng = Desk(case), case.rng
    reservation = pick(desk, lambda r: r.cabin == "business")
    if reservation is None:
        return None
    what = rng.choice(("cancel {}", "add a checked bag to {}", "know what you paid for {}", "downgrade {} to economy"))
    number = Fact("your reservation number", f"Your reservation number is {reservation.reservation_id}.")
    return Wish(
        reason=f"You want to {what.format(trip(desk, reservation))}.",
        facts=(number,),
        instructions=(
            "You find that your name and the reservation number must be enough, and say so once. If they are not, you "
            "will look for the user id and come back another day.",
        ),
        findings=(policy.user_id_given(desk, ""),),
        outcome="refused",
        topic=f"{what} {reservation.reservation_id}",
        entities=frozenset({reservation.reservation_id}),
    )
