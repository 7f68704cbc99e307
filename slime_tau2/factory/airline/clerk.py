"""What a scripted airline agent knows: what its calls have returned, and how it words that."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from slime_tau2.episode.world import World
from slime_tau2.factory.airline.desk import FLOWN, current_time, paid
from slime_tau2.factory.airline.desk import free_bags as free_for
from slime_tau2.factory.airline.shapes import BookedFlight, PaymentMethod, Reservation, User
from slime_tau2.factory.airline.words import CABIN_WORDS, day
from slime_tau2.factory.dialogue import Result, Script
from slime_tau2.factory.draft import Call, Draft, Fact, Told, Wish, read
from slime_tau2.factory.expert import Expert
from slime_tau2.factory.stories import listed
from slime_tau2.factory.voice import first_person


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A flight that a search has shown.

    Attributes:
        prices, seats: by cabin.
    """

    number: str
    origin: str
    destination: str
    date: str
    departure: str
    arrival: str
    prices: dict[str, int]
    seats: dict[str, int]

    def line(self, cabin: str) -> str:
        """As the agent lists it."""
        arrival = f"{self.arrival[:5]} the next day" if self.arrival.endswith("+1") else self.arrival[:5]
        return (
            f"{self.number} from {self.origin} to {self.destination} on {day(self.date)}, {self.departure[:5]} to "
            f"{arrival}, ${self.prices[cabin]}"
        )


