"""The eight checks: for each kind of finding a task that has it, and tasks that have none."""

import json

import pytest

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.factory import attempts, rulings
from slime_tau2.verification import declared
from slime_tau2.verification.checks import CHECKS, KINDS
from slime_tau2.verification.verify import ALL, Verifier


@pytest.fixture(scope="module")
def own():
    return worlds.load("retail")


@pytest.fixture(scope="module")
def order(own):
    """A pending order of a user who is in no test task."""
    held = Verifier(own, own).held
    orders = own.environments.base.tools.db.orders.values()
    return next(o for o in orders if o.status == "pending" and not held.records_of([o.user_id]) and len(o.items) > 1)


def action(name, **arguments):
    return {"action_id": name, "name": name, "arguments": arguments}


def task(actions, known="", tells=None, notes=None, basis=("DB", "COMMUNICATE"), **criteria):
    said = {
        "domain": "retail",
        "reason_for_call": "You want what follows.",
        "known_info": known,
        "task_instructions": "Be brief.",
    }
    return bench.Task.model_validate(
        {
            "id": "t",
            "description": {"notes": None if notes is None else json.dumps({declared.KEY: notes})},
            "user_scenario": {"instructions": said},
            "evaluation_criteria": {
                "actions": [a | {"action_id": str(n)} for n, a in enumerate(actions)],
                "communicate_info": tells or [],
                "reward_basis": list(basis),
                **criteria,
            },
        }
    )


def verdict(own, made, checks=ALL, evaluated=0.0, world=None):
    world = world or worlds.build(own.spec, name="made", tasks=[made])
    return Verifier(world, own, checks=checks, evaluated=evaluated).verify(made)


def kinds(*args, **options):
    return {finding.kind for finding in verdict(*args, **options).findings}


def cancel(order, reason="no longer needed", order_id=None):
    return action("cancel_pending_order", order_id=order_id or order.order_id, reason=reason)


def known(order):
    return f"Your user id is {order.user_id}, your order is {order.order_id}, which is no longer needed."


def notes(outcome="done", rules=None, tried=None, **more):
    wish = {"family": "cancel", "outcome": outcome, "rules": rules or {"pending": True}, "tried": tried or {}}
    return {"owner": "o", "outcome": outcome, "difficulty": 1, "wishes": [wish], **more}


def test_a_good_task_has_nothing_and_tau2_agrees(own, order):
    found = verdict(own, task([cancel(order)], known(order), notes=notes()), evaluated=1.0)
    assert found.findings == () and found.evaluated and found.refusals() == []
    assert verdict(own, task([cancel(order)], known(order))).evaluated is False
    assert kinds(own, task([cancel(order)], known(order))) == {"policy-unchecked"}


def test_gold_that_loses_or_fails(own, order):
    lost = action("cancel_pending_order", order_id=order.order_id, reason="no reason")
    assert {"gold-fails", "nothing-pays"} <= kinds(own, task([lost], known(order)))
    meant = {**lost, "info": declared.MEANT_TO_FAIL}
    assert "gold-fails" not in kinds(own, task([meant], known(order)))
    fine = {**cancel(order), "info": declared.MEANT_TO_FAIL}
    found = [f for f in verdict(own, task([fine], known(order))).findings if f.kind == "gold-fails"]
    assert found[0].text == "cancel_pending_order: meant to fail and does not"
    telecom = worlds.load("telecom")
    fine = telecom.task(telecom.task_ids("base")[0])
    assert kinds(telecom, fine, checks={1}, world=telecom) == set()
    turned = fine.model_copy(deep=True)
    turned.evaluation_criteria.env_assertions[0].assert_value ^= True
    found = verdict(telecom, turned, checks={1}).findings
    assert [(f.kind, f.text) for f in found] == [("gold-loses", "ENV_ASSERTION 0")]


def test_no_criteria_and_a_judge(own, order):
    bare = task([cancel(order)]).model_copy(update={"evaluation_criteria": None})
    assert "no-criteria" in kinds(own, bare)
    judged = task([cancel(order)], known(order), basis=("DB", "NL_ASSERTION"), nl_assertions=["The agent is kind."])
    assert kinds(own, judged) == {"judged", "policy-unchecked"}


def test_tau2s_own_evaluator_may_differ(own, order, monkeypatch):
    import slime_tau2.verification.verify as module

    lost = bench.RewardInfo(reward=0.0)
    monkeypatch.setattr(module.bench, "evaluate", lambda *args: lost)
    assert "not-replayable" in kinds(own, task([cancel(order)], known(order)), evaluated=1.0)


