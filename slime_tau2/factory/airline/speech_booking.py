"""The scripted airline agent's way through a booking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slime_tau2.factory.airline.book import BAG, INSURANCE
from slime_tau2.factory.airline.clerk import Clerk, Offer, cabin_words, people
from slime_tau2.factory.airline.speech_changes import instruction
from slime_tau2.factory.airline.words import NUMBERS
from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Fact, Wish
from slime_tau2.factory.stories import listed
from slime_tau2.factory.voice import first_person

FLIGHTS, CABIN = "the flights that you want to book", "the cabin of the new trip"
PASSENGERS, BAGS = "the passengers of the new trip", "the bags of the new trip"
INSURED, PAYMENT = "your choice about insurance for the new trip", "the payment for the new trip"


def fact_of(wish: Wish, name: str) -> list[Fact]:
    """A fact by its name, if the wish has it."""
    return [fact for fact in wish.facts if fact.name == name]


def ask_flights(clerk: Clerk, wish: Wish) -> Script[None]:
    """Which flights, in which cabin."""
    cabin, flights = fact_of(wish, CABIN), fact_of(wish, FLIGHTS)
    if cabin and clerk.said_with_flights(cabin[0]):
        clerk.reply(cabin)
    missing = [fact for fact in (*cabin, *flights) if not clerk.known(fact)]
    if len(missing) == 2:
        yield from clerk.ask(
            missing,
            "Which cabin would you like, and do you have a preference for the flights?",
            "In which cabin would you like to fly (basic economy, economy or business), and on which flights?",
        )
    yield from clerk.ask(
        cabin,
        "Which cabin would you like: basic economy, economy or business?",
        "In which cabin would you like to fly?",
    )
    yield from clerk.ask(
        flights, "Do you have a preference for the flights?", "Which flights would you like?", "What kind of flight?"
    )


def ask_passengers(clerk: Clerk, wish: Wish) -> Script[None]:
    """Who flies."""
    yield from clerk.ask(
        fact_of(wish, PASSENGERS),
        "Who will be flying? I need first name, last name and date of birth of each passenger.",
        "Please tell me the name and the date of birth of each passenger.",
        "For whom is the booking? I need everyone's full name and date of birth.",
    )


def ask_bags_and_insurance(clerk: Clerk, wish: Wish) -> Script[None]:
    """Bags, and the insurance that is always offered."""
    bags, insured = fact_of(wish, BAGS), fact_of(wish, INSURED)
    offer = clerk.pick(
        f"Would you like travel insurance? It is ${INSURANCE} per passenger, and you get everything back if you have "
        "to "
        "cancel for health or weather reasons.",
        f"Would you like to add travel insurance for ${INSURANCE} per passenger? It gives a full refund if you cancel "
        "because of health or weather.",
    )
    ask = clerk.pick("How many bags would you like to check?", "How many checked bags will there be, all together?")
    missing = [fact for fact in (*bags, *insured) if not clerk.known(fact)]
    if len(missing) == 2 and clerk.rng.random() < 0.4:
        yield from clerk.ask(missing, f"{ask} And {offer[0].lower()}{offer[1:]}")
    yield from clerk.ask(bags, ask)
    yield from clerk.ask(insured, offer)


@dataclass(kw_only=True)
class Booking:
    """A booking as far as it is agreed."""

    offers: list[Offer]
    cabin: str
    passengers: Sequence[dict[str, str]]
    bags: int
    insured: bool
    methods: list[str]

    def free(self, clerk: Clerk) -> int:
        """Free bags."""
        return len(self.passengers) * clerk.free_bags(self.cabin)

    def nonfree(self, clerk: Clerk) -> int:
        """Bags to be paid."""
        return max(0, self.bags - self.free(clerk))

    def expression(self, clerk: Clerk) -> str:
        """The total as the calculator takes it."""
        number = len(self.passengers)
        legs = " + ".join(str(offer.prices[self.cabin]) for offer in self.offers)
        insurance = f" + {INSURANCE}{f' * {number}' if number > 1 else ''}" if self.insured else ""
        fares = f"({legs})" if len(self.offers) > 1 and number > 1 else legs
        fares += f" * {number}" if number > 1 else ""
        paid = self.nonfree(clerk)
        return f"{fares}{f' + {BAG} * {paid}' if paid > 1 else f' + {BAG}' if paid else ''}{insurance}"


def split(clerk: Clerk, methods: Sequence[str], total: int) -> list[tuple[str, int]] | None:
    """What each payment method pays, in order; None if it is not enough."""
    parts, left = [], total
    for method in methods:
        amount = left if method.startswith("credit_card") else min(left, clerk.balance(method))
        if amount:
            parts.append((method, amount))
        left -= amount
    return parts if left == 0 else None


def book(clerk: Clerk, wish: Wish) -> Script[None]:
    """Ask for what is missing, search, list everything, book."""
    call = wish.writes()[0]
    booking, correction = yield from collect(clerk, wish, call.arguments)
    yield from ask_payment(clerk, wish, correction if _needs_early(clerk, booking, correction) else None)
    if correction and _needs_early(clerk, booking, correction):
        correction.apply(booking)
        correction = None
    yield from clerk.look_at_balances()
    yield from clerk.propose((yield from lines(clerk, wish, booking)))
    if correction:
        yield from clerk.answer(correction.words(clerk))
        correction.apply(booking)
        yield from clerk.propose((yield from lines(clerk, wish, booking)))
    yield from clerk.agree()
    yield from clerk.do([call])
    number = next(reversed(clerk.reservations))
    clerk.note(
        clerk.pick(
            f"Your trip is booked. The reservation number is {number}.",
            f"[done] your reservation number is {number}.",
            f"The booking is made; its reservation number is {number}.",
        )
    )


@dataclass
class Correction:
    """What the user says at first, and corrects when the details are listed."""

    bags: int | None = None
    insured: bool | None = None

    def apply(self, booking: Booking) -> None:
        """Put right what was said at first."""
        if self.bags is not None:
            booking.bags = self.bags
        if self.insured is not None:
            booking.insured = self.insured

    def words(self, clerk: Clerk) -> str:
        """How the user says it."""
        if self.bags is not None:
            bags = f"{NUMBERS[self.bags] if self.bags < len(NUMBERS) else self.bags} bag{'' if self.bags == 1 else 's'}"
            return clerk.voice.pick(
                f"Sorry, I was wrong about the bags: it's {bags}.", f"Wait, it's {bags} to check. The rest is right."
            )
        if self.insured:
            return clerk.voice.pick(
                "On second thought, I'd like the travel insurance after all.",
                "Wait, please add the insurance after all.",
            )
        return clerk.voice.pick(
            "I've changed my mind about the insurance: I'd rather do without it.",
            "On second thought, no insurance, please.",
        )


def first_thoughts(clerk: Clerk, wish: Wish, arguments: Any) -> tuple[Correction | None, int, bool]:
    """What the user says at first of bags and insurance, and how that is put right later."""
    bags, insured = arguments["total_baggages"], arguments["insurance"] == "yes"
    other = instruction(wish, r"At first, say that you have (\w+) bags? to check")
    if other:
        number = NUMBERS.index(other[1]) if other[1] in NUMBERS else int(other[1])
        fact = fact_of(wish, BAGS)[0]
        clerk.instead[fact] = fact.words.replace(_bags_in(fact.words), f"{other[1]} bag{'' if number == 1 else 's'}")
        return Correction(bags=bags), number, insured
    if instruction(wish, r"At first, say that you (want|do not want) travel insurance"):
        fact = fact_of(wish, INSURED)[0]
        clerk.instead[fact] = re.sub(r"you say .*\.$", f"you say {'no' if insured else 'yes'}.", fact.words)
        return Correction(insured=insured), bags, not insured
    return None, bags, insured


def _bags_in(words: str) -> str:
    found = re.search(r"\w+ bags?", words)
    assert found
    return found[0]


def collect(clerk: Clerk, wish: Wish, arguments: Any) -> Script[tuple[Booking, Correction | None]]:
    """All but the payment."""
    correction, bags, insured = first_thoughts(clerk, wish, arguments)
    yield from ask_flights(clerk, wish)
    yield from clerk.search(wish.calls)
    offers = [clerk.offers[leg["flight_number"], leg["date"]] for leg in arguments["flights"]]
    booking = Booking(
        offers=offers,
        cabin=arguments["cabin"],
        passengers=arguments["passengers"],
        bags=bags,
        insured=insured,
        methods=[part["payment_id"] for part in arguments["payment_methods"]],
    )
    budget = _budget(wish)
    clerk.note(found_words(clerk, offers, budget[0] if budget else booking.cabin))
    yield from ask_passengers(clerk, wish)
    yield from ask_bags_and_insurance(clerk, wish)
    if budget:
        yield from _within_budget(clerk, booking, *budget)
    return booking, correction


def found_words(clerk: Clerk, offers: Sequence[Offer], cabin: str) -> str:
    """The flights that were found."""
    flights = "; ".join(offer.line(cabin) for offer in offers)
    return clerk.pick(
        f"I found, in {cabin_words(cabin)} and per passenger: {flights}.",
        f"This is what there is in {cabin_words(cabin)}, per passenger: {flights}.",
    )


def _budget(wish: Wish) -> tuple[str, int] | None:
    """(the better cabin, the most it may cost)."""
    words = fact_of(wish, CABIN)[0].words if fact_of(wish, CABIN) else ""
    found = re.search(r"is to be in ([\w ]+) if everything .* costs no more than (\d+) dollars", words)
    return (found[1].replace(" ", "_"), int(found[2])) if found else None


def _within_budget(clerk: Clerk, booking: Booking, high: str, limit: int) -> Script[None]:
    chosen = booking.cabin
    booking.cabin = high
    dear = yield from clerk.calculate(booking.expression(clerk))
    booking.cabin = chosen
    if chosen == high:
        clerk.note(f"In {cabin_words(high)}, everything comes to ${dear}, which is within your limit of ${limit}.")
    else:
        clerk.note(
            f"In {cabin_words(high)}, everything would come to ${dear}, which is more than ${limit}. So I take "
            f"{cabin_words(chosen)}."
        )


def _needs_early(clerk: Clerk, booking: Booking, correction: Correction | None) -> bool:
    """Whether what is said at first cannot be paid as the user wants to pay: then it is put right before that."""
    if correction is None:
        return False
    return not booking.methods[-1].startswith("credit_card")


TWO_CERTIFICATES = re.compile(
    r"You would like to pay for the new trip with (two of your travel certificates.*?), and to (put the rest on .*?)\. "
    r"If only one certificate is possible, (.+)\.$"
)


def ask_payment(clerk: Clerk, wish: Wish, correction: Correction | None = None) -> Script[None]:
    """How it is paid."""
    facts = fact_of(wish, PAYMENT)
    question = clerk.pick(
        "How would you like to pay?",
        "Which payment methods in your profile would you like to use?",
        "How would you like to pay: with a credit card, a gift card, or a travel certificate from your profile?",
    )
    asked = bool(facts) and not clerk.known(facts[0])
    two = TWO_CERTIFICATES.match(facts[0].words) if facts else None
    if two:
        only = clerk.pick(
            "[sorry] a booking can be paid with one travel certificate at most.",
            "Only one travel certificate can be used for a booking.",
        )
        if not asked:
            clerk.note(f"{only} So I would use the one with the most on it.")
        else:
            clerk.reply(facts)
            yield from clerk.say(question)
            yield from clerk.answer(f"I'd like to pay with {first_person(two[1])}, and {first_person(two[2])}.")
            yield from clerk.say(
                only, clerk.pick("Which one would you like to use?", "How would you like to pay then?")
            )
            yield from clerk.answer(f"Then {first_person(two[3])}.")
    elif asked and correction is None:
        yield from clerk.ask(facts, question)
    elif asked and correction is not None:
        yield from clerk.say(question)
        yield from clerk.answer(f"{clerk.reply(facts)} {correction.words(clerk)}")
    elif correction is not None:
        yield from clerk.say(clerk.pick("Is there anything to correct before I add it up?", "Is all of that right?"))
        yield from clerk.answer(correction.words(clerk))


def lines(clerk: Clerk, wish: Wish, booking: Booking) -> Script[list[str]]:
    """All details of the booking."""
    total = yield from clerk.calculate(booking.expression(clerk))
    parts = split(clerk, booking.methods, total)
    assert parts is not None
    if len(parts) > 1:
        covered = "".join(f" - {amount}" for _, amount in parts[:-1])
        yield from clerk.calculate(booking.expression(clerk) + covered)
    free = min(booking.bags, booking.free(clerk))
    paid = booking.nonfree(clerk)
    bags = f"Checked bags: {booking.bags}"
    if booking.bags:
        bags += f" ({free} free, {paid} at ${BAG} each)" if paid else " (free)"
    number = len(booking.passengers)
    insurance = f"yes (${INSURANCE} per passenger)" if booking.insured else "no"
    kind = "round trip" if wish.writes() and wish.writes()[0].arguments["flight_type"] == "round_trip" else "one way"
    return [
        f"Trip: {kind}, {cabin_words(booking.cabin)}, {number} passenger{'' if number == 1 else 's'}",
        *(f"Flight: {offer.line(booking.cabin)} per passenger" for offer in booking.offers),
        f"Passengers: {people(booking.passengers)}",
        bags,
        f"Travel insurance: {insurance}",
        f"Total: ${total}",
        f"Payment: {listed([f'${amount} with {clerk.method(method)}' for method, amount in parts])}",
    ]


def wrong_payment(clerk: Clerk, wish: Wish) -> Script[None]:
    """As for a booking, up to the payment that the policy forbids."""
    yield from ask_flights(clerk, wish)
    yield from clerk.search(wish.calls)
    yield from ask_passengers(clerk, wish)
    yield from ask_bags_and_insurance(clerk, wish)
    yield from ask_payment(clerk, wish)