class Clerk(Expert):
    """An expert with airline's memory.

    Attributes:
        reservations: what has been looked up, as the last call left it.
        offers: all flights that searches have shown, by number and date.
        stale: what is on gift cards and certificates may have changed since the profile was looked at.
        instead: what the user says at first in the place of a fact.
    """

    def __init__(self, world: World, draft: Draft, *, persona: str | None, rng: random.Random):
        super().__init__(world, draft, persona=persona, rng=rng)
        db: Any = world.environments.base.tools.db
        self._user_model: Any = type(next(iter(db.users.values())))
        self._reservation_model: Any = type(next(iter(db.reservations.values())))
        self.now = current_time(world.policy)
        self.profile: User = SimpleNamespace()
        self.reservations: dict[str, Reservation] = {}
        self.offers: dict[tuple[str, str], Offer] = {}
        self.stale = False
        self.instead: dict[Fact, str] = {}

    def heard(self, call: Call, result: Result) -> None:
        if result.error:
            return
        if call.write:
            self.stale = True
        if call.name == "get_user_details":
            self.profile, self.stale = self._user_model.model_validate_json(result.text), False
        elif call.name.startswith("search_"):
            for found in json.loads(result.text):
                for flight in found if isinstance(found, list) else [found]:
                    self._offered(flight, call.arguments["date"])
        elif result.text.startswith("{") and '"reservation_id"' in result.text:
            reservation: Reservation = self._reservation_model.model_validate_json(result.text)
            self.reservations[reservation.reservation_id] = reservation

    def _offered(self, flight: dict[str, Any], date: str) -> None:
        date = flight.get("date") or date
        self.offers[flight["flight_number"], date] = Offer(
            number=flight["flight_number"],
            origin=flight["origin"],
            destination=flight["destination"],
            date=date,
            departure=flight["scheduled_departure_time_est"],
            arrival=flight["scheduled_arrival_time_est"],
            prices=flight["prices"],
            seats=flight["available_seats"],
        )

    # Looking up

    def look_at_balances(self) -> Script[None]:
        """The profile, as it is after what was paid."""
        call = read("get_user_details", user_id=self.draft.owner)
        if self.stale:
            self.results.pop(call.canonical(), None)
        yield from self.look(call)

    def calculate(self, expression: str) -> Script[int]:
        """A sum, by the calculator."""
        done = in_the_head(expression)
        if done is not None:
            return done
        result = yield from self.look(read("calculate", expression=expression))
        return round(float(result.text))

    def calculate_all(self, calls: Sequence[Call]) -> Script[None]:
        """The sums among a wish's calls."""
        for call in calls:
            if call.name == "calculate":
                yield from self.calculate(call.arguments["expression"])

    def total_paid(self, reservation: Reservation) -> Script[int]:
        """What a reservation has cost so far."""
        amounts = [str(payment.amount) for payment in reservation.payment_history]
        if len(amounts) > 1:
            return (yield from self.calculate(" + ".join(amounts).replace("+ -", "- ")))
        return paid(reservation)

    def locate(self, wish: Wish) -> Script[Reservation]:
        """Find the reservation of a wish, by its number or by where and when it goes."""
        number = next((fact for fact in wish.facts if "the reservation number of" in fact.name), None)
        calls = [call for call in wish.calls if call.name == "get_reservation_details"]
        if number and number.told is not Told.FORGOTTEN:
            yield from self.ask(
                [number],
                "What is the reservation number?",
                "[may] give me the reservation number, please?",
                "Which reservation is it? Please tell me its number.",
                "[may] tell me the number of that reservation?",
            )
        elif number and self.rng.random() < 0.5:
            yield from self.ask(
                [number],
                "Do you have the reservation number?",
                "What is the reservation number, if you have it?",
                "[may] give me the reservation number? If you don't have it, I can look it up.",
            )
        yield from self.look_all(calls)
        if not calls:
            return self.reservations[next(entity for entity in wish.entities if entity in self.reservations)]
        reservation = self.reservations[calls[-1].arguments["reservation_id"]]
        if number and number.told is Told.FORGOTTEN:
            self.note(
                self.pick(
                    f"I found it: {self.named(reservation)}.",
                    f"That is {self.named(reservation)}.",
                    f"I have found your reservation; its number is {reservation.reservation_id}.",
                )
            )
        elif self.rng.random() < 0.3:
            self.note(
                self.pick(
                    f"Thank you, I have reservation {reservation.reservation_id} here.",
                    f"I see {self.named(reservation)}.",
                )
            )
        return reservation

    def search(self, calls: Sequence[Call]) -> Script[None]:
        """The searches among a wish's calls, and airports where cities are named."""
        yield from self.look_all(
            call for call in calls if call.name.startswith("search_") or call.name == "list_all_airports"
        )

    def look_at_flights(self, flights: Sequence[BookedFlight]) -> Script[None]:
        """What is offered now for flights of a reservation."""
        for flight in flights:
            if (flight.flight_number, flight.date) not in self.offers:
                yield from self.look(
                    read(
                        "search_direct_flight",
                        origin=flight.origin,
                        destination=flight.destination,
                        date=flight.date,
                    )
                )

    def check_flown(self, reservation: Reservation) -> Script[dict[str, str]]:
        """The status of each flight that may have left, by its number."""
        statuses: dict[str, str] = {}
        for flight in reservation.flights:
            if flight.date <= self.now[:10]:
                call = read("get_flight_status", flight_number=flight.flight_number, date=flight.date)
                statuses[flight.flight_number] = (yield from self.look(call)).text
        return statuses

    # Words

    def named(self, reservation: Reservation) -> str:
        """'reservation OT24RL, from ORD to CLT on May 23'."""
        kind = "round trip " if reservation.flight_type == "round_trip" else ""
        return (
            f"reservation {reservation.reservation_id}, {kind}from {reservation.origin} to {reservation.destination} "
            "on "
            f"{day(reservation.flights[0].date)}"
        )

    def method(self, method_id: str) -> str:
        """A payment method of the user: 'your Visa credit card ending in 1234'."""
        method: PaymentMethod = self.profile.payment_methods[method_id]
        if method.source == "credit_card":
            return f"your {method.brand.title()} credit card ending in {method.last_four}"
        kind = {"gift_card": "gift card", "certificate": "travel certificate"}[method.source]
        alike = [m for m in self.profile.payment_methods.values() if m.source == method.source]
        return f"your {kind}" if len(alike) == 1 else f"your {kind} number {method_id.rsplit('_', 1)[-1]}"

    def balance(self, method_id: str) -> int:
        """What is on a gift card or a certificate."""
        return int(self.profile.payment_methods[method_id].amount)

    def free_bags(self, cabin: str) -> int:
        """Free checked bags per passenger."""
        return free_for(self.profile.membership, cabin)

    def fact_words(self, fact: Fact) -> str:
        words = self.instead.get(fact, fact.words)
        for pattern, options in SAID:
            found = re.match(pattern, words)
            if found:
                text = first_person(found.expand(self.voice.pick(*options)))
                return text[:1].upper() + text[1:]
        return self.voice.fact(words)

    def said_with_flights(self, fact: Fact) -> bool:
        """Whether a fact is a cabin that the user has named with the flights: "the cheapest flight in business"."""
        cabin = re.match(r"The new trip is to be in ((?:basic )?\w+)\.$", fact.words)
        told = [other.words for other in self._told if other.name == "the flights that you want to book"]
        return cabin is not None and any(re.search(rf"(?<!basic) in {cabin[1]}\b", words) for words in told)

    def statement(self, fact: Fact) -> str:
        words = self.instead.get(fact, fact.words)
        if self.said_with_flights(fact):
            return ""
        for pattern, options in STATED:
            found = re.match(pattern, words)
            if found:
                return first_person(found.expand(self.voice.pick(*options)))
        return first_person(words)

    def reply(self, facts: Sequence[Fact]) -> str:
        known = [fact for fact in facts if fact.told is not Told.FORGOTTEN]
        if len(known) < 2 or len(known) < len(facts):
            return super().reply(facts)
        self._told.update(facts)
        return " ".join(self.fact_words(fact) for fact in known)