def test_idleness_that_pays(own, order):
    look = action("get_order_details", order_id=order.order_id)
    assert "refusal-undeclared" in kinds(own, task([look], known(order)))
    declared_refusal = task([look], known(order), notes=notes("refused", {"pending": False}))
    assert kinds(own, declared_refusal) == set()
    answer = task([look], known(order), tells=["12.34"])
    assert kinds(own, answer, checks={1, 2}) == set()
    nothing = task([], known(order), notes=notes("transferred", {"in_scope": False}))
    assert kinds(own, nothing) == set()
    only_said = task([cancel(order)], known(order), basis=("COMMUNICATE",))
    assert {"nothing-pays", "write-unneeded"} <= kinds(own, only_said)
    whatever = {**action("transfer_to_human_agents", summary="s"), "compare_args": []}
    acts = task([whatever], basis=("ACTION",))
    assert "refusal-undeclared" in kinds(own, acts, checks={2})
    both = task([action("transfer_to_human_agents", summary="s"), cancel(order)], basis=("ACTION",))
    assert "empty-pays" in kinds(own, both, checks={2})


def test_a_transfer_that_pays(own, order, monkeypatch):
    import slime_tau2.verification.verify as module

    monkeypatch.setattr(module._Subject, "_pays", lambda self, calls, words: calls is module.TRANSFER)
    assert kinds(own, task([cancel(order)], known(order)), checks={2}) == {"transfer-pays"}


def test_writes_that_are_not_needed_or_not_exact(own, order):
    twice = task([cancel(order), {**cancel(order), "info": declared.MEANT_TO_FAIL}], known(order))
    assert "write-unneeded" in kinds(own, twice)
    summed = task([cancel(order)], known(order), basis=("ACTION",))
    assert "write-doubled" not in kinds(own, summed, checks={3}), "the second fails"
    free = task([{**cancel(order), "compare_args": ["order_id"]}], known(order), basis=("ACTION",))
    found = verdict(own, free, checks={3})
    assert found.free == {0: ("reason",)} and [f.kind for f in found.findings] == ["argument-free"]
    assert found.refusals() == []


def test_an_answer_that_is_said_by_chance(own, order):
    look = action("get_order_details", order_id=order.order_id)
    price = str(order.items[0].price)
    assert kinds(own, task([look], known(order), tells=[price]), checks={3}) == set()
    assert kinds(own, task([look], known(order), tells=[price[:2]]), checks={3}) == {"answer-unneeded"}
    assert "answer-unneeded" in kinds(own, task([look], known(order) + f" {price}", tells=[price]), checks={3})


def test_a_forbidden_write_that_is_paid_for(own, order):
    def found(basis):
        made = task([cancel(order)], known(order), basis=basis, notes=notes() | {"owner": order.user_id})
        world = worlds.build(own.spec, name="made", tasks=[made])
        verifier = Verifier(world, own, checks={8}, rulings=rulings.of, attempts=attempts)
        return {finding.kind: finding.text for finding in verifier.verify(made).findings}

    assert found(("DB",)) == {}
    paid = found(("ACTION",))
    assert "one_user" in paid["violation-pays"]


def test_a_write_that_may_be_made_twice(order, own):
    airline = worlds.load("airline")
    user = next(iter(airline.environments.base.tools.db.users))
    give = {"action_id": "0", "name": "send_certificate", "arguments": {"user_id": user, "amount": 50}}
    made = task([give], f"You are {user} and want 50 dollars.", basis=("ACTION",))
    assert "write-doubled" in kinds(airline, made, checks={3})
    assert "write-doubled" not in kinds(airline, task([give], f"You are {user}."), checks={3})


@pytest.mark.parametrize(
    "outcome, rules, found",
    [
        ("done", {"pending": True, "whole": False}, "rule-broken"),
        ("refused", {"pending": True}, "refusal-unnamed"),
        ("refused", {"pending": False}, "refusal-writes"),
    ],
)
def test_what_the_policy_does_not_allow(own, order, outcome, rules, found):
    made = task([cancel(order)], known(order), notes=notes(outcome, rules))
    assert found in kinds(own, made, checks={4})


def test_no_word_of_the_policy(own, order):
    assert kinds(own, task([cancel(order)]), checks={4}) == {"policy-unchecked"}
    silent = notes() | {"wishes": []}
    assert kinds(own, task([cancel(order)], notes=silent), checks={4}) == {"policy-unchecked"}


