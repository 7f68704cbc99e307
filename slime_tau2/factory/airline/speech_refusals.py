"""How the scripted airline agent says no, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from slime_tau2.factory.airline.clerk import Clerk, booked, cabin_words, counted
from slime_tau2.factory.airline.speech_booking import ask_flights, found_words, wrong_payment
from slime_tau2.factory.airline.speech_cancelling import ask_reason, cancel_lines, no_ground_words
from slime_tau2.factory.airline.speech_changes import difference_words, instruction
from slime_tau2.factory.airline.words import day
from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Told, Wish

Refuse = Callable[[Clerk, Wish], Script[None]]


def unidentified(clerk: Clerk, wish: Wish) -> Script[None]:
    """A user who does not know the user id."""
    name, _, user_id = clerk.draft.identity.facts
    yield from clerk.ask([user_id], "May I have your user id, please?", "[may] give me your user id first?")
    yield from clerk.say(
        clerk.pick(
            "[sorry] I need your user id to help you with a reservation.",
            "Without your user id, I can't look at any reservation. Can you find it somewhere, for example in an "
            "email?",
        )
    )
    number = " ".join(clerk.statement(fact) for fact in (*wish.facts, *(() if clerk.known(name) else (name,))))
    yield from clerk.answer(
        clerk.voice.pick(
            f"My name and the reservation number must be enough. {number}", f"I have my name and the number: {number}"
        )
    )
    yield from clerk.say(
        clerk.pick(
            "[understand] a name and a reservation number are not enough: I do need the user id before I can look "
            "at a reservation or change it.",
            "[sorry] I can't go on with a name and a reservation number. It takes the user id.",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick(
            "Then I'll look for my user id and come back another day.", "OK, I'll find the user id and call again."
        )
    )
    clerk.note(clerk.pick("Please do.", "Thank you for understanding.", "That's fine."))


def about(*words: str, accepts: tuple[str, ...] = ()) -> Refuse:
    """The refusal of a wish about a reservation, once that is looked at; '{number}' and more stand for what it has."""

    def refuse(clerk: Clerk, wish: Wish) -> Script[None]:
        reservation = yield from clerk.locate(wish)
        yield from clerk.look_all(wish.calls)
        values = {
            "number": reservation.reservation_id,
            "cabin": cabin_words(reservation.cabin),
            "there": reservation.origin,
            "end": reservation.destination,
            "kind": "round trip" if reservation.flight_type == "round_trip" else "one-way trip",
            "passengers": counted(len(reservation.passengers), "passenger"),
            "bags": counted(reservation.total_baggages, "checked bag"),
            "membership": clerk.profile.membership,
            "insurance": "has travel insurance" if reservation.insurance == "yes" else "has no travel insurance",
        }
        yield from clerk.refuse(wish, *(text.format(**values) for text in words), accepts=accepts)

    return refuse


def too_many(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from clerk.refuse(
        wish,
        "[sorry] a reservation can have five passengers at most.",
        "I can't book that: there can be no more than five passengers in one reservation.",
    )


def no_seats(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from ask_flights(clerk, wish)
    yield from clerk.search(wish.calls)
    found = re.search(r"'flight_number': '(\w+)', 'date': '([\d-]+)'\}\] (\w+)", wish.topic)
    assert found
    offer, cabin = clerk.offers[found[1], found[2]], found[3]
    left = offer.seats[cabin]
    seats = f"only {counted(left, 'seat')} left" if left else "no seats left"
    yield from clerk.refuse(
        wish,
        f"[sorry] flight {offer.number} on {day(offer.date)} has {seats} in {cabin_words(cabin)}"
        f"{', which is not enough' if left else ''}.",
        f"Flight {offer.number} has {seats} in {cabin_words(cabin)} on {day(offer.date)}, so I can't book it for all "
        "of "
        "you."
        if left
        else f"Flight {offer.number} has {seats} in {cabin_words(cabin)} on {day(offer.date)}, so I can't book it.",
    )


def today(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from ask_flights(clerk, wish)
    yield from clerk.search(wish.calls)
    yield from clerk.refuse(
        wish,
        "[sorry] I have searched for direct flights and connections, and there is none for today that can still be "
        "booked.",
        "There is no flight on that route today that can be booked any more, neither direct nor with a stop.",
    )


def two_cabins(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from ask_flights(clerk, wish)
    yield from clerk.search(wish.calls)
    yield from clerk.refuse(
        wish,
        "[sorry] all flights of a reservation have to be in the same cabin.",
        "One reservation can't have two cabins: the way there and the way back have to be in the same one.",
    )


def no_birth_date(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from ask_flights(clerk, wish)
    yield from clerk.search(wish.calls)
    forgotten = [fact for fact in wish.facts if fact.told is Told.FORGOTTEN]
    name = forgotten[0].name.removeprefix("the date of birth of ")
    yield from clerk.ask(
        forgotten,
        f"What is the date of birth of {name}?",
        f"For the booking I need the date of birth of {name}.",
    )
    yield from clerk.say(
        clerk.pick(
            f"[sorry] I can't make a booking without the date of birth of each passenger. Can you find out that of "
            f"{name}?",
            "I need the date of birth of each passenger before I can book. Is there a way for you to find it out?",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick("Not today. I'll call again another day.", "No, not now. Then I'll come back another day.")
    )
    clerk.note(clerk.pick("Please do.", "That's fine.", "Of course."))


def wrong(*words: str) -> Refuse:
    """A booking that fails because of how it is to be paid."""

    def refuse(clerk: Clerk, wish: Wish) -> Script[None]:
        yield from wrong_payment(clerk, wish)
        yield from clerk.refuse(
            wish, *words, accepts=("Then I won't book.", "OK, then I don't book it.", "In that case, no booking.")
        )

    return refuse


def certificate_for_change(clerk: Clerk, wish: Wish) -> Script[None]:
    reservation = yield from clerk.locate(wish)
    yield from clerk.search(wish.calls)
    yield from clerk.ask(
        [fact for fact in wish.facts if fact.name.startswith("the payment for changes")],
        "There is a difference in price. Which payment method would you like to use for it?",
        "How would you like to pay for the difference in price?",
    )
    yield from clerk.refuse(
        wish,
        f"[sorry] a change of reservation {reservation.reservation_id} can be paid with a gift card or a credit "
        "card "
        "only, not with a travel certificate.",
        "A travel certificate can't be used for a change of flights. It takes a gift card or a credit card from your "
        "profile.",
        accepts=("Then leave the trip as it is.", "OK, then I keep the trip as it is."),
    )


def withdrawn(clerk: Clerk, wish: Wish) -> Script[None]:
    reservation = yield from clerk.locate(wish)
    yield from clerk.search(wish.calls)
    keys = re.findall(r"'flight_number': '(\w+)', 'date': '([\d-]+)'", wish.topic)
    kept = {(flight.flight_number, flight.date) for flight in reservation.flights}
    new = [clerk.offers[key] for key in keys if key not in kept]
    old = [flight for flight in reservation.flights if (flight.flight_number, flight.date) not in keys]
    clerk.note(found_words(clerk, new, reservation.cabin))
    terms = " + ".join(str(offer.prices[reservation.cabin]) for offer in new)
    terms += "".join(f" - {flight.price}" for flight in old)
    number = len(reservation.passengers)
    difference = yield from clerk.calculate(f"({terms}) * {number}" if number > 1 else terms)
    yield from clerk.say(
        f"It would take the place of {' and '.join(booked(flight) for flight in old)}.",
        difference_words(clerk, difference)
        + clerk.pick(" Would you like me to make the change (yes/no)?", " Shall I go on with it (yes/no)?"),
    )
    limit = instruction(wish, r".* If that is more than (\d+) dollars")
    assert limit
    yield from clerk.answer(
        clerk.voice.pick(
            f"No, that's more than {limit[1]} dollars. Then I don't want the change.",
            "No, that's too much. Leave it as it is.",
        )
    )
    clerk.note(clerk.pick("All right, nothing has been changed.", "Of course, the trip stays as it is."))


def no_ground(clerk: Clerk, wish: Wish) -> Script[None]:
    reservation = yield from clerk.locate(wish)
    yield from ask_reason(clerk, wish)
    yield from clerk.check_flown(reservation)
    yield from clerk.refuse(
        wish,
        no_ground_words(clerk, reservation),
        firm=(
            "[understand] I can't cancel it: none of the grounds applies.",
            "[sorry] I have to stay with that.",
        ),
        accepts=("I see. Then I keep the trip.", "OK, then leave it as it is.", "Too bad. I keep it, then."),
    )


def kept(clerk: Clerk, wish: Wish) -> Script[None]:
    reservation = yield from clerk.locate(wish)
    yield from ask_reason(clerk, wish)
    yield from clerk.check_flown(reservation)
    yield from clerk.propose((yield from cancel_lines(clerk, reservation)))
    yield from clerk.answer(
        clerk.voice.pick(
            "No, wait. I've changed my mind: I keep the trip.",
            "Hmm, no. I'd rather keep the trip.",
            "No, I've thought again. Leave the trip as it is.",
        )
    )
    clerk.note(clerk.pick("All right, the reservation stays as it is.", "Of course, nothing has been cancelled."))


def _status(clerk: Clerk, wish: Wish) -> Script[tuple[str, str]]:
    """(number, status) of the flight that the user complains of."""
    yield from clerk.look_all(wish.calls)
    call = next(call for call in wish.calls if call.name == "get_flight_status")
    return call.arguments["flight_number"], clerk.results[call.canonical()].text


def not_entitled(clerk: Clerk, wish: Wish) -> Script[None]:
    reservation = yield from clerk.locate(wish)
    number, status = yield from _status(clerk, wish)
    confirmed = "was cancelled" if status == "cancelled" else f"is {status}"
    yield from clerk.refuse(
        wish,
        f"I'm sorry that flight {number} {confirmed}. A compensation is possible for silver and gold members, with "
        "travel "
        f"insurance, or in business; you are a {clerk.profile.membership} member, and reservation "
        f"{reservation.reservation_id} is in {cabin_words(reservation.cabin)} without insurance. So I can't offer one.",
        f"I have checked, and flight {number} {confirmed}; I'm sorry. As a {clerk.profile.membership} member, in "
        f"{cabin_words(reservation.cabin)} and without travel insurance, you are not entitled to a compensation.",
    )


def only_late(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from clerk.locate(wish)
    number, status = yield from _status(clerk, wish)
    yield from clerk.refuse(
        wish,
        f"I'm sorry that flight {number} is {status}. A compensation for a delay is possible only if the reservation "
        "is "
        "changed or cancelled because of it.",
        f"I can confirm that flight {number} is {status}, and I'm sorry. As you keep the trip as it is, I can't "
        "offer a "
        "compensation.",
    )


def not_true(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from clerk.locate(wish)
    number, status = yield from _status(clerk, wish)
    yield from clerk.refuse(
        wish,
        f"I have checked flight {number}: it was not cancelled, its status is {status}. So I can't offer a "
        "compensation.",
        f"According to our records, flight {number} has {status}; it was not cancelled. A compensation isn't possible.",
    )


def complaint_only(clerk: Clerk, wish: Wish) -> Script[None]:
    yield from clerk.locate(wish)
    number, _ = yield from _status(clerk, wish)
    yield from clerk.say(
        clerk.pick(
            f"I'm very sorry about that. I can confirm that flight {number} was cancelled.",
            f"I see that flight {number} was cancelled, and I apologize for the trouble it caused you.",
        )
    )
    yield from clerk.answer(
        clerk.voice.pick("I just wanted to have said it.", "Thank you. I only wanted to say that.", "All right.")
    )
    clerk.note(clerk.pick("Thank you for telling us.", "I understand, and I'm sorry again."))


REFUSED: Mapping[str, Refuse] = {
    "too_many": too_many,
    "foreign_card": wrong(
        "[sorry] a booking can be paid only with payment methods that are already in your profile.",
        "I can't take that card: for safety reasons, the payment method has to be in your profile already.",
    ),
    "two_certificates": wrong(
        "[sorry] only one travel certificate can be used for a booking.",
        "A booking takes one travel certificate at most, so I can't use two.",
    ),
    "two_credit_cards": wrong(
        "[sorry] only one credit card can be used for a booking.",
        "A booking takes one credit card at most, so I can't split it between two.",
    ),
    "four_gift_cards": wrong(
        "[sorry] three gift cards at most can be used for a booking.",
        "A booking takes up to three gift cards, so I can't use four.",
    ),
    "no_seats": no_seats,
    "no_birth_date": no_birth_date,
    "today": today,
    "two_cabins": two_cabins,
    "basic_economy": about(
        "[sorry] reservation {number} is in basic economy, and basic economy flights can't be changed.",
        "Reservation {number} is a basic economy booking; its flights can't be modified.",
    ),
    "other_route": about(
        "[sorry] flights can be changed only if origin and destination stay the same: reservation {number} has to "
        "go "
        "from {there} to {end}.",
        "The route of reservation {number}, {there} to {end}, can't be changed. Other dates or flights would be "
        "possible, "
        "but not another origin or destination.",
    ),
    "other_type": about(
        "[sorry] reservation {number} is a {kind}, and the type of a trip can't be changed.",
        "A {kind} has to stay a {kind}, so I can't do that for reservation {number}.",
    ),
    "certificate_for_change": certificate_for_change,
    "one_flight_up": about(
        "[sorry] the cabin has to be the same on all flights of a reservation, so I can't change it for a part of "
        "reservation {number}.",
        "The cabin can be changed only for all flights of reservation {number} together, not for one part.",
    ),
    "one_passenger_up": about(
        "[sorry] all passengers of reservation {number} fly in the same cabin, so I can't upgrade one of them alone.",
        "A change of cabin applies to all {passengers} of reservation {number}; it isn't possible for one alone.",
    ),
    "cabin_flown": about(
        "[sorry] a part of reservation {number} has already been flown, and then the cabin can't be changed any more.",
        "The cabin of reservation {number} can't be changed: its first flight has been flown already.",
    ),
    "fewer_bags": about(
        "[sorry] checked bags can be added to a reservation, but not taken off. Reservation {number} stays at {bags}.",
        "I can't remove bags from reservation {number}; it's only possible to add some.",
    ),
    "late_insurance": about(
        "[sorry] travel insurance can't be added after the booking, so reservation {number} has to stay without.",
        "Insurance can be bought only at the time of booking. I can't add it to reservation {number} now.",
    ),
    "more_passengers": about(
        "[sorry] the number of passengers of a reservation can't be changed. Reservation {number} is for {passengers}.",
        "I can change the details of passengers, but not their number: reservation {number} stays at {passengers}.",
    ),
    "fewer_passengers": about(
        "[sorry] the number of passengers of a reservation can't be changed. Reservation {number} is for {passengers}.",
        "I can't take a passenger off reservation {number}; the number of passengers has to stay the same.",
    ),
    "no_ground": no_ground,
    "no_insurance": no_ground,
    "not_entitled": not_entitled,
    "only_late": only_late,
    "not_true": not_true,
    "other_complaint": about(
        "I'm sorry about that. A compensation is possible only for cancelled or delayed flights, so I can't offer one.",
        "I apologize for the experience. I can offer a certificate only when a flight was cancelled or delayed, not "
        "for "
        "this.",
    ),
    "complaint_only": complaint_only,
    "kept": kept,
    "withdrawn": withdrawn,
}
