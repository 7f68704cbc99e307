"""The scripted airline agent's way through cancellations and compensations."""

from __future__ import annotations

from slime_tau2.factory.airline.clerk import Clerk, cabin_words, has_flown, refund_words
from slime_tau2.factory.airline.desk import FLOWN
from slime_tau2.factory.airline.shapes import Reservation
from slime_tau2.factory.airline.speech_changes import instruction, other_flights
from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Call, Wish
from slime_tau2.factory.phrasing import ANYTHING_ELSE
from slime_tau2.factory.stories import listed
from slime_tau2.factory.voice import first_person

CANCEL = "cancel_reservation"


def ask_reason(clerk: Clerk, wish: Wish) -> Script[None]:
    """Why the user cancels."""
    yield from clerk.ask(
        [fact for fact in wish.facts if fact.name.startswith("the reason for cancelling")],
        "May I ask for the reason for the cancellation?",
        "Why would you like to cancel: a change of plan, a flight that the airline cancelled, or another reason?",
        "What is the reason for cancelling?",
    )


def cancel(clerk: Clerk, wish: Wish) -> Script[None]:
    """Find it, ask why, check the grounds, list, cancel."""
    reservation = yield from clerk.locate(wish)
    yield from ask_reason(clerk, wish)
    yield from _checked(clerk, wish, reservation)
    call = next(call for call in wish.calls if call.name == CANCEL)
    yield from clerk.carry_out((yield from cancel_lines(clerk, reservation)), [call])
    clerk.note(_cancelled(clerk, reservation))


def _cancelled(clerk: Clerk, reservation: Reservation) -> str:
    number = reservation.reservation_id
    return clerk.pick(
        f"Reservation {number} is cancelled. The refund will arrive within 5 to 7 business days.",
        f"I have cancelled reservation {number}; the money will be back within 5 to 7 business days.",
        f"Done, reservation {number} is cancelled.",
    )


def cancel_lines(clerk: Clerk, reservation: Reservation) -> Script[list[str]]:
    """The details of a cancellation."""
    amount = yield from clerk.total_paid(reservation)
    name = clerk.named(reservation)
    return [f"Cancel {name}", refund_words(amount)]


def _checked(clerk: Clerk, wish: Wish, reservation: Reservation) -> Script[None]:
    """What lets it go; the status of flights that may have left or been cancelled is looked up."""
    statuses = yield from clerk.check_flown(reservation)
    assert not has_flown(statuses)
    why = ground_words(clerk, wish, reservation, statuses)
    if why and clerk.rng.random() < 0.6:
        clerk.note(f"I can cancel it, since {why}.")


def ground_words(clerk: Clerk, wish: Wish, reservation: Reservation, statuses: dict[str, str]) -> str:
    """The ground on which a reservation can be cancelled."""
    holding = {finding.rule for finding in wish.findings if finding.holds}
    if "is_business" in holding and reservation.cabin == "business":
        return "it is a business booking"
    if "booked_within_a_day" in holding:
        return "it was booked within the last 24 hours"
    cancelled = [number for number, status in statuses.items() if status == "cancelled"]
    if "cancelled_by_airline" in holding and cancelled:
        return f"flight {cancelled[0]} was cancelled by the airline"
    if "insured_reason" in holding and reservation.insurance == "yes":
        return "the travel insurance covers your reason"
    return ""


def cancel_every(clerk: Clerk, wish: Wish) -> Script[None]:
    """All trips to come: which can be cancelled, which not."""
    yield from clerk.look_all(call for call in wish.calls if call.name == "get_reservation_details")
    calls = wish.writes()
    free = [clerk.reservations[call.arguments["reservation_id"]] for call in calls]
    coming = [r for number, r in clerk.reservations.items() if number in wish.entities]
    clerk.note(
        f"I looked at your reservations. Those still ahead of you are {listed([r.reservation_id for r in coming])}."
    )
    yield from ask_reason(clerk, wish)
    stuck = [r for r in coming if r not in free]
    if stuck:
        numbers = listed([f"{r.reservation_id} ({cabin_words(r.cabin)}, insurance: {r.insurance})" for r in stuck])
        clerk.note(
            f"I can't cancel {numbers}: that takes a booking of the last 24 hours, a business cabin, a flight "
            "cancelled "
            "by the airline, or insurance that covers the reason."
        )
    lines = []
    for reservation in free:
        amount = yield from clerk.total_paid(reservation)
        lines.append(f"Cancel {clerk.named(reservation)}; refund: ${amount} to the original payment methods")
    yield from clerk.carry_out(lines, calls)
    numbers = listed([r.reservation_id for r in free])
    clerk.note(f"{numbers} {'is' if len(free) == 1 else 'are'} cancelled; refunds take 5 to 7 business days.")


