"""`Traits.pure_reads`: tools that only read are handed the shared rows, and nobody can tell."""

import json

import pytest

from slime_tau2 import bench, traits
from slime_tau2.episode import environments, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.conversation import Conversation, unplayed
from slime_tau2.episode.users import GoldUser
from slime_tau2.limits import Limits

EVERY = 40
"""Each so many-th row is asked for."""


def _user(user):
    return {"first_name": user.name.first_name, "last_name": user.name.last_name, "zip": user.address.zip}


def _some(table):
    return [dict.__getitem__(table, key) for key in sorted(table)[::EVERY]]


def _retail(db):
    users, orders, products = _some(db.users), _some(db.orders), list(db.products.values())[:5]
    variants = [{"item_id": item} for product in products for item in list(product.variants)[:2]]
    return {
        "find_user_id_by_name_zip": [_user(user) for user in users[:3]],
        "find_user_id_by_email": [{"email": user.email} for user in users[:3]],
        "get_order_details": [{"order_id": order.order_id} for order in orders],
        "get_product_details": [{"product_id": product.product_id} for product in products],
        "get_item_details": variants,
        "get_user_details": [{"user_id": user.user_id} for user in users],
        "list_all_product_types": [{}],
    }


def _airline(db):
    flights = [(flight, date) for flight in _some(db.flights) for date in sorted(flight.dates)[-2:]]
    ways = [{"origin": f.origin, "destination": f.destination, "date": date} for f, date in flights]
    return {
        "get_reservation_details": [{"reservation_id": r.reservation_id} for r in _some(db.reservations)],
        "get_user_details": [{"user_id": user.user_id} for user in _some(db.users)],
        "list_all_airports": [{}],
        "search_direct_flight": ways,
        "search_onestop_flight": ways[:3],
        "get_flight_status": [{"flight_number": f.flight_number, "date": date} for f, date in flights],
    }


QUESTIONS = {"retail": _retail, "airline": _airline}


def call(name, arguments):
    return bench.ToolCall(id="1", name=name, arguments=arguments, requestor="assistant")


def owned(environment):
    return {key for table in vars(environment.tools.db).values() for key in table.owned}


@pytest.mark.parametrize("domain", QUESTIONS)
def test_what_reads_changes_nothing_and_answers_as_over_a_database_of_its_own(domain):
    """Each tool that tau2 types as READ, errors too; a tool that this table lacks fails here."""
    shared = worlds.load(domain).environments
    asked = QUESTIONS[domain](shared.base.tools.db)
    reads = {name for name, kind in shared.tool_types.items() if kind == bench.ToolType.READ}
    assert reads and reads <= set(asked) and reads == shared._reads
    own, ours = bench.build_environment(shared.spec), shared.fresh()
    answer = shared.answers(ours)
    for name in sorted(reads):
        for arguments in [*asked[name], {}, {key: "nobody" for key in asked[name][0]}]:
            theirs = own.get_response(call(name, arguments))
            for _ in range(2):  # the second time what was remembered
                got = answer(call(name, arguments))
                assert (got.content, got.error) == (theirs.content, theirs.error), (name, arguments)
    assert not owned(ours) and shared.state(ours) == {}
    shared.check()


def test_what_writes_still_gets_a_row_of_its_own():
    shared = worlds.load("retail").environments
    order = next(o for o in shared.base.tools.db.orders.values() if o.status == "pending")
    first, second = shared.fresh(), shared.fresh()
    read, cancel = call("get_order_details", {"order_id": order.order_id}), "cancel_pending_order"
    reason = {"order_id": order.order_id, "reason": "no longer needed"}
    before = shared.answers(first)(read).content
    assert not shared.answers(first)(call(cancel, reason)).error
    after = shared.answers(first)(read).content
    assert json.loads(before)["status"] == "pending" and json.loads(after)["status"] == "cancelled"
    assert shared.answers(second)(read).content == before and order.order_id in owned(first) and not owned(second)
    assert first.tools.db.orders[order.order_id] is not order  # nobody lends any more
    shared.check()