def test_where_values_come_from(own, order):
    assert kinds(own, task([cancel(order)], known(order)), checks={5}) == set()
    user = own.environments.base.tools.db.users[order.user_id]
    reading = [
        action("get_user_details", user_id=order.user_id),
        action("get_order_details", order_id=order.order_id),
        cancel(order),
    ]
    by_id = f"Your user id is {order.user_id}."
    assert kinds(own, task(reading, by_id + " It is no longer needed."), checks={5}) == set()
    assert kinds(own, task(reading, by_id), checks={5}) == {"choice-untold"}
    by_name = f"You are {user.name.first_name} {user.name.last_name} in {user.address.zip}. It is no longer needed."
    assert kinds(own, task([cancel(order)], by_name), checks={5}) == {"search-needed"}
    assert kinds(own, task([cancel(order)], "It is no longer needed."), checks={5}) == {"argument-unknown"}


def test_a_full_name_is_two_words():
    telecom = worlds.load("telecom")
    customer = telecom.environments.base.tools.db.customers[0]
    line = customer.line_ids[0]
    roam = action("enable_roaming", customer_id=customer.customer_id, line_id=line)
    looked = action("get_customer_by_name", full_name="Ann Lee", dob="1990-01-01")
    shown = task([looked], "").model_copy(update={"id": "shown"})  # what the read's arguments look like
    named = task([roam], f"You are {customer.full_name}, born on {customer.date_of_birth}.")
    world = worlds.build(telecom.spec, name="made", tasks=[named, shown])
    assert {f.kind for f in verdict(telecom, named, checks={5}, world=world).findings} == {"search-needed"}


def test_numbers_may_be_computed():
    airline = worlds.load("airline")
    user = next(iter(airline.environments.base.tools.db.users))

    def give(amount, said):
        made = task([action("send_certificate", user_id=user, amount=amount)], f"You are {user}. {said}")
        return kinds(airline, made, checks={5})

    assert give(150, "You want $150.") == give(150, "You want 50 for each of 3.") == set()
    assert give(150, "You paid 1,000 and got 850 back.") == set()
    assert give(7777.77, "You are angry.") == {"number-unknown"}


def test_records_and_sentences_of_test_tasks(own, order):
    test = own.task(own.splits["test"][0])
    found = verdict(own, test.model_copy(update={"id": "copy"}), checks={6})
    assert {f.kind for f in found.findings} == {"test-record", "test-sentence"}
    assert kinds(own, test, checks={6}, world=own) == set(), "it is one"
    assert kinds(own, task([cancel(order)], known(order)), checks={6}) == set()
    verifier = Verifier(own, own)
    other = next(o for o in own.environments.base.tools.db.orders.values() if verifier.held.records_of([o.user_id]))
    assert "test-record" in kinds(own, task([cancel(order, order_id=other.order_id)]), checks={6}), "through its owner"


def test_the_order_of_lists():
    airline = worlds.load("airline")
    db = airline.environments.base.tools.db
    booked = next(r for r in db.reservations.values() if len(r.passengers) == 2 and len(r.flights) > 1)
    people = [{"first_name": "Ann", "last_name": "Lee", "dob": "1990-01-01"}]
    people.append({"first_name": "Bob", "last_name": "Ray", "dob": "1991-02-02"})
    change = action("update_reservation_passengers", reservation_id=booked.reservation_id, passengers=people)
    told = f"Your reservation is {booked.reservation_id}."
    loose = task([change], f"{told} Bob Ray, born 1991-02-02, and Ann Lee, born 1990-01-01, fly.")
    found = verdict(airline, loose, checks={7})
    assert found.order_only == {0: ("passengers",)} and [f.kind for f in found.findings] == ["order-decides"]
    tight = task([change], f"{told} Ann Lee, born 1990-01-01, then Bob Ray, born 1991-02-02, fly.")
    found = verdict(airline, tight, checks={7})
    assert found.order_fixed == {0: ("passengers",)} and not found.findings and not found.order_only
    marked = loose.model_copy(
        update={"description": task([], notes=notes(any_order={"0": ["passengers"]})).description}
    )
    found = verdict(airline, marked, checks={7})
    assert found.order_only == {0: ("passengers",)} and not found.findings
    said = loose.model_copy(update={"description": task([], notes=notes(in_order={"0": ["passengers"]})).description})
    found = verdict(airline, said, checks={7})
    assert found.order_fixed == {0: ("passengers",)} and not found.findings and not found.order_only


def test_every_kind_is_of_a_check():
    assert {kind.check for kind in KINDS.values()} == set(CHECKS) == ALL
