"""Other details of passengers, or somebody else in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.people import Person, oneself, same_name, saved, stranger
from slime_tau2.factory.airline.shapes import Passenger, Reservation
from slime_tau2.factory.airline.wishes import afterwards, previous
from slime_tau2.factory.airline.words import refer
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Wish, write
from slime_tau2.factory.stories import remembered


def passengers(case: Case) -> Wish | None:
    """Details of passengers, or somebody else in their place."""
    desk = Desk(case)
    found = desk.upcoming()
    return _passengers(desk, case.rng.choice(found)) if found else None


def passengers_too(case: Case) -> Wish | None:
    """The same, on the trip that was just changed."""
    desk = Desk(case)
    reservation = previous(desk)
    wish = _passengers(desk, reservation) if reservation else None
    return afterwards(desk, reservation, wish) if reservation and wish else None


def _passengers(desk: Desk, reservation: Reservation) -> Wish | None:
    rng = desk.rng
    old = list(reservation.passengers)
    if len({(p.first_name, p.last_name) for p in old}) < len(old):
        return None
    reference = refer(desk, reservation)
    places = rng.sample(range(len(old)), 2 if len(old) > 1 and rng.random() < 0.25 else 1)
    new = [{"first_name": p.first_name, "last_name": p.last_name, "dob": p.dob} for p in old]
    sentences: list[str] = []
    for number in sorted(places):
        changed = rng.choice((_respelled, _reborn, _replaced, _replaced))(desk, old, old[number])
        if changed is None or any(_named(changed[0], other) for n, other in enumerate(new) if n != number):
            return None
        new[number] = changed[0]
        sentences.append(changed[1])
    name = f"the new details of the {'passengers' if len(sentences) > 1 else 'passenger'}"
    subject = "passengers" if len(sentences) > 1 else "a passenger"
    detail = f"On {reference.short}: {' '.join(sentences)} The other passengers and the order stay as they are."
    if len(old) == len(sentences):
        detail = f"On {reference.short}: {' '.join(sentences)}"
    return Wish(
        about="the passengers",
        reason=f"You want to change the details of {subject} on {reference.words}.",
        facts=(*reference.facts, remembered(rng, Fact(f"{name} on {reference.short}", detail), at_once=0.6)),
        calls=(
            *reference.reads,
            write(
                "update_reservation_passengers",
                in_order=("passengers",) if len(new) > 1 else (),
                reservation_id=reservation.reservation_id,
                passengers=new,
            ),
        ),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.as_many_passengers(reservation, len(new)),
            policy.passengers_known(new),
            policy.confirmed(True),
        ),
        entities=frozenset({reservation.reservation_id}),
    )


Changed = tuple[dict[str, str], str]


def _respelled(desk: Desk, _: Sequence[Passenger], passenger: Passenger) -> Changed | None:
    last = stranger(desk).last_name
    if last == passenger.last_name:
        return None
    name = f"{passenger.first_name} {passenger.last_name}"
    details = {"first_name": passenger.first_name, "last_name": last, "dob": passenger.dob}
    if same_name(passenger, oneself(desk)):
        return details, f"You ({name}) have married and now have the last name {last}."
    why = desk.rng.choice(("has married and now has the last name", "is booked under the wrong last name; it is"))
    return details, f"{name} {why} {last}."


def _reborn(desk: Desk, _: Sequence[Passenger], passenger: Passenger) -> Changed | None:
    dob = stranger(desk).dob
    if same_name(passenger, oneself(desk)):
        return None  # the profile has the user's
    details = {"first_name": passenger.first_name, "last_name": passenger.last_name, "dob": dob}
    name = f"{passenger.first_name} {passenger.last_name}"
    return details, f"{name} has a wrong date of birth in the booking; the right one is {dob}."


def _replaced(desk: Desk, old: Sequence[Passenger], passenger: Passenger) -> Changed | None:
    aboard = {(p.first_name, p.last_name) for p in old}
    known: list[Person] = [p for p in (*saved(desk), oneself(desk)) if (p.first_name, p.last_name) not in aboard]
    makers: list[Callable[[], Person]] = [lambda: stranger(desk)]
    if known:
        makers = [lambda: desk.rng.choice(known), *makers]
    person = desk.rng.choice(makers)()
    if any(same_name(p, person) for p in old):
        return None
    name = f"{passenger.first_name} {passenger.last_name}"
    me = same_name(passenger, oneself(desk))
    words = person.words if not person.words.startswith("yourself") else "you, with the date of birth in your profile"
    subject = f"You ({name})" if me else name
    return person.argument(), f"{subject} cannot go; the place is for {words}."


def _named(details: dict[str, str], other: dict[str, str]) -> bool:
    return (details["first_name"], details["last_name"]) == (other["first_name"], other["last_name"])
