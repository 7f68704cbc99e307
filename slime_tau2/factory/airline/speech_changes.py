"""The scripted airline agent's way through changes of a reservation: flights, cabin, passengers, bags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slime_tau2.factory.airline.book import BAG
from slime_tau2.factory.airline.clerk import Clerk, Offer, booked, cabin_words, counted, person
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Call, Fact, Wish
from slime_tau2.factory.phrasing import ANYTHING_ELSE
from slime_tau2.factory.stories import listed


def instruction(wish: Wish, pattern: str) -> re.Match[str] | None:
    """The instruction of a wish that begins as a pattern."""
    return next((found for line in wish.instructions if (found := re.match(pattern, line))), None)


def paying(wish: Wish) -> list[Fact]:
    """What the user says of the payment."""
    return [fact for fact in wish.facts if fact.name.startswith("the payment for")]


def flights(clerk: Clerk, wish: Wish) -> Script[None]:
    """Other flights."""
    reservation = yield from clerk.locate(wish)
    yield from other_flights(clerk, wish, reservation, wish.writes()[0])


def other_flights(clerk: Clerk, wish: Wish, reservation: Reservation, call: Call) -> Script[None]:
    """Search, say what it costs, list, and change."""
    difference = yield from quote_flights(clerk, wish, reservation, call)
    yield from ask_payment(clerk, wish, difference)
    yield from clerk.carry_out((yield from change_lines(clerk, reservation, call, difference)), [call])
    clerk.note(
        clerk.pick(
            f"Reservation {reservation.reservation_id} has been changed.",
            f"[done] the new flights are in reservation {reservation.reservation_id}.",
            "The flights have been changed.",
        )
    )


def quote_flights(clerk: Clerk, wish: Wish, reservation: Reservation, call: Call) -> Script[int]:
    """What the new flights of a call cost more than the old; the agent notes which they are."""
    yield from clerk.search(wish.calls)
    new = new_offers(clerk, reservation, call)
    cabin: str = call.arguments["cabin"]
    clerk.note(
        clerk.pick("I found this:", "This fits:", "There is this option:")
        + f" {' and '.join(offer.line(cabin) for offer in new)} per passenger."
        if len(new) == 1
        else f"I found this connection: {'; then '.join(offer.line(cabin) for offer in new)}, per passenger."
    )
    old = replaced(reservation, call)
    terms = f"{' + '.join(str(offer.prices[cabin]) for offer in new)} - {' - '.join(str(f.price) for f in old)}"
    number = len(reservation.passengers)
    return (yield from clerk.calculate(f"({terms}) * {number}" if number > 1 else terms))


def new_offers(clerk: Clerk, reservation: Reservation, call: Call) -> list[Offer]:
    """The flights of a call that the reservation has not."""
    kept = {(flight.flight_number, flight.date) for flight in reservation.flights}
    legs = [(leg["flight_number"], leg["date"]) for leg in call.arguments["flights"]]
    return [clerk.offers[leg] for leg in legs if leg not in kept]


def replaced(reservation: Reservation, call: Call) -> list:  # type: ignore[type-arg]
    """The flights of a reservation that a call takes out."""
    legs = {(leg["flight_number"], leg["date"]) for leg in call.arguments["flights"]}
    return [flight for flight in reservation.flights if (flight.flight_number, flight.date) not in legs]


def difference_words(clerk: Clerk, difference: int) -> str:
    """What a change comes to."""
    if difference > 0:
        return clerk.pick(
            f"The change costs ${difference} more in total.", f"The price difference is ${difference} in total."
        )
    return clerk.pick(f"You would get ${-difference} back in total.", f"That is ${-difference} less in total.")


def ask_payment(clerk: Clerk, wish: Wish, difference: int) -> Script[None]:
    """How the difference is settled."""
    question = clerk.pick(
        "Which credit card or gift card in your profile should I use for that?",
        "Would you like to use a gift card or a credit card for that, and which one?",
        "How would you like to settle it: with which credit card or gift card?",
    )
    clerk.note(difference_words(clerk, difference))
    yield from clerk.ask(paying(wish), question)


def settled(clerk: Clerk, difference: int, method_id: str) -> str:
    """The line about the difference."""
    if difference > 0:
        return f"To pay: ${difference}, with {clerk.method(method_id)}"
    return f"Refund: ${-difference}, to {clerk.method(method_id)}"


def change_lines(clerk: Clerk, reservation: Reservation, call: Call, difference: int) -> Script[list[str]]:
    """The details of a change of flights."""
    method: str = call.arguments["payment_id"]
    if method.startswith("gift_card"):
        yield from clerk.look_at_balances()
    cabin: str = call.arguments["cabin"]
    lines = [
        f"Reservation: {reservation.reservation_id}, {counted(len(reservation.passengers), 'passenger')}, "
        f"{cabin_words(cabin)}"
    ]
    lines += [f"Instead of: {booked(flight)}" for flight in replaced(reservation, call)]
    lines += [f"New: {offer.line(cabin)} per passenger" for offer in new_offers(clerk, reservation, call)]
    kept = {(leg["flight_number"], leg["date"]) for leg in call.arguments["flights"]}
    same = [booked(f) for f in reservation.flights if (f.flight_number, f.date) in kept]
    if same:
        lines.append(f"Unchanged: {listed(same)}")
    return [*lines, settled(clerk, difference, method)]


def cabin(clerk: Clerk, wish: Wish) -> Script[None]:
    """Another cabin."""
    reservation = yield from clerk.locate(wish)
    yield from other_cabin(clerk, wish, reservation, wish.writes()[0])


def cabin_quote(clerk: Clerk, reservation: Reservation, new: str) -> Script[int]:
    """What another cabin costs more on the same flights."""
    yield from clerk.look_at_flights(reservation.flights)
    offers = [clerk.offers[flight.flight_number, flight.date] for flight in reservation.flights]
    terms = " + ".join(str(offer.prices[new]) for offer in offers)
    terms += "".join(f" - {flight.price}" for flight in reservation.flights)
    number = len(reservation.passengers)
    return (yield from clerk.calculate(f"({terms}) * {number}" if number > 1 else terms))


def other_cabin(clerk: Clerk, wish: Wish, reservation: Reservation, call: Call) -> Script[None]:
    """Say what it costs, list, and change."""
    new: str = call.arguments["cabin"]
    difference = yield from cabin_quote(clerk, reservation, new)
    yield from ask_payment(clerk, wish, difference)
    method: str = call.arguments["payment_id"]
    if method.startswith("gift_card"):
        yield from clerk.look_at_balances()
    number = len(reservation.passengers)
    lines = [
        f"Reservation: {reservation.reservation_id}, from {reservation.origin} to {reservation.destination}",
        f"Cabin: from {cabin_words(reservation.cabin)} to {cabin_words(new)} on all flights"
        + (f", for all {number} passengers" if number > 1 else ""),
        f"Flights: unchanged ({listed([flight.flight_number for flight in reservation.flights])})",
        settled(clerk, difference, method),
    ]
    yield from clerk.carry_out(lines, [call])
    clerk.note(
        clerk.pick(
            f"[done] reservation {reservation.reservation_id} is now in {cabin_words(new)}.",
            f"Your reservation is in {cabin_words(new)} now.",
        )
    )


def cabin_then_flights(clerk: Clerk, wish: Wish) -> Script[None]:
    """Basic economy: no other flights before another cabin."""
    reservation = yield from clerk.locate(wish)
    first, second = wish.writes()
    new = cabin_words(first.arguments["cabin"])
    yield from clerk.say(
        clerk.pick(
            f"[sorry] reservation {reservation.reservation_id} is in basic economy, and basic economy flights can't "
            "be changed.",
            f"Reservation {reservation.reservation_id} is a basic economy booking, so its flights can't be modified.",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick(
            f"Then please upgrade it to {new}, on the flights as they are.",
            f"Can I upgrade to {new} first, on the same flights?",
            f"In that case I'd like an upgrade to {new} on the flights as they are.",
        )
    )
    yield from other_cabin(clerk, wish, reservation, first)
    yield from clerk.say(clerk.pick(*ANYTHING_ELSE))
    yield from clerk.answer(
        clerk.voice.pick(
            "Yes, now please change the flights as I said.",
            "Now that it's changed, I'd like the other flights that I asked for.",
            "Yes. Can I have the other flights now?",
        )
    )
    yield from other_flights(clerk, wish, clerk.reservations[reservation.reservation_id], second)


def passengers(clerk: Clerk, wish: Wish) -> Script[None]:
    """Other passengers, or other details of them."""
    reservation = yield from clerk.locate(wish)
    yield from clerk.ask(
        [fact for fact in wish.facts if fact.name.startswith("the new details")],
        "What should be changed about the passengers?",
        "Which passenger is it, and what are the new details (name and date of birth)?",
        "Please tell me whose details are to change, and the new name or date of birth.",
    )
    call = wish.writes()[0]
    new: Sequence[dict[str, str]] = call.arguments["passengers"]
    lines = [f"Reservation: {reservation.reservation_id}, from {reservation.origin} to {reservation.destination}"]
    for old, after in zip(reservation.passengers, new, strict=True):
        before = {"first_name": old.first_name, "last_name": old.last_name, "dob": old.dob}
        if before != after:
            lines.append(f"Change {person(before)} to {person(after)}")
        else:
            lines.append(f"Unchanged: {person(before)}")
    yield from clerk.carry_out(lines, [call])
    clerk.note(
        clerk.pick(
            f"The passengers of reservation {reservation.reservation_id} have been updated.",
            "Done, the new details are in the reservation.",
        )
    )


def free_words(clerk: Clerk, reservation: Reservation) -> str:
    """How many bags are free on a reservation."""
    number, each = len(reservation.passengers), clerk.free_bags(reservation.cabin)
    member = f"As a {clerk.profile.membership} member"
    cabin = cabin_words(reservation.cabin)
    if not each:
        return f"{member}, you have no free checked bags in {cabin}."
    words = f"{member}, you have {counted(each, 'free checked bag')} per passenger in {cabin}"
    return f"{words}." if number == 1 else f"{words}, {each * number} for the {number} of you."


def add_bags(clerk: Clerk, wish: Wish) -> Script[None]:
    """More checked bags."""
    reservation = yield from clerk.locate(wish)
    call = wish.writes()[0]
    total, nonfree = call.arguments["total_baggages"], call.arguments["nonfree_baggages"]
    yield from clerk.calculate_all(wish.calls)
    extra = nonfree - reservation.nonfree_baggages
    price = (yield from clerk.calculate(f"{BAG} * {extra}")) if extra > 1 else BAG * extra
    allowance = free_words(clerk, reservation)
    added = "the added bag is" if total - reservation.total_baggages == 1 else "the added bags are"
    if extra:
        many = f"{extra} of the added bags would cost ${BAG} each, ${price} in total."
        clerk.note(f"{allowance} {many if extra > 1 else f'One of the added bags would cost ${price}.'}")
    else:
        clerk.note(f"{allowance} So {added} free.")
    yield from clerk.ask(
        paying(wish),
        clerk.pick("Which payment method in your profile would you like to use?", "How would you like to pay for that?")
        if extra
        else "I still need a payment method, though nothing has to be paid: which one in your profile should it be?",
    )
    method: str = call.arguments["payment_id"]
    if method.startswith("gift_card"):
        yield from clerk.look_at_balances()
    lines = [
        f"Reservation: {reservation.reservation_id}, from {reservation.origin} to {reservation.destination}",
        f"Checked bags: from {reservation.total_baggages} to {total} in total, {nonfree} of them paid",
        f"To pay: ${price}, with {clerk.method(method)}" if extra else f"To pay: nothing ({clerk.method(method)})",
    ]
    yield from clerk.carry_out(lines, [call])
    clerk.note(
        clerk.pick(
            f"[done] reservation {reservation.reservation_id} has {counted(total, 'checked bag')} now.",
            f"The {'bag has' if total - reservation.total_baggages == 1 else 'bags have'} been added.",
        )
    )