def no_ground_words(clerk: Clerk, reservation: Reservation) -> str:
    """Why a reservation cannot be cancelled."""
    number, cabin = reservation.reservation_id, cabin_words(reservation.cabin)
    if reservation.insurance == "yes":
        insurance = "the travel insurance covers health and weather reasons only"
    else:
        insurance = "it has no travel insurance"
    return clerk.pick(
        f"[sorry] I can't cancel reservation {number}: it is in {cabin}, was booked more than 24 hours ago, no "
        "flight "
        f"of it was cancelled by the airline, and {insurance}.",
        f"Reservation {number} can't be cancelled. It was not booked within the last 24 hours, it is in {cabin} and "
        "not "
        f"in business, the airline has cancelled none of its flights, and {insurance}.",
    )


def cancel_else_flights(clerk: Clerk, wish: Wish) -> Script[None]:
    """What cannot be cancelled is moved."""
    reservation = yield from clerk.locate(wish)
    yield from ask_reason(clerk, wish)
    yield from clerk.check_flown(reservation)
    yield from clerk.say(no_ground_words(clerk, reservation))
    found = instruction(wish, r"If .*, you want to change the flights: (.+)$")
    assert found
    instead = first_person(found[1])
    yield from clerk.answer(
        clerk.voice.pick(f"Then I'd like to change the flights: {instead}", f"OK, then I want to change it: {instead}")
    )
    yield from other_flights(clerk, wish, reservation, wish.writes()[0])


def compensate_cancelled(clerk: Clerk, wish: Wish) -> Script[None]:
    """Confirm the facts, then offer the certificate that the policy allows."""
    reservation = yield from clerk.locate(wish)
    yield from _confirm_facts(clerk, wish)
    yield from _offer(clerk, wish, reservation, 100)


def _confirm_facts(clerk: Clerk, wish: Wish) -> Script[None]:
    for call in wish.calls:
        if call.name == "get_flight_status":
            status = (yield from clerk.look(call)).text
            number = call.arguments["flight_number"]
            clerk.note(
                clerk.pick(
                    f"I'm sorry about that. I can confirm that flight {number} "
                    f"{'was cancelled' if status == 'cancelled' else f'is {status}'}.",
                    f"I have checked flight {number}, and its status is indeed {status}. I'm sorry for the trouble.",
                )
            )


def _offer(clerk: Clerk, wish: Wish, reservation: Reservation, each: int) -> Script[None]:
    call = next(call for call in wish.calls if call.name == "send_certificate")
    yield from clerk.calculate_all(wish.calls)
    amount, number = call.arguments["amount"], len(reservation.passengers)
    demand = instruction(wish, r"Ask for (\d+) dollars at first")
    sums = f": ${each} for each of the {number} passengers" if number > 1 else ""
    offer = clerk.pick(
        f"As a gesture, I can offer you a certificate of ${amount}{sums}.",
        f"I can offer you a certificate over ${amount}{sums}.",
    )
    if demand:
        yield from clerk.say(offer, clerk.pick("Would you like to accept it (yes/no)?", "Do you accept?"))
        yield from clerk.answer(
            clerk.voice.pick(
                f"I'd expect {demand[1]} dollars.", f"That's not much. Can you make it {demand[1]} dollars?"
            )
        )
        offer = clerk.pick(
            f"[sorry] I can't go beyond ${amount}: it is ${each} per passenger.",
            f"[understand] ${each} per passenger is what I can offer, ${amount} in total.",
        )
    yield from clerk.propose(
        [f"Certificate: ${amount}, added to your profile", f"For: {clerk.named(reservation)}"], head=(offer,)
    )
    yield from clerk.answer(clerk.voice.pick("Yes, I accept that.", "Yes, that's fine.", "OK, yes.", "Yes, please."))
    yield from clerk.do([call])
    clerk.note(
        clerk.pick(
            f"The certificate of ${amount} is in your profile now.",
            f"[done] I have sent you the certificate of ${amount}.",
        )
    )


def delayed_cancelled(clerk: Clerk, wish: Wish) -> Script[None]:
    """A late trip is cancelled, and compensated afterwards."""
    reservation = yield from clerk.locate(wish)
    yield from _confirm_facts(clerk, wish)
    yield from ask_reason(clerk, wish)
    statuses = yield from clerk.check_flown(reservation)
    assert not set(statuses.values()) & set(FLOWN)
    yield from clerk.carry_out(
        (yield from cancel_lines(clerk, reservation)), [call for call in wish.calls if call.name == CANCEL]
    )
    clerk.note(f"Reservation {reservation.reservation_id} is cancelled. Now to the delay.")
    yield from _offer(clerk, wish, reservation, 50)


def delayed_changed(clerk: Clerk, wish: Wish) -> Script[None]:
    """A late trip is changed, and compensated when the user asks."""
    reservation = yield from clerk.locate(wish)
    yield from _confirm_facts(clerk, wish)
    call: Call = next(call for call in wish.calls if call.name == "update_reservation_flights")
    yield from other_flights(clerk, wish, reservation, call)
    yield from clerk.say(clerk.pick(*ANYTHING_ELSE))
    yield from clerk.answer(
        clerk.voice.pick(
            "Yes, I'd like a compensation for the delay.",
            "What about a compensation for the delay?",
            "I want to be compensated for the delay.",
        )
    )
    yield from _offer(clerk, wish, reservation, 50)
