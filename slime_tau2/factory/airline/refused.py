"""A wish that the policy forbids: the agent says no, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.airline.words import (
    Reference,
    refer,
)
from slime_tau2.factory.draft import Call, Fact, Wish
from slime_tau2.factory.rules import Finding

LET_GO = (
    "If the agent says that this is not possible, you accept it.",
    "You take no for an answer.",
    "If it cannot be done, then you leave things as they are.",
)


INSIST = (
    "If the agent says no, ask once more whether an exception can be made; after that, accept it.",
    "You insist a little: say that you have been a customer for years. If it is still no, you leave it at that.",
    "Say that somebody on the phone told you that it would be possible. If the agent stays with no, you give in.",
)


NOTHING_ELSE = "You want neither another solution nor to be handed over to a person."


def refused(
    desk: Desk,
    reason: str,
    *,
    topic: str,
    title: str,
    findings: Sequence[Finding],
    calls: Sequence[Call] = (),
    knows: Sequence[Fact] = (),
    entities: frozenset[str] = frozenset(),
) -> Wish:
    """A wish that comes to nothing; how much the user insists is chance."""
    lines = desk.rng.choice((LET_GO, INSIST))
    return Wish(
        about=title,
        reason=reason,
        facts=tuple(knows),
        instructions=(desk.rng.choice(lines), NOTHING_ELSE),
        calls=tuple(calls),
        findings=tuple(findings),
        outcome="refused",
        topic=topic,
        entities=entities,
    )


def about(
    desk: Desk,
    reservation: Reservation,
    sentence: str,
    findings: Sequence[Finding],
    *,
    title: str = "what you want changed",
    more: Callable[[Reference], Sequence[Fact]] = lambda reference: (),
    calls: Sequence[Call] = (),
) -> Wish:
    """A refused wish about a reservation; "{trip}" and "{short}" in the sentence stand for it."""
    reference = refer(desk, reservation)
    return refused(
        desk,
        sentence.format(trip=reference.words, short=reference.short),
        topic=f"{sentence} {reservation.reservation_id}",
        title=title,
        findings=(policy.reservation_found(desk, reservation), *findings),
        calls=(*reference.reads, *calls),
        knows=(*reference.facts, *more(reference)),
        entities=frozenset({reservation.reservation_id}),
    )


def pick(desk: Desk, fits: Callable[[Reservation], bool], *, upcoming: bool = True) -> Reservation | None:
    """One of the user's reservations that fit, of those to come if nothing else is said."""
    found = [r for r in (desk.upcoming() if upcoming else desk.untouched()) if fits(r)]
    return desk.rng.choice(found) if found else None


def titled(wish: Wish, what: str, reservation: Reservation) -> Wish:
    """The wish with a topic that its words do not change."""
    return replace(wish, topic=f"{what} {reservation.reservation_id}")
