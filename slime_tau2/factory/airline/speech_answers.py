"""The scripted airline agent's answers to questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from slime_tau2.factory.airline.book import BAG
from slime_tau2.factory.airline.clerk import Clerk, cabin_words
from slime_tau2.factory.airline.speech_changes import cabin_quote, free_words
from slime_tau2.factory.airline.words import CABIN_WORDS
from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Wish
from slime_tau2.factory.stories import listed


def answer(clerk: Clerk, wish: Wish) -> Script[None]:
    """Look up what is needed, and say the answer with whatever is said next."""
    clerk.note((yield from ANSWERS[wish.family](clerk, wish)))
    clerk.helped = True


def fare(clerk: Clerk, wish: Wish) -> Script[str]:
    """What a flight costs."""
    yield from clerk.search(wish.calls)
    keys = re.findall(r"number='(\w+)', date='([\d-]+)'", wish.topic)
    offers = [clerk.offers[key] for key in keys]
    cabin, number = wish.topic.split()[-2:]
    sums = " + ".join(str(offer.prices[cabin]) for offer in offers)
    if len(offers) > 1 or number != "1":
        amount = yield from clerk.calculate(f"({sums}) * {number}" if number != "1" else sums)
    else:
        amount = offers[0].prices[cabin]
    lines = "; then ".join(offer.line(cabin) for offer in offers)
    many = f" per passenger, ${amount} for {number} passengers together" if number != "1" else f": ${amount} in total"
    return f"In {cabin_words(cabin)}, it would be {lines}{many}."


def flight_number(clerk: Clerk, wish: Wish) -> Script[str]:
    """Which flight it is."""
    yield from clerk.search(wish.calls)
    found = re.search(r"number='(\w+)', date='([\d-]+)'", wish.topic)
    assert found
    offer = clerk.offers[found[1], found[2]]
    return clerk.pick(
        f"That is flight {offer.number}, which leaves {offer.origin} at {offer.departure[:5]}.",
        f"The flight number is {offer.number}; it departs at {offer.departure[:5]}.",
    )


def trip_cost(clerk: Clerk, wish: Wish) -> Script[str]:
    """What a trip cost."""
    reservation = yield from clerk.locate(wish)
    amount = yield from clerk.total_paid(reservation)
    return clerk.pick(
        f"You paid ${amount} in total for reservation {reservation.reservation_id}.",
        f"The total of reservation {reservation.reservation_id} is ${amount}.",
    )


def coming_cost(clerk: Clerk, wish: Wish) -> Script[str]:
    """What the trips to come cost together."""
    yield from clerk.look_all(wish.calls)
    amounts: list[str] = []
    for reservation in list(clerk.reservations.values()):
        if reservation.reservation_id in wish.sensitive:
            amount = yield from clerk.total_paid(reservation)
            amounts.append(str(amount))
    yield from clerk.calculate(" + ".join(amounts))
    numbers = [r.reservation_id for r in clerk.reservations.values() if r.reservation_id in wish.sensitive]
    return f"Your trips ahead are {listed(numbers)}; you have paid ${wish.tells[0]} for them all together."


def bag_fee(clerk: Clerk, wish: Wish) -> Script[str]:
    """What bags would cost."""
    reservation = yield from clerk.locate(wish)
    total = int(wish.topic.split()[-1])
    number, each = len(reservation.passengers), clerk.free_bags(reservation.cabin)
    free = (yield from clerk.calculate(f"{each} * {number}")) if number > 1 and each else each * number
    amount = yield from clerk.calculate(f"{BAG} * ({total} - {free})")
    return (
        f"{free_words(clerk, reservation)} With {total} bags on reservation {reservation.reservation_id}, you would "
        "pay "
        f"${BAG} for each of the other {total - free}, ${amount} in total."
    )


def cabin_price(clerk: Clerk, wish: Wish) -> Script[str]:
    """What another cabin would cost."""
    reservation = yield from clerk.locate(wish)
    cabin = next(name for name in CABIN_WORDS if name == wish.topic.split()[1])
    difference = yield from cabin_quote(clerk, reservation, cabin)
    more = f"cost ${difference} more" if difference > 0 else f"bring you ${-difference} back"
    return (
        f"To change reservation {reservation.reservation_id} from {cabin_words(reservation.cabin)} to "
        f"{cabin_words(cabin)} on the same flights would {more} in total."
    )


def balance(clerk: Clerk, wish: Wish) -> Script[str]:
    """What is left on gift cards or certificates."""
    yield from clerk.look_at_balances()
    source = wish.topic.split()[-1]
    methods = [m for m in clerk.profile.payment_methods.values() if m.source == source and m.amount >= 1]
    words = {"gift_card": "gift card", "certificate": "travel certificate"}[source]
    if len(methods) == 1:
        return f"You have one {words}, with ${wish.tells[0]} on it."
    total = yield from clerk.calculate(" + ".join(str(int(method.amount)) for method in methods))
    each = listed([f"${int(method.amount)}" for method in methods])
    return f"You have {len(methods)} {words}s, with {each} on them: ${total} in total."


def status(clerk: Clerk, wish: Wish) -> Script[str]:
    """How it stands with a flight."""
    yield from clerk.locate(wish)
    yield from clerk.look_all(wish.calls)
    number = wish.topic.split()[1]
    return clerk.pick(f"Flight {number} is {wish.tells[0]}.", f"The status of flight {number} is: {wish.tells[0]}.")


ANSWERS: Mapping[str, Callable[[Clerk, Wish], Script[str]]] = {
    "fare": fare,
    "flight_number": flight_number,
    "trip_cost": trip_cost,
    "coming_cost": coming_cost,
    "bag_fee": bag_fee,
    "cabin_price": cabin_price,
    "balance": balance,
    "status": status,
}
