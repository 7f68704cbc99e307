"""Airline's factory: the policy once more in other words, the choice of flights, and that no valid other write earns the
reward.
"""

import json
import re
from collections import Counter
from itertools import pairwise

import factory_proofs as proofs
import pytest

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.factory import build, traces
from slime_tau2.factory.airline import AIRLINE, words
from slime_tau2.factory.airline.desk import current_time
from slime_tau2.verification.verify import Verifier

NEVER_BROKEN = {
    "confirmed",  # only by a user who finds it too dear
    "information",
    "bags_as_wished",
    "insurance_as_wished",
    "reservation_found",
}


@pytest.fixture(scope="module")
def world():
    return worlds.load("airline")


@pytest.fixture(scope="module")
def db(world):
    return world.environments.base.tools.db


@pytest.fixture(scope="module")
def made():
    return build.make("airline", 900, seed=11)


def test_every_rule_is_met_and_broken_and_every_tool_used(made):
    covered = build.coverage("airline", made)
    for rule, (holds, broken) in covered.rules.items():
        assert holds >= 1 or rule in ("in_scope", "insurance_at_booking"), rule
        assert broken >= 1 or rule in NEVER_BROKEN, rule
    assert all(number >= 15 for number in covered.tools.values()), covered.tools
    assert all(number >= 1 for number in covered.families.values()), covered.families
    assert Counter(len(draft.wishes) for _, draft in made).keys() == {1, 2, 3}
    assert max(draft.difficulty for _, draft in made) >= 8


def test_the_order_of_every_list_is_free_or_fixed_and_says_so(made, world):
    """Check 7 finds none that decides and that nothing is declared of; payments may come in any order."""
    mine = traces.world_of("airline", made)
    verifier = Verifier(mine, world, checks={7})
    free, fixed = Counter(), Counter()
    for task, _ in made[:300]:
        verdict = verifier.verify(mine.task(task["id"]))
        assert verdict.findings == (), task["id"]
        free.update(name for names in verdict.order_only.values() for name in names)
        fixed.update(name for names in verdict.order_fixed.values() for name in names)
    assert free.keys() == {"payment_methods"} and free["payment_methods"] >= 10
    assert fixed.keys() == {"flights", "passengers"} and fixed["passengers"] >= 20


def test_each_family_makes_tasks_that_gold_solves(world):
    beside = {"cancel": ("book", "cancel"), "passengers_too": ("change_cabin", "passengers_too")}
    beside["bags_too"] = ("change_cabin", "bags_too")
    for name in AIRLINE.families:
        recipe = beside.get(name, (name,))
        for task, draft in build.make("airline", 2, seed=3, mix={recipe: 1.0}):
            assert draft.families == recipe
            assert proofs.gold(world, bench.Task.model_validate(task), draft) == 1.0, task["id"]


def writes_before(world, draft):
    """(write, the database before it) of a draft's gold calls."""
    environment = world.environments.fresh()
    for call in draft.calls():
        if call.write:
            yield call, environment.tools.db
        environment.make_tool_call(
            tool_name=call.name, requestor=call.requestor, **json.loads(json.dumps(call.arguments))
        )


def story_of(task):
    instructions = task["user_scenario"]["instructions"]
    parts = ("reason_for_call", "known_info", "unknown_info", "task_instructions")
    return "\n".join(instructions[part] or "" for part in parts)


FREE = {"basic_economy": (0, 1, 2), "economy": (1, 2, 3), "business": (2, 3, 4)}


def free_bags(user, cabin, passengers):
    return FREE[cabin][("regular", "silver", "gold").index(user.membership)] * passengers


