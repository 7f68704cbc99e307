"""Check 4 believes no notes: the policy is evaluated anew, and a gold call that breaks a rule is found."""

import copy
from functools import cache

import pytest
import task_set_files
from typer.testing import CliRunner

from slime_tau2.cli import app
from slime_tau2.episode import worlds
from slime_tau2.factory import build, factories, rulings, traces
from slime_tau2.verification import declared
from slime_tau2.verification.verify import Verifier

DOMAINS = ("airline", "retail", "telecom", "helpdesk")
UNDECIDED = {
    "airline": {
        "asked_for",
        "bags_as_wished",
        "compensated_reason",
        "confirmed",
        "in_scope",
        "information",
        "insurance_as_wished",
        "insurance_at_booking",
        "one_cabin",
    },
    "retail": {"cancel_whole", "confirmed", "in_scope", "information", "items_last", "modify_only", "payment_single"},
    "telecom": {
        "data_limit",
        "in_scope",
        "information",
        "mms_network",
        "plan_tool",
        "refuel_agreed",
        "sim_unlocked",
    },
    "helpdesk": {"confirmed"},
}
"""The rules that no call decides: docs/tasks.md has them."""


def find(task, rulings_of=rulings.of):
    """{kind: text} of what check 4 finds of a task's JSON."""
    domain = task["user_scenario"]["instructions"]["domain"]
    own = worlds.load(domain)
    world = traces.world_of(domain, [build.Made(task, None)])
    verdict = Verifier(world, own, checks={4}, rulings=rulings_of).verify(world.task(task["id"]))
    return {finding.kind: finding.text for finding in verdict.findings}


@cache
def made(domain, *recipe, count=4):
    return [m.task for m in build.make(domain, count, 5, mix={recipe: 1.0} if recipe else None)]


def edited(domain, *recipe, number=0):
    """A copy of a made task, and its gold actions."""
    task = copy.deepcopy(made(domain, *recipe)[number])
    return task, task["evaluation_criteria"]["actions"]


def named(actions, name):
    return next(action for action in actions if action["name"] == name)


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_the_factory_makes_breaks_none_and_every_rule_is_evaluated_or_listed(domain):
    tasks = made(domain, count=200)
    world = traces.world_of(domain, [build.Made(task, None) for task in tasks])
    rules = set()
    for task in map(world.task, world.tasks):
        gold = task.evaluation_criteria.actions or []
        found = rulings.of(world, task, gold, owner=declared.of(task).owner)
        assert found.keys() == {n for n, action in enumerate(gold) if action.name in world.writes}
        for number, findings in found.items():
            assert findings and all(f.holds for f in findings), (task.id, gold[number].name, findings)
            rules |= {f.rule for f in findings}
    assert rules | UNDECIDED[domain] == set(factories.of(domain).rules) and not rules & UNDECIDED[domain]


def broken(task):
    found = find(task)
    assert set(found) == {"rule-broken"}, found
    assert find(task, None) == {}, "what the notes say is believed where nothing else is asked"
    return found["rule-broken"]


def test_retail_an_order_of_somebody_else():
    task, actions = edited("retail", "cancel")
    db = worlds.load("retail").environments.base.tools.db
    owner = declared.of(traces.world_of("retail", [build.Made(task, None)]).task(task["id"])).owner
    other = next(o for o in db.orders.values() if o.status == "pending" and o.user_id != owner)
    named(actions, "cancel_pending_order")["arguments"]["order_id"] = other.order_id
    assert broken(task) == "cancel_pending_order: one_user, evaluated anew"


def test_retail_something_after_the_items():
    task, actions = edited("retail", "rework")
    items = named(actions, "modify_pending_order_items")
    actions.remove(items)
    actions.insert(0, items)
    assert "modify_pending, evaluated anew" in broken(task)


def test_retail_a_user_who_says_nothing_of_who_they_are():
    task, _ = edited("retail", "cancel")
    task["user_scenario"]["instructions"]["known_info"] = "You have forgotten everything."
    assert broken(task) == "cancel_pending_order: authenticated, evaluated anew"


def reservation(fits):
    """A reservation of somebody who is in no test task, with its owner."""
    world = worlds.load("airline")
    db = world.environments.base.tools.db
    mine = set(factories.of("airline").owners(world))
    return next(r for r in db.reservations.values() if r.user_id in mine and fits(r))


def about(found, recipe, *actions):
    """A made task of airline that is about another reservation's owner, with other gold."""
    task, _ = edited("airline", recipe)
    text = task["description"]["notes"]
    owner = declared.of(traces.world_of("airline", [build.Made(task, None)]).task(task["id"])).owner
    task["description"]["notes"] = text.replace(f'"{owner}"', f'"{found.user_id}"')
    task["user_scenario"]["instructions"]["known_info"] = f"Your user id is {found.user_id}."
    task["evaluation_criteria"]["actions"] = [
        {"action_id": str(n), "name": name, "arguments": arguments} for n, (name, arguments) in enumerate(actions)
    ]
    return task


def no_ground(r):
    new = r.created_at > "2024-05-14T15:00:00"
    return r.cabin == "basic_economy" and r.insurance == "no" and r.status is None and not new


