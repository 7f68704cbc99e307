"""What no action of the agent can do: the user is handed over to a person."""

from __future__ import annotations

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.reasons import REASONS, reason_fact, why
from slime_tau2.factory.airline.words import refer
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import ACCEPTS_A_PERSON, Wish, hand_over


def flown(case: Case) -> Wish | None:
    """A cancellation of a trip that has begun."""
    desk, rng = Desk(case), case.rng
    begun = [r for r in desk.untouched() if desk.flown(r) and set(desk.statuses(r)) - {"landed", "flying", "cancelled"}]
    if not begun:
        return None
    reservation = rng.choice(begun)
    reference = refer(desk, reservation)
    kind, words = why(desk, *REASONS)
    return Wish(
        about="your last request",
        reason=f"You want to cancel {reference.words}, as far as it has not been flown yet.",
        facts=(*reference.facts, reason_fact(words, reference.short)),
        instructions=(rng.choice(ACCEPTS_A_PERSON),),
        calls=(*reference.reads, hand_over("The user wants to cancel a reservation that has been flown in part.")),
        findings=(policy.reservation_found(desk, reservation), policy.nothing_flown(desk, reservation)),
        outcome="transferred",
        after=True,
        topic=f"flown {reservation.reservation_id} {kind}",
        entities=frozenset({reservation.reservation_id}),
    )


ON_A_TRIP = (
    ("seats", "You want to choose the seats on {}: an aisle and a window, next to each other."),
    ("a wheelchair", "You want a wheelchair to be ready at the gate for {}."),
    ("a meal", "You want to order a vegetarian meal for {}."),
    ("a pet", "You want to take your dog along in the cabin on {}."),
    ("a child alone", "You want to have a child who travels alone looked after on {}."),
    ("an invoice", "You want an invoice for {}, made out to your company."),
    ("a music instrument", "You want to bring a cello on board on {}, on a seat of its own."),
)
IN_THE_PROFILE = (
    (
        "the email address",
        "You want to change the email address in your profile to {first}.{last}{number}@example.org.",
    ),
    ("a saved passenger", "You want to have the passengers who are saved in your profile deleted."),
    ("a credit card", "You want to add a credit card to your profile, a Visa ending in {number}1."),
    ("the address", "You have moved, and want to change the postal address in your profile to {number} Mill Road."),
    ("a gift card", "You want to move {number} dollars from your credit card to a gift card in your profile."),
    ("miles", "You want {number} miles of a flight with a partner airline to be credited to you."),
    ("a lost bag", "You want somebody to look for your bag, which did not arrive; its tag is {number}482."),
)


def service(case: Case) -> Wish | None:
    """A service on a trip for which there is no tool."""
    desk, rng = Desk(case), case.rng
    found = desk.upcoming()
    if not found:
        return None
    reservation, (what, sentence) = rng.choice(found), rng.choice(ON_A_TRIP)
    reference = refer(desk, reservation)
    return Wish(
        about="your last request",
        reason=sentence.format(reference.words),
        facts=reference.facts,
        instructions=(rng.choice(ACCEPTS_A_PERSON),),
        calls=(*reference.reads, hand_over(f"The user asks for {what}, which the agent has no action for.")),
        findings=(policy.in_scope(False),),
        outcome="transferred",
        after=True,
        topic=f"{what} {reservation.reservation_id}",
        entities=frozenset({reservation.reservation_id}),
    )


def profile(case: Case) -> Wish | None:
    """Something about the user, not about a trip, for which there is no tool."""
    desk, rng = Desk(case), case.rng
    what, sentence = rng.choice(IN_THE_PROFILE)
    name = desk.user.name
    reason = sentence.format(first=name.first_name.lower(), last=name.last_name.lower(), number=rng.randint(100, 999))
    return Wish(
        about="your last request",
        reason=reason,
        instructions=(rng.choice(ACCEPTS_A_PERSON),),
        calls=(hand_over(f"The user asks for a change of {what}, which the agent has no action for."),),
        findings=(policy.in_scope(False),),
        outcome="transferred",
        after=True,
        topic=reason,
    )