def test_bookings_are_as_the_policy_says(world, made):
    seen = 0
    for _, draft in made:
        for call, db in writes_before(world, draft):
            if call.name != "book_reservation":
                continue
            seen += 1
            a, user = call.arguments, db.users[draft.owner]
            assert len(a["passengers"]) <= 5
            kinds = Counter(user.payment_methods[p["payment_id"]].source for p in a["payment_methods"])
            assert kinds["certificate"] <= 1 and kinds["credit_card"] <= 1 and kinds["gift_card"] <= 3
            assert all(p["amount"] > 0 for p in a["payment_methods"])
            free = free_bags(user, a["cabin"], len(a["passengers"]))
            assert a["nonfree_baggages"] == max(0, a["total_baggages"] - free)
            stops = [db.flights[f["flight_number"]] for f in a["flights"]]
            assert stops[0].origin == a["origin"]
            ends = [stop.destination for stop in stops]
            assert ends[-1] == a["destination"] if a["flight_type"] == "one_way" else a["origin"]
            assert all(one.destination == other.origin for one, other in pairwise(stops))
            dates = [f["date"] for f in a["flights"]]
            assert dates == sorted(dates)
    assert seen > 150


def status(db, flight):
    return db.flights[flight.flight_number].dates[flight.date].status


def test_cancellations_have_a_ground(world, made):
    grounds = Counter()
    for task, draft in made:
        for call, db in writes_before(world, draft):
            if call.name != "cancel_reservation":
                continue
            r = db.reservations[call.arguments["reservation_id"]]
            statuses = [status(db, flight) for flight in r.flights]
            assert not {"landed", "flying"} & set(statuses), task["id"]
            story = story_of(task)
            well = re.search(r"ill and|leg and|doctor|operation|storm|weather", story)
            ground = (
                ("recent", r.created_at >= "2024-05-14T15:00:00"),
                ("airline", "cancelled" in statuses),
                ("business", r.cabin == "business"),
                ("insured", r.insurance == "yes" and well is not None),
            )
            holding = [name for name, holds in ground if holds]
            assert holding, task["id"]
            grounds.update(holding)
    assert grounds.keys() == {"recent", "airline", "business", "insured"}


def test_refused_cancellations_have_none(db, made):
    for task, draft in made:
        for wish in draft.wishes:
            if wish.family in ("no_ground", "no_insurance"):
                (number,) = wish.entities
                r = db.reservations[number]
                assert r.cabin != "business" and r.created_at < "2024-05-14T15:00:00"
                assert {status(db, flight) for flight in r.flights} == {"available"}
                assert wish.family == "no_ground" or r.insurance == "no", task["id"]


def test_changes_keep_what_the_policy_keeps(world, made):
    for task, draft in made:
        for call, db in writes_before(world, draft):
            a = call.arguments
            r = db.reservations.get(a.get("reservation_id"))
            user = db.users[draft.owner]
            if call.name == "update_reservation_flights":
                old = [(f.flight_number, f.date) for f in r.flights]
                new = [(f["flight_number"], f["date"]) for f in a["flights"]]
                stops = [db.flights[number] for number, _ in new]
                assert (a["cabin"] == r.cabin) != (old == new), "one thing at a time"
                assert old == new or r.cabin != "basic_economy", task["id"]
                assert stops[0].origin == r.origin
                assert stops[-1].destination == (r.destination if r.flight_type == "one_way" else r.origin)
                assert r.destination in [stop.destination for stop in stops]
                assert user.payment_methods[a["payment_id"]].source != "certificate"
                if old == new:
                    assert {status(db, flight) for flight in r.flights} == {"available"}
            elif call.name == "update_reservation_baggages":
                free = free_bags(user, r.cabin, len(r.passengers))
                assert a["total_baggages"] > r.total_baggages
                assert a["nonfree_baggages"] == max(0, a["total_baggages"] - free)
                assert user.payment_methods[a["payment_id"]].source != "certificate"
            elif call.name == "update_reservation_passengers":
                assert len(a["passengers"]) == len(r.passengers)


def test_certificates_are_for_whom_the_policy_compensates(world, made):
    amounts = Counter()
    for task, draft in made:
        for call, db in writes_before(world, draft):
            if call.name != "send_certificate":
                continue
            wish = next(w for w in draft.wishes if call in w.calls)
            r = next(db.reservations[e] for e in wish.entities if e in db.reservations)
            user, statuses = db.users[draft.owner], [status(db, flight) for flight in r.flights]
            assert user.membership != "regular" or r.insurance == "yes" or r.cabin == "business", task["id"]
            each = call.arguments["amount"] // len(r.passengers)
            amounts[each] += 1
            if each == 100:
                assert "cancelled" in statuses and not wish.writes()[:-1]
            else:
                assert len(wish.writes()) == 2 and ("delayed" in statuses or wish.family.endswith("changed"))
    assert amounts.keys() == {50, 100}


