"""Passengers, and how the user speaks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from slime_tau2.factory.airline.desk import Desk
from slime_tau2.factory.airline.shapes import Passenger


class Person(NamedTuple):
    """Somebody who is to fly.

    Attributes:
        words: how the user names the person, with what the agent cannot look up.
    """

    first_name: str
    last_name: str
    dob: str
    words: str

    def argument(self) -> dict[str, str]:
        """As the tools take a passenger."""
        return {"first_name": self.first_name, "last_name": self.last_name, "dob": self.dob}

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


def oneself(desk: Desk) -> Person:
    user = desk.user
    return Person(user.name.first_name, user.name.last_name, user.dob, "yourself, as in your profile")


def saved(desk: Desk) -> list[Person]:
    """Passengers of the profile, as far as names tell them apart."""
    people = [
        Person(p.first_name, p.last_name, p.dob, f"{p.first_name} {p.last_name}, who is saved in your profile")
        for p in desk.user.saved_passengers
    ]
    names = [person.name for person in people]
    return [person for person in people if names.count(person.name) == 1 and person.name != oneself(desk).name]


def stranger(desk: Desk) -> Person:
    """Somebody whom the database does not know, with a name as others in it have."""
    rng = desk.rng
    users = list(desk.db.users.values())
    first, last = rng.choice(users).name.first_name, rng.choice(users).name.last_name
    if rng.random() < 0.35:
        last = desk.user.name.last_name
    dob = f"{rng.randint(1950, 2005)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return Person(first, last, dob, f"{first} {last}, born on {dob}")


def party(desk: Desk, number: int) -> list[Person] | None:
    """So many people, all of different names, the user among them more often than not."""
    rng = desk.rng
    people = [oneself(desk)] if rng.random() < 0.75 else []
    known = saved(desk)
    rng.shuffle(known)
    while len(people) < number:
        person = known.pop() if known and rng.random() < 0.6 else stranger(desk)
        if person.name in {p.name for p in people} or person.name in {p.name for p in known}:
            return None
        if person.name == oneself(desk).name:
            return None
        people.append(person)
    return people


def party_words(people: Sequence[Person]) -> str:
    """A sentence on who flies, in order."""
    if len(people) == 1:
        if people[0].words.startswith("yourself"):
            return "You are the only passenger of the new trip; your date of birth is in your profile."
        return f"The only passenger of the new trip is {people[0].words}."
    return f"The passengers of the new trip are, in this order: {'; '.join(person.words for person in people)}."


def same_name(passenger: Passenger, person: Person) -> bool:
    """Whether two have the same name."""
    return (passenger.first_name, passenger.last_name) == (person.first_name, person.last_name)