def test_a_domain_that_promises_nothing_gets_copies(monkeypatch):
    """What a read that changes its row would do to others is seen without the promise, and is not with it."""
    for promised in (False, True):
        monkeypatch.setitem(traits._table, "retail", traits.Traits(copy_on_write=True, pure_reads=promised))
        shared = environments.Environments(worlds.load("retail").spec)
        order = next(iter(shared.base.tools.db.orders))
        spoiled, other = shared.fresh(), shared.fresh()

        def spoil(order_id, db=spoiled.tools.db):
            db.orders[order_id].status = "read"
            return db.orders[order_id]

        monkeypatch.setattr(spoiled.tools, "get_order_details", spoil, raising=False)
        watched = shared.answers(spoiled)
        bench.bind_tools(spoiled)
        assert not watched(call("get_order_details", {"order_id": order})).error
        assert (other.tools.db.orders[order].status == "read") is promised
        if promised:
            with pytest.raises(AssertionError, match="changed the shared database"):
                shared.check()
        else:
            shared.check()


async def test_a_task_that_brings_its_own_data_is_graded_as_tau2_does():
    """tau2 then makes the database anew: no table is shared any more, and what was remembered does not hold."""
    world = worlds.load("retail", retail_basis="communicate")
    shared, base = world.environments, world.environments.base.tools.db
    task = next(
        t
        for i in world.task_ids("train+val")
        for t in [world.task(i)]
        if any(a.name == "cancel_pending_order" for a in t.evaluation_criteria.actions)
    )
    order = next(a.arguments["order_id"] for a in task.evaluation_criteria.actions if a.name == "cancel_pending_order")
    data = {"agent_data": {"orders": {order: {"status": "delivered"}}}, "user_data": None}
    own = type(task).model_validate({**task.model_dump(), "id": "own", "initial_state": {"initialization_data": data}})
    world = worlds.build(world.spec, tasks=[own], retail_basis="communicate")
    own = world.task("own")
    read = call("get_order_details", {"order_id": order})
    for kind in ("gold", "noop"):
        run = Conversation(
            world=world,
            task=own,
            agent=ScriptedAgent(scripts.script(kind, own)),
            user=GoldUser(),
            episode=unplayed(world, own, seed=1),
            limits=Limits(),
        )
        assert '"status": "pending"' in shared.answers(shared.fresh())(read).content
        run.begin()
        assert '"status": "delivered"' in run.environment.get_response(read).content
        await run.converse()
        live = run.stage.grader.score(own, run.environment, run.messages(), run.episode.termination.tau2_reason)
        official = bench.evaluate(bench.finalize(run.orchestrator, 0.0), own, run.stage.spec)
        assert live.model_dump_json() == official.model_dump_json()
        run.watch.end()
        assert set(shared.rows(run.environment)) >= {("orders", order)} and len(shared.rows(run.environment)) < 10
    assert base.orders[order].status == "pending"


def test_errors_are_not_remembered_and_old_answers_go(monkeypatch):
    monkeypatch.setattr(environments, "ANSWERS", 3)
    shared = environments.Environments(worlds.load("retail").spec)
    answer = shared.answers(shared.fresh())
    asked = [call("get_user_details", {"user_id": user}) for user in list(shared.base.tools.db.users)[:5]]
    first = [answer(one).content for one in asked]
    assert answer(call("get_user_details", {"user_id": "nobody"})).error
    assert list(shared._answers.values()) == first[-3:]
    assert [answer(one).content for one in asked] == first
    own = shared.fresh()
    own.get_response = lambda message: bench.ToolMessage(
        id=message.id, content="own", requestor="assistant", role="tool"
    )
    assert shared.answers(own)(asked[0]).content == "own" and answer(asked[0]).content == first[0]