def future(r):
    return all(flight.date > "2024-05-16" for flight in r.flights)


def test_airline_a_cancellation_without_a_ground():
    found = reservation(lambda r: no_ground(r) and future(r))
    said = broken(about(found, "cancel_business", ("cancel_reservation", {"reservation_id": found.reservation_id})))
    grounds = "booked_within_a_day, cancelled_by_airline, is_business, insured_reason"
    assert said == f"cancel_reservation: {grounds}, evaluated anew"


def test_airline_other_flights_for_basic_economy():
    found = reservation(lambda r: no_ground(r) and future(r) and len(r.flights) > 1)
    card = next(iter(worlds.load("airline").environments.base.tools.db.users[found.user_id].payment_methods.values()))
    kept = [{"flight_number": flight.flight_number, "date": flight.date} for flight in found.flights[:1]]
    arguments = {"reservation_id": found.reservation_id, "cabin": found.cabin, "flights": kept, "payment_id": card.id}
    said = broken(about(found, "change_flights", ("update_reservation_flights", arguments)))
    assert said.startswith("update_reservation_flights: not_basic_economy")


def test_airline_bags_that_cost_nothing():
    task, actions = edited("airline", "book")
    booking = named(actions, "book_reservation")["arguments"]
    booking["total_baggages"] = booking["nonfree_baggages"] + 40
    assert broken(task) == "book_reservation: bag_allowance, evaluated anew"


def test_airline_a_certificate_that_is_too_large():
    task, actions = edited("airline", "compensate_cancelled")
    named(actions, "send_certificate")["arguments"]["amount"] += 50
    assert broken(task) == "send_certificate: certificate_amount, evaluated anew"


def test_airline_a_delay_is_not_compensated_while_nothing_has_changed():
    task, actions = edited("airline", "compensate_delayed_changed")
    actions.remove(named(actions, "update_reservation_flights"))
    assert broken(task) == "send_certificate: changed_or_cancelled, evaluated anew"


def test_airline_somebody_elses_reservation():
    found = reservation(lambda r: r.cabin == "business" and r.status is None and future(r))
    task, actions = edited("airline", "cancel_business")
    named(actions, "cancel_reservation")["arguments"]["reservation_id"] = found.reservation_id
    assert broken(task) == "cancel_reservation: reservation_found, evaluated anew"


def test_telecom_too_much_data():
    task, actions = edited("telecom", "refuel")
    named(actions, "refuel_data")["arguments"]["gb_amount"] = 3.0
    assert broken(task) == "refuel_data: refuel_limit, evaluated anew"


def test_telecom_a_setting_that_was_right():
    task, actions = edited("telecom", "refuel")
    toggle = {"action_id": "x", "requestor": "user", "name": "toggle_airplane_mode", "arguments": {}}
    actions.append(toggle)
    assert broken(task) == "toggle_airplane_mode: airplane_mode, evaluated anew"
    toggle["name"] = "toggle_wifi"
    assert find(task) == {"policy-unchecked": "no rule speaks of toggle_wifi"}


def test_telecom_a_line_is_resumed_before_its_bills_are_paid():
    task, actions = edited("telecom", "settle")
    resume = named(actions, "resume_line")
    actions.remove(resume)
    actions.insert(0, resume)
    assert broken(task) == "resume_line: all_paid, evaluated anew"


def test_helpdesk_another_amount():
    task, actions = next(
        (task, task["evaluation_criteria"]["actions"])
        for task in copy.deepcopy(made("helpdesk", "refunds", count=20))
        if any(action["name"] == "refund" for action in task["evaluation_criteria"]["actions"])
    )
    named(actions, "refund")["arguments"]["amount"] = "$1"
    assert broken(task) == "refund: amount, evaluated anew"


def test_a_call_that_fails_is_not_judged():
    task, actions = edited("retail", "cancel")
    named(actions, "cancel_pending_order")["arguments"]["order_id"] = "#W0"
    assert find(task) == {}, "check 1 sees to it"


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_owner_who_is_not_there(domain):
    task = next(t for t in copy.deepcopy(made(domain, count=200)) if declares_a_write(t))
    owner = declared.of(traces.world_of(domain, [build.Made(task, None)]).task(task["id"])).owner
    task["description"]["notes"] = task["description"]["notes"].replace(f'"{owner}"', '"nobody"')
    assert set(find(task)) == ({"rule-broken"} if domain != "helpdesk" else set())


def declares_a_write(task):
    writes = worlds.load(task["user_scenario"]["instructions"]["domain"]).writes
    return any(action["name"] in writes for action in task["evaluation_criteria"]["actions"])


def test_the_command_refuses_such_a_task(tmp_path):
    good, (bad, actions) = made("airline", "compensate_cancelled")[1], edited("airline", "compensate_cancelled")
    named(actions, "send_certificate")["arguments"]["amount"] += 50
    task_set_files.write(tmp_path / "set", name="s", domain="airline", tasks=[good, bad], verified=False)
    command = ["verify-tasks", str(tmp_path / "set"), "--checks", "4"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "2 tasks, 1 passed, 1 refused" in done.output and "rule-broken" in done.output