SAID: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"You are ([^.;]+)\.$", (r"I'm \1.", r"My name is \1.", r"This is \1.")),
    (r"Any difference .* is to be settled with (.+)\.$", (r"With \1, please.", r"Please use \1.")),
    (r"If there is something to pay for .*, use (.+); a refund goes there too\.$", (r"Please use \1.", r"With \1.")),
    (r"You want to use (.+) for what is to be paid or refunded .*$", (r"I'd use \1 for that.", r"With \1, please.")),
    (r"If the added bags on .* cost anything, you pay with (.+)\.$", (r"I'd pay with \1.", r"With \1, please.")),
    (r"You want to use (.+) for what the added bags .*$", (r"Please use \1.", r"With \1.")),
    (r"You cancel (?:your [^.]*? )?because (.+)\.$", (r"\1.", r"Because \1.", r"It's because \1.")),
    (r"The new trip is to be in (\w+(?: economy)?)\.$", (r"\1, please.", r"In \1.", r"I'd like \1.")),
    (r"For the new trip, you want (.+)\.$", (r"I'd like \1.", r"I want \1.")),
    (
        r"On the way there, the new trip is to be with (.+); on the way back, with (.+)\.$",
        (r"On the way there, \1; on the way back, \2.", r"\1 on the way there, and \2 on the way back."),
    ),
    (r"The passengers of the new trip are, in this order: (.+)\.$", (r"The passengers are: \1.", r"It's for \1.")),
    (
        r"You are the only passenger of the new trip; .*$",
        (r"Just me; my date of birth is in my profile.", r"It's only for me. You have my date of birth in my profile."),
    ),
    (r"The only passenger of the new trip is (.+)\.$", (r"Only \1.", r"It's for \1.", r"The passenger is \1.")),
    (r"You have no bags to check on the new trip\.$", (r"No bags.", r"I have no bags to check.", r"None.")),
    (
        r"You have (.+) to check on the new trip(?:, all together)?\.$",
        (r"\1 all together.", r"I have \1 to check.", r"\1, please."),
    ),
    (r"Asked about travel insurance .*, you say no\.$", (r"No, thank you.", r"No insurance, please.", r"No.")),
    (r"Asked about travel insurance .*, you say yes\.$", (r"Yes, please.", r"Yes, I'd like the insurance.")),
    (
        r"Asked about travel insurance .*, you say yes, for everyone\.$",
        (r"Yes, for everyone.", r"Yes, please, for all."),
    ),
    (r"To pay for the new trip, (.+)\.$", (r"Please \1.", r"I'd like to pay like this: \1.")),
    (
        r"You want to pay for the new trip with (.+); you know that .*$",
        (r"With \1. I know that what is left of it is lost.",),
    ),
    (r"You want to pay for the new trip with (.+)\.$", (r"With \1.", r"I'd like to pay with \1.")),
    (r"On your [^:]*: (.+)$", (r"\1",)),
)
"""How the user says its facts when asked for them."""
STATED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"The new trip is to be in (.+)\.$", (r"[I'd like to fly|I want to fly|It should be|I'd like seats] in \1.",)),
    (r"For the new trip, you want (.+)\.$", (r"[I want|I'd like|I'm looking for] \1.",)),
    (
        r"On the way there, the new trip is to be with (.+); on the way back, with (.+)\.$",
        (r"On the way there[,| I want|, I'd like] \1; on the way back, \2.", r"I'd like \1 there, and \2 back."),
    ),
    (
        r"The passengers of the new trip are, in this order: (.+)\.$",
        (r"[The passengers are|We are|It's for|The people flying are]: \1.",),
    ),
    (r"You are the only passenger of the new trip; (.*)$", (r"[I'm flying alone|It's only me|Only I will fly]; \1",)),
    (r"The only passenger of the new trip is (.+)\.$", (r"[The passenger is|It's for|The only passenger is] \1.",)),
    (
        r"You have (.+) to check on the new trip(?:, all together)?\.$",
        (r"[I have|We have|There will be] \1 to check.",),
    ),
    (r"To pay for the new trip, (.+)\.$", (r"[To pay for it, please|For the payment, please|Please] \1.",)),
    (r"You want to pay for the new trip with (.+)\.$", (r"[I want to|I'd like to|I will] pay with \1.",)),
)
"""How the user says its facts unasked."""


