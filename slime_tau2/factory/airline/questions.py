"""Questions with one answer, which the user must be told."""

from __future__ import annotations

from slime_tau2.factory.airline import policy
from slime_tau2.factory.airline.book import BAG
from slime_tau2.factory.airline.change import cabin_quote
from slime_tau2.factory.airline.compensate import flight_words, status_read
from slime_tau2.factory.airline.desk import CABINS, Desk, paid
from slime_tau2.factory.airline.itineraries import Query, choose, cost
from slime_tau2.factory.airline.wishes import LEAST_TOLD
from slime_tau2.factory.airline.words import CABIN_WORDS, count, day, find, place, refer
from slime_tau2.factory.case import Case
from slime_tau2.factory.draft import Fact, Told, Wish, read


def fare(case: Case) -> Wish | None:
    """What a flight costs that the user may book some day."""
    desk, rng = Desk(case), case.rng
    route, date = rng.choice(list(desk.flights.values())), rng.choice(desk.open_dates())
    number, cabin = rng.choice((1, 1, 2, 3, 4)), rng.choice(CABINS)
    query = Query(origin=route.origin, destination=route.destination, date=date, cabin=cabin, passengers=number)
    choice = choose(desk, query)
    if choice is None or cost(choice.option) * number < LEAST_TOLD or choice.words.startswith("whatever"):
        return None
    words = choice.words.removesuffix(f" in {CABIN_WORDS[cabin]}")
    travellers = "one passenger" if number == 1 else f"{count(number, 'passenger')} together"
    return Wish(
        about="your question",
        reason=f"You want to know what {words} from {place(desk, route.origin)} to "
        f"{place(desk, route.destination)} on {day(date)} costs in {CABIN_WORDS[cabin]} for {travellers}, without bags "
        "or insurance. You do not want to book it today.",
        calls=choice.reads,
        findings=(policy.information(True),),
        tells=(str(cost(choice.option) * number),),
        topic=f"{choice.option} {cabin} {number}",
    )


def flight_number(case: Case) -> Wish | None:
    """Which flight is the one that the user means."""
    desk, rng = Desk(case), case.rng
    route, date = rng.choice(list(desk.flights.values())), rng.choice(desk.open_dates())
    cabin = rng.choice(CABINS)
    query = Query(origin=route.origin, destination=route.destination, date=date, cabin=cabin, passengers=1)
    choice = choose(desk, query)
    if choice is None or len(choice.option) > 1 or choice.words.startswith(("flight ", "whatever")):
        return None
    words = choice.words.removesuffix(f" in {CABIN_WORDS[cabin]}")
    return Wish(
        about="your question",
        reason=f"You want to know the flight number of {words} from {place(desk, route.origin)} to "
        f"{place(desk, route.destination)} on {day(date)}, with a free seat in {CABIN_WORDS[cabin]}. You only want the "
        "number.",
        calls=choice.reads,
        findings=(policy.information(True),),
        tells=(choice.option[0].number,),
        topic=f"{choice.option} {choice.words}",
    )


def trip_cost(case: Case) -> Wish | None:
    """What a trip cost, everything included."""
    desk = Desk(case)
    found = [r for r in desk.untouched() if paid(r) >= LEAST_TOLD]
    if not found:
        return None
    reservation = case.rng.choice(found)
    reference = refer(desk, reservation)
    return Wish(
        about="your question",
        reason=f"You want to know how much you paid for {reference.words} in total.",
        facts=reference.facts,
        calls=reference.reads,
        findings=(policy.reservation_found(desk, reservation), policy.information(True)),
        tells=(str(paid(reservation)),),
        topic=f"cost {reservation.reservation_id}",
        entities=frozenset({reservation.reservation_id}),
    )


def coming_cost(case: Case) -> Wish | None:
    """What the trips to come cost together."""
    desk = Desk(case)
    coming = [r for r in desk.reservations if set(desk.statuses(r)) == {"available"}]
    past = [r for r in desk.reservations if set(desk.statuses(r)) == {"landed"}]
    if len(coming) < 2 or len(coming) + len(past) < len(desk.reservations) or case.wishes:
        return None
    return Wish(
        about="your question",
        reason="You want to know how much you have paid, all together, for the trips that you have still ahead of you.",
        facts=(Fact("the reservation numbers of your trips", "", Told.FORGOTTEN),),
        calls=tuple(call for r in desk.reservations for call in find(desk, r, known=True)),
        findings=(policy.information(True),),
        tells=(str(sum(map(paid, coming))),),
        topic="coming",
        sensitive=frozenset(r.reservation_id for r in coming),
    )


