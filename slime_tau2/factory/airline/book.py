"""Book a trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date as Date
from datetime import timedelta

from slime_tau2.factory.airline import payments, policy
from slime_tau2.factory.airline.desk import CABINS, Desk
from slime_tau2.factory.airline.itineraries import Choice, Query, choose, cost, seats
from slime_tau2.factory.airline.people import Person, party, party_words
from slime_tau2.factory.airline.words import CABIN_WORDS, count, day, distinct_methods, method_words, place, plain
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Call, Fact, Told, Wish, read, write
from slime_tau2.factory.stories import remembered

BAG, INSURANCE = 50, 30
"""Dollars for a bag beyond the allowance, and for a passenger's insurance."""


@dataclass(frozen=True, kw_only=True)
class Trip:
    """What is to be booked, but for who pays how.

    Attributes:
        choices: the way there, and the way back if there is one.
        bags: checked bags of all passengers together.
        by_city: the user names cities, and the agent looks up their airports.
    """

    origin: str
    destination: str
    cabin: str
    dates: tuple[str, ...]
    choices: tuple[Choice, ...]
    people: tuple[Person, ...]
    bags: int
    insured: bool
    by_city: bool

    def flights(self) -> list[dict[str, str]]:
        """As the tool takes them."""
        return [leg.argument() for choice in self.choices for leg in choice.option]

    def paid_bags(self, desk: Desk) -> int:
        """Bags beyond the allowance."""
        return max(0, self.bags - len(self.people) * desk.free_bags(self.cabin))

    def total(self, desk: Desk) -> int:
        """Dollars."""
        fare = sum(cost(choice.option) for choice in self.choices) * len(self.people)
        return fare + BAG * self.paid_bags(desk) + INSURANCE * len(self.people) * self.insured

    def sum_words(self, desk: Desk) -> str:
        """The total as the calculator takes it."""
        legs = " + ".join(str(leg.price) for choice in self.choices for leg in choice.option)
        insurance = f" + {INSURANCE} * {len(self.people)}" if self.insured else ""
        return f"({legs}) * {len(self.people)} + {BAG} * {self.paid_bags(desk)}{insurance}"


def plan_trip(desk: Desk, cabin: str) -> Trip | None:
    """A trip by chance that can be booked, each flight of it the only one that the user can mean."""
    rng = desk.rng
    people = party(desk, rng.choice((1, 1, 1, 2, 2, 3, 4, 5)))
    if people is None:
        return None
    flights = list(desk.flights.values())
    origin, destination = rng.choice(flights).origin, rng.choice(flights).destination
    if rng.random() < 0.7:
        route = rng.choice(flights)
        origin, destination = route.origin, route.destination
    dates = desk.open_dates()
    start = rng.choice(dates)
    days: tuple[str, ...] = (start,)
    if rng.random() < 0.4:
        back = (Date.fromisoformat(start) + timedelta(days=rng.randint(2, 7))).isoformat()
        if back not in dates:
            return None
        days = (start, back)
    if origin == destination:
        return None
    choices: list[Choice] = []
    for number, date in enumerate(days):
        ends = (origin, destination) if number == 0 else (destination, origin)
        query = Query(origin=ends[0], destination=ends[1], date=date, cabin=cabin, passengers=len(people))
        choice = choose(desk, query)
        if choice is None:
            return None
        choices.append(choice)
    free = len(people) * desk.free_bags(cabin)
    return Trip(
        origin=origin,
        destination=destination,
        cabin=cabin,
        dates=days,
        choices=tuple(choices),
        people=tuple(people),
        bags=rng.choice((0, 0, *range(1, min(free + 3, 2 * len(people) + 2)))),
        insured=rng.random() < 0.4,
        by_city=plain(desk, origin) is not None and plain(desk, destination) is not None and rng.random() < 0.3,
    )


def book(case: Case) -> Wish | None:
    """One way or round trip, in a cabin that the user names."""
    desk = Desk(case)
    trip = plan_trip(desk, case.rng.choice(CABINS))
    if trip is None:
        return None
    plan = payments.plan(desk, trip.total(desk))
    if plan is None:
        return None
    return _wish(desk, trip, plan, cabin_words=f"The new trip is to be in {CABIN_WORDS[trip.cabin]}.")