def in_the_head(expression: str) -> int | None:
    """What is needless to calculate: one number alone, or times one, or a sum of two small ones."""
    found = re.fullmatch(r"(\d+)(?: ([*+-]) (\d+))?", expression)
    if found is None:
        return None
    first, second = int(found[1]), int(found[3] or 0)
    if found[2] == "*":
        return first * second if 1 in (first, second) or max(first, second) < 10 else None
    if found[2] and max(first, second) >= 20:
        return None
    return first - second if found[2] == "-" else first + second


def cabin_words(cabin: str) -> str:
    """'basic economy'."""
    return CABIN_WORDS[cabin]


def refund_words(amount: int) -> str:
    """What a cancellation brings back."""
    return f"Refund: ${amount} to the original payment methods, within 5 to 7 business days"


def person(passenger: dict[str, str]) -> str:
    """'Raj Silva (born 1997-10-21)'."""
    return f"{passenger['first_name']} {passenger['last_name']} (born {passenger['dob']})"


def people(passengers: Sequence[dict[str, str]]) -> str:
    """Several passengers."""
    return listed([person(passenger) for passenger in passengers])


def booked(flight: BookedFlight) -> str:
    """A flight of a reservation: 'HAT238 from ORD to CLT on May 20'."""
    return f"{flight.flight_number} from {flight.origin} to {flight.destination} on {day(flight.date)}"


def has_flown(statuses: dict[str, str]) -> bool:
    """Whether a part of a trip has been flown."""
    return any(status in FLOWN for status in statuses.values())


def counted(number: int, noun: str) -> str:
    """'1 passenger', '3 passengers'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