def bag_fee(case: Case) -> Wish | None:
    """What the bags that the user may bring would cost; none are added."""
    desk, rng = Desk(case), case.rng
    found = [r for r in desk.upcoming() if r.nonfree_baggages == 0]
    if not found:
        return None
    reservation = rng.choice(found)
    free = len(reservation.passengers) * desk.free_bags(reservation.cabin)
    extra = rng.randint(2, 5)
    reference = refer(desk, reservation)
    nonfree = policy.Bags(free + extra, extra, len(reservation.passengers), desk.user.membership, reservation.cabin)
    return Wish(
        about="your question",
        reason=f"You want to know what you would have to pay for bags on {reference.words} if you checked "
        f"{count(free + extra, 'bag')} in all on it. You only ask, and do not add any now.",
        facts=reference.facts,
        calls=reference.reads,
        findings=(policy.reservation_found(desk, reservation), policy.bag_allowance(nonfree), policy.information(True)),
        tells=(str(BAG * extra),),
        topic=f"bags {reservation.reservation_id} {free + extra}",
        entities=frozenset({reservation.reservation_id}),
    )


def cabin_price(case: Case) -> Wish | None:
    """What another cabin would cost more or less; nothing is changed."""
    desk, rng = Desk(case), case.rng
    found = desk.upcoming()
    if not found:
        return None
    reservation = rng.choice(found)
    cabin = rng.choice([c for c in CABINS if c != reservation.cabin])
    difference = cabin_quote(desk, reservation, cabin)
    if difference is None or abs(difference) < LEAST_TOLD:
        return None
    reference = refer(desk, reservation)
    searches = [
        read("search_direct_flight", origin=f.origin, destination=f.destination, date=f.date)
        for f in reservation.flights
    ]
    what = "would cost you in addition" if difference > 0 else "would bring you back"
    return Wish(
        about="your question",
        reason=f"You want to know what a change of {reference.words} to {CABIN_WORDS[cabin]} {what}, on the same "
        "flights and for everyone on it. You only ask, and leave the trip as it is.",
        facts=reference.facts,
        calls=(*reference.reads, *searches),
        findings=(
            policy.reservation_found(desk, reservation),
            policy.cabin_before_flight(desk, reservation),
            policy.information(True),
        ),
        tells=(str(abs(difference)),),
        topic=f"cabin {cabin} {reservation.reservation_id}",
        entities=frozenset({reservation.reservation_id}),
    )


def balance(case: Case) -> Wish | None:
    """What is left on all gift cards, or on all certificates."""
    desk, rng = Desk(case), case.rng
    source, words = rng.choice((("gift_card", "gift cards"), ("certificate", "travel certificates")))
    methods = desk.methods(source)
    amount = sum(int(method.amount) for method in methods)
    sent = any(call.name == "send_certificate" for wish in case.wishes for call in wish.calls)
    if amount < LEAST_TOLD or (sent and source == "certificate"):
        return None
    return Wish(
        about="your question",
        reason=rng.choice(
            (
                f"You want to know how much money you have on your {words} in total.",
                f"You want to hear the sum of what is left on all your {words}.",
            )
        ),
        calls=(read("get_user_details", user_id=case.owner),),
        findings=(policy.information(True),),
        tells=(str(amount),),
        topic=f"balance {source}",
        sensitive=frozenset(method.id for method in methods),
    )


def status(case: Case) -> Wish | None:
    """How it stands with a flight of today."""
    desk, rng = Desk(case), case.rng
    found = [
        (reservation, flight)
        for reservation in desk.untouched()
        for flight in reservation.flights
        if desk.status(flight) in ("delayed", "on time")
    ]
    if not found:
        return None
    reservation, flight = rng.choice(found)
    reference = refer(desk, reservation)
    return Wish(
        about="your question",
        reason=f"You want to know how {flight_words(desk, flight)}, part of {reference.words}, stands today. You only "
        "want to know that.",
        facts=reference.facts,
        calls=(*reference.reads, status_read(flight)),
        findings=(policy.information(True),),
        tells=(desk.status(flight),),
        topic=f"status {flight.flight_number} {flight.date}",
        entities=frozenset({reservation.reservation_id}),
    )