def book_budget(case: Case) -> Wish | None:
    """In the better of two cabins if that is not too dear."""
    desk, rng = Desk(case), case.rng
    low, high = rng.choice((("economy", "business"), ("basic_economy", "economy"), ("basic_economy", "business")))
    trip = plan_trip(desk, high)
    if trip is None:
        return None
    # the words choose by price in one cabin: both cabins must lead to the same flights
    if any("cheap" in choice.words for choice in trip.choices) or not _seats_in(desk, trip, low):
        return None
    cheaper = in_cabin(desk, trip, low)
    dear, cheap = trip.total(desk), cheaper.total(desk)
    if rng.random() < 0.5:
        limit, chosen = _round(dear + rng.randint(20, 200)), trip
    else:
        limit, chosen = _round((dear + cheap) // 2), cheaper
    if not (cheap < limit - 5 and abs(dear - limit) > 5 and (dear < limit) == (chosen is trip)):
        return None
    plan = payments.plan(desk, chosen.total(desk))
    if plan is None:
        return None
    words = (
        f"The new trip is to be in {CABIN_WORDS[high]} if everything together, bags and insurance included, costs no "
        f"more than {limit} dollars; otherwise in {CABIN_WORDS[low]}, on the same flights."
    )
    wish = _wish(desk, chosen, plan, cabin_words=words)
    if chosen is trip:
        return wish
    return replace(wish, instructions=(*wish.instructions, f"Ask what it costs in {CABIN_WORDS[high]} first."))


def book_one_certificate(case: Case) -> Wish | None:
    """The user would like to pay with two certificates, and takes one when told."""
    desk, rng = Desk(case), case.rng
    certificates = sorted(desk.methods("certificate"), key=lambda m: -m.amount)
    cards = distinct_methods(desk, desk.methods("credit_card"))
    if len(certificates) < 2 or certificates[0].amount == certificates[1].amount or not cards:
        return None
    trip = plan_trip(desk, rng.choice(CABINS))
    if trip is None or trip.total(desk) <= sum(int(c.amount) for c in certificates[:2]):
        return None
    best, card = certificates[0], rng.choice(cards)
    rest = trip.total(desk) - int(best.amount)
    name = method_words(desk, card)
    words = (
        "You would like to pay for the new trip with two of your travel certificates, those with the most on them, and "
        f"to put the rest on {name}. If only one certificate is possible, use the one with the most on it, and put the "
        f"rest on {name}."
    )
    plan = payments.Plan(((best, int(best.amount)), (card, rest)), words)
    wish = _wish(desk, trip, plan, cabin_words=f"The new trip is to be in {CABIN_WORDS[trip.cabin]}.")
    return replace(wish, tried=(policy.one_certificate(certificates[:2]),))


def in_cabin(desk: Desk, trip: Trip, cabin: str) -> Trip:
    """The same flights in another cabin."""

    def moved(choice: Choice) -> Choice:
        legs = [replace(leg, price=desk.flights[leg.number].dates[leg.date].prices[cabin]) for leg in choice.option]
        return replace(choice, option=tuple(legs))

    return replace(trip, cabin=cabin, choices=tuple(moved(choice) for choice in trip.choices))


def route_words(desk: Desk, trip: Trip) -> str:
    """ "from … to … on May 20", with the way back."""
    name = plain if trip.by_city else place
    words = f"from {name(desk, trip.origin)} to {name(desk, trip.destination)} on {day(trip.dates[0])}"
    return words if len(trip.dates) == 1 else f"{words}, returning on {day(trip.dates[1])}"


def flight_words(choices: Sequence[Choice]) -> str:
    """Which flights the user wants."""
    words = [choice.words for choice in choices]
    if len(words) == 1:
        return f"For the new trip, you want {words[0]}."
    if words[0] == words[1]:
        return f"For the new trip, you want {words[0]}, each way."
    return f"On the way there, the new trip is to be with {words[0]}; on the way back, with {words[1]}."


def bags_words(bags: int) -> str:
    """How many bags are to be checked."""
    return f"You have {count(bags, 'bag')} to check on the new trip{', all together' if bags > 1 else ''}."


def searches(trip: Trip) -> list[Call]:
    """The gold calls that find the flights."""
    airports = [read("list_all_airports")] if trip.by_city else []
    return airports + [search for choice in trip.choices for search in choice.reads]


def facts(desk: Desk, trip: Trip, cabin_words: str, paying: str) -> tuple[Fact, ...]:
    """What the user knows of a trip that is to be booked."""
    rng = desk.rng
    insured = "yes" if trip.insured else "no"
    everyone = ", for everyone" if trip.insured and len(trip.people) > 1 else ""
    return (
        remembered(rng, Fact("the flights that you want to book", flight_words(trip.choices)), at_once=0.6),
        remembered(rng, Fact("the cabin of the new trip", cabin_words), at_once=0.6),
        remembered(rng, Fact("the passengers of the new trip", party_words(trip.people))),
        remembered(rng, Fact("the bags of the new trip", bags_words(trip.bags)), at_once=0.25),
        Fact(
            "your choice about insurance for the new trip",
            f"Asked about travel insurance for the new trip, you say {insured}{everyone}.",
            Told.ASKED,
        ),
        remembered(rng, Fact("the payment for the new trip", paying), at_once=0.25),
    )


def _wish(desk: Desk, trip: Trip, plan: payments.Plan, cabin_words: str) -> Wish:
    rng = desk.rng
    people = [person.argument() for person in trip.people]
    flights, total = trip.flights(), trip.total(desk)
    kind = "one_way" if len(trip.dates) == 1 else "round_trip"
    kind_words = {"one_way": "a one-way trip", "round_trip": "a round trip"}[kind]
    asks = total >= 100 and rng.random() < 0.35
    asking = ("Before you agree, you want to know the total price of the booking.",) if asks else ()
    nonfree = trip.paid_bags(desk)
    bags = policy.Bags(trip.bags, nonfree, len(people), desk.user.membership, trip.cabin)
    calls = searches(trip)
    if len(plan.parts) == 1 or asks:
        calls.append(read("calculate", expression=trip.sum_words(desk)))
    if len(plan.parts) > 1:
        covered = "".join(f" - {amount}" for _, amount in plan.parts[:-1])
        calls.append(read("calculate", expression=trip.sum_words(desk) + covered))
    return Wish(
        about="the booking",
        reason=f"You want to book {kind_words} {route_words(desk, trip)}, for {count(len(people), 'passenger')}.",
        facts=facts(desk, trip, cabin_words, plan.words),
        instructions=(*_second_thoughts(desk, trip), *asking),
        tells=(str(total),) if asks else (),
        calls=(
            read("get_user_details", user_id=desk.user.user_id),
            *calls,
            write(
                "book_reservation",
                any_order=("payment_methods",) if len(plan.parts) > 1 else (),
                in_order=("passengers",) if len(people) > 1 else (),
                user_id=desk.user.user_id,
                origin=trip.origin,
                destination=trip.destination,
                flight_type=kind,
                cabin=trip.cabin,
                flights=flights,
                passengers=people,
                payment_methods=plan.argument(),
                total_baggages=trip.bags,
                nonfree_baggages=nonfree,
                insurance="yes" if trip.insured else "no",
            ),
        ),
        findings=(
            policy.flights_available(desk, flights),
            policy.seats_enough(desk, flights, trip.cabin, len(people)),
            policy.one_cabin([trip.cabin]),
            policy.at_most_five(len(people)),
            policy.passengers_known(people),
            policy.one_certificate(plan.methods()),
            policy.one_credit_card(plan.methods()),
            policy.three_gift_cards(plan.methods()),
            *(policy.in_profile(desk, method.id) for method in plan.methods()),
            policy.bag_allowance(bags),
            policy.bags_as_wished(trip.bags, trip.bags),
            policy.insurance_at_booking(False),
            policy.insurance_as_wished("yes" if trip.insured else "no", trip.insured),
            policy.confirmed(True),
        ),
        entities=plan.ids(),
        sensitive=plan.ids(),
    )


def _second_thoughts(desk: Desk, trip: Trip) -> tuple[str, ...]:
    """Now and then, something else that the user says at first; what the facts have is what counts."""
    kind = desk.rng.random()
    if kind < 0.07:
        other = trip.bags + 1 if desk.rng.random() < 0.5 or not trip.bags else trip.bags - 1
        return (
            f"At first, say that you have {count(other, 'bag')} to check. When the agent lists the details of the "
            f"booking, you correct yourself: it is {count(trip.bags, 'bag')}.",
        )
    if kind < 0.14:
        first, then = ("want", "do without it") if not trip.insured else ("do not want", "take it after all")
        return (
            f"At first, say that you {first} travel insurance. When the agent lists the details of the booking, you "
            f"change your mind, and {then}.",
        )
    return ()


def _seats_in(desk: Desk, trip: Trip, cabin: str) -> bool:
    query = Query(
        origin=trip.origin,
        destination=trip.destination,
        date=trip.dates[0],
        cabin=cabin,
        passengers=len(trip.people),
    )
    return all(seats(desk, choice.option, query) for choice in trip.choices)


def _round(dollars: int) -> int:
    return round(dollars / 50) * 50