def test_the_cheapest_flight_is_the_cheapest(world, made):
    """What the words of a booking choose, by the tools' answers."""
    seen = Counter()
    tools = world.environments.fresh().tools
    for task, draft in made:
        for wish in draft.wishes:
            if wish.family != "book":
                continue
            (call,) = wish.writes()
            a, story = call.arguments, "\n".join(fact.words for fact in wish.facts)
            if a["flight_type"] != "one_way":
                continue
            number, flights = len(a["passengers"]), [f["flight_number"] for f in a["flights"]]
            direct = tools.search_direct_flight(a["origin"], a["destination"], a["flights"][0]["date"])
            onestop = tools.search_onestop_flight(a["origin"], a["destination"], a["flights"][0]["date"])
            options = [(f,) for f in direct] if "direct flight in" in story else []
            options += onestop if "one stop" in story else []
            options += [(f,) for f in direct] if "whatever is cheapest" in story else []
            if not options or "cheapest" not in story:
                continue
            free = [o for o in options if all(f.available_seats[a["cabin"]] >= number for f in o)]
            cost = {tuple(f.flight_number for f in o): sum(f.prices[a["cabin"]] for f in o) for o in free}
            best = min(cost.values())
            assert [key for key, price in cost.items() if price == best] == [tuple(flights)], task["id"]
            seen["direct" if len(flights) == 1 else "onestop"] += 1
    assert min(seen["direct"], seen["onestop"]) >= 5


def test_no_other_valid_write_earns_the_reward(world, db, made):
    """Another payment, cabin, trip, flight, person or order of persons, of the same user: each is wrong."""

    def others(call, name):
        value, user = call.arguments[name], None
        if "reservation_id" in call.arguments and call.arguments["reservation_id"] in db.reservations:
            user = db.users[db.reservations[call.arguments["reservation_id"]].user_id]
        if name == "payment_id":
            return [m.id for m in user.payment_methods.values() if m.id != value]
        if name == "reservation_id":
            return [other for other in user.reservations if other != value]
        if name == "cabin":
            return [cabin for cabin in ("basic_economy", "economy", "business") if cabin != value]
        if name == "insurance":
            return [{"yes": "no", "no": "yes"}[value]]
        if name in ("passengers", "flights", "payment_methods"):
            return [value[::-1], value[:-1], [*value, value[-1]]] if len(value) > 1 else [[*value, value[-1]]]
        if name in ("total_baggages", "nonfree_baggages"):
            return [value + 1, max(0, value - 1)] if value else [1]
        return [proofs.altered(value)]

    tried = 0
    for task, draft in [m for m in made if m.draft.writes()][:60]:
        parsed = bench.Task.model_validate(task)
        for difference, calls in proofs.variations(draft.calls(), others):
            between = "cabin_then_flights" in draft.families and " with flights" in difference  # written over later
            if " twice" not in difference and not between:
                tried += 1
                assert proofs.reward(world, parsed, calls, draft.tells()) == 0.0, (task["id"], difference)
    assert tried > 300


def test_nobody_must_know_a_number_that_is_forgotten(made):
    """What a user has forgotten stands nowhere in the story."""
    forgotten = 0
    for task, draft in made:
        if draft.families == ("unidentified",):
            assert draft.owner not in story_of(task)
        for line in (task["user_scenario"]["instructions"]["unknown_info"] or "").split(" or "):
            forgotten += "the reservation number of" in line
    assert forgotten > 50


def test_the_time_is_the_policys(world):
    assert current_time(world.policy) == "2024-05-15T15:00:00"
    assert current_time("The current time is 2030-01-02 03:04:05 EST.") == "2030-01-02T03:04:05"


def test_words():
    assert [words.clock_time(t) for t in ("00:00:00", "06:30:00", "12:00:00", "23:00:00+1")] == [
        "12 am",
        "6:30 am",
        "12 pm",
        "11 pm",
    ]
    assert words.day("2024-05-20") == "May 20"
    assert [words.count(n, "bag") for n in (0, 1, 3, 12)] == ["no bags", "one bag", "three bags", "12 bags"]
