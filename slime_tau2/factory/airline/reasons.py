"""Why somebody cancels a trip, and whether that is a ground to let the trip go."""

from __future__ import annotations

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.draft import Fact, Told
from slime_tau2.factory.rules import Finding

REASONS = {
    "change of plan": (
        "your plans have changed",
        "you do not need to go any more",
        "the meeting that you were to fly to has been called off",
        "a friend's wedding has been moved to another day",
        "you cannot get the days off work",
    ),
    "health": (
        "you have fallen ill and cannot fly",
        "you have broken your leg and are not able to travel",
        "your doctor has told you not to fly, for your health",
        "you need an operation on that day",
    ),
    "weather": (
        "a storm is forecast and the weather makes the trip unsafe",
        "the weather is so bad where you are going that you cannot travel",
    ),
    "other": (
        "you have found a cheaper flight with another airline",
        "you booked the wrong city by mistake",
        "you would rather go by train",
    ),
}
"""{kind of reason: how the user puts it, after "because"}."""
PRIVATE = ("change of plan", "other")


def why(desk: Desk, *kinds: str) -> tuple[str, str]:
    """A reason: its kind and its words."""
    kind = desk.rng.choice(kinds)
    return kind, desk.rng.choice(REASONS[kind])


def reason_fact(words: str, short: str) -> Fact:
    """What the user says when asked for the reason; the agent has to ask."""
    return Fact(f"the reason for cancelling {short}", f"You cancel {short} because {words}.", Told.ASKED)


def ground(desk: Desk, reservation: Reservation, reason: str) -> Finding | None:
    """The first ground on which a reservation can be cancelled."""
    return next((finding for finding in policy.grounds(desk, reservation, reason) if finding.holds), None)
