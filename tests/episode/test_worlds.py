"""Worlds: which are one, and those with tasks and a database of their own."""

import gc
import json
import shutil

import pytest

from slime_tau2 import bench, traits
from slime_tau2.bench.tasks import domain_dir
from slime_tau2.episode import driver, environments, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import BenchDataError


@pytest.fixture(scope="module")
def check():
    check = OfficialCheck(workers=1, timeout_s=120)
    yield check
    check.close()


async def play(world, task_id, script=scripts.gold, **options):
    return await driver.run_episode(world, task_id, ScriptedAgent(script(world.task(task_id))), GoldUser(), **options)


def test_what_a_domain_has_no_choice_of_makes_no_second_world():
    airline = worlds.load("airline")
    assert worlds.load("airline", retail_basis="judge", retrieval="alltools") is airline
    assert worlds.load("airline", retail_basis="communicate") is airline
    retail = worlds.load("retail", retail_basis="communicate")
    assert retail is not worlds.load("retail") and worlds.load("retail", retrieval="bm25") is worlds.load("retail")
    assert retail.environments is worlds.load("retail").environments, "two bases, one database"
    assert (retail.name, retail.domain, retail.retail_basis) == ("retail", "retail", "communicate")


@pytest.mark.parametrize(
    ("before", "after"),
    [((700, 10, 10), (worlds.COLLECT_AFTER, 10, 10)), ((500_000, 9, 8), (500_000, 9, 8)), ((0, 10, 10), (0, 10, 10))],
)
def test_the_collector_waits_for_longer_unless_its_host_has_spoken(before, after):
    own = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        with worlds._for_good():
            assert not gc.isenabled()
        assert gc.get_threshold() == after and gc.isenabled()
    finally:
        gc.set_threshold(*own)


def changed_task(world, database):
    """A task of the domain's own, about an order that only the changed database holds as pending."""
    tools = world.environments.fresh().tools
    order = next(o for o in tools.db.orders.values() if o.status == "delivered")
    content = json.loads(database.read_text())
    content["orders"][order.order_id]["status"] = "pending"
    database.write_text(json.dumps(content))
    cancel = {
        "action_id": "cancel",
        "name": "cancel_pending_order",
        "arguments": {"order_id": order.order_id, "reason": "no longer needed"},
    }
    return order.order_id, bench.Task.model_validate(
        {
            "id": "0",  # an id that the domain's own tasks have, too
            "user_scenario": {"instructions": "Cancel your order."},
            "evaluation_criteria": {"actions": [cancel], "reward_basis": ["DB"]},
        }
    )


async def test_a_world_with_tasks_and_a_database_of_its_own(tmp_path, check):
    first, database = worlds.load("retail", retail_basis="communicate"), tmp_path / "db.json"
    shutil.copy(domain_dir("retail") / "db.json", database)
    before = first.environments.base.get_db_hash()
    order, task = changed_task(first, database)
    spec = bench.EnvironmentSpec(domain="retail", database=bench.Database(agent=database))
    second = worlds.build(spec, name="small-retail", tasks=[task])

    compared = check.compared
    episode = await play(second, "0", official=check)
    assert (episode.reward, str(episode.task)) == (1.0, "small-retail/0")
    assert check.compared == compared + 1, "tau2's own evaluator, in a process that read the same database"
    assert (await play(second, "0", scripts.noop, official=check)).reward == 0.0
    assert (await play(first, "0")).reward == 1.0 and "cancel" not in json.dumps(first.task("0").model_dump()), (
        "the first world has a task 0 of its own"
    )
    elsewhere = first.environments.fresh().tools
    assert elsewhere.db.orders[order].status == "delivered"
    with pytest.raises(ValueError, match="pending"):
        elsewhere.cancel_pending_order(order_id=order, reason="no longer needed")
    for world in (first, second):
        world.environments.check()
    assert first.environments.base.get_db_hash() == before != second.environments.base.get_db_hash()
    assert (second.splits, second.policy) == ({"base": ["0"]}, first.policy)
    assert second.tasks_sha256 != first.tasks_sha256


async def test_worlds_over_one_database_share_its_copy_in_memory(tmp_path):
    retail = worlds.load("retail")
    copies = []
    for n in (1, 2):
        copy = tmp_path / f"{n}.json"
        shutil.copy(domain_dir("retail") / "db.json", copy)
        copies.append(bench.EnvironmentSpec(domain="retail", database=bench.Database(agent=copy)))
    assert copies[0] == copies[1], "by contents"
    tasks = list(retail.tasks.values())
    one, two = (worlds.build(s, name=str(n), tasks=tasks[n : n + 3]) for n, s in enumerate(copies))
    user = next(iter(one.environments.base.tools.db.users))
    rows = [w.environments.base.tools.db.users[user] for w in (one, two)]
    assert rows[0] is rows[1] and rows[0] is not retail.environments.base.tools.db.users[user]
    assert set(one.tasks) != set(two.tasks)
    handed = [dict.__getitem__(w.environments.fresh().tools.db.users, user) for w in (one, two)]
    assert handed[0] is handed[1] is rows[0], "an environment begins with the shared row"


async def test_a_domain_with_two_databases_takes_two_files(tmp_path, check):
    telecom, folder = worlds.load("telecom"), domain_dir("telecom")
    task_id = telecom.task_ids("test")[0]
    for name in ("db.toml", "user_db.toml"):
        shutil.copy(folder / name, tmp_path / name)
    database = bench.Database(agent=tmp_path / "db.toml", user=tmp_path / "user_db.toml")
    spec = bench.EnvironmentSpec(domain="telecom", database=database)
    world = worlds.build(spec, name="again", tasks=[telecom.task(task_id)])
    assert (await play(world, task_id, official=check)).reward == 1.0
    (tmp_path / "db.toml").write_text("")
    with pytest.raises(BenchDataError, match=r"db\.toml has changed since it was first read"):
        spec.arguments()


@pytest.mark.parametrize(
    "domain, name, content, why",
    [
        ("retail", "db.json", "{}", r"db\.json is no RetailDB of retail: .*products"),
        ("retail", "db.json", "{", r"db\.json is no RetailDB of retail"),
        ("mock", "db.json", None, r"the database .*db\.json cannot be read: No such file"),
        ("nowhere", "db.json", "{}", "unknown domain 'nowhere'"),
    ],
)
def test_a_database_of_another_kind_is_refused(tmp_path, domain, name, content, why):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BenchDataError, match=why):
        spec = bench.EnvironmentSpec(domain=domain, database=bench.Database(agent=tmp_path / name))
        worlds.build(spec, name="own", tasks=list(worlds.load("mock").tasks.values()))


def test_a_user_database_where_the_user_has_none(tmp_path):
    (tmp_path / "db.json").write_text("{}")
    database = bench.Database(agent=domain_dir("airline") / "db.json", user=tmp_path / "db.json")
    with pytest.raises(BenchDataError, match="airline takes no database 'user_db'"):
        worlds.build(bench.EnvironmentSpec(domain="airline", database=database))


def test_tasks_that_share_an_id_and_no_tasks_are_refused():
    spec, task = bench.EnvironmentSpec(domain="mock"), next(iter(worlds.load("mock").tasks.values()))
    with pytest.raises(BenchDataError, match=r"twice has two tasks 'create_task_1'; ids must differ"):
        worlds.build(spec, name="twice", tasks=[task, task])
    with pytest.raises(BenchDataError, match="empty has no tasks"):
        worlds.build(spec, name="empty", tasks=[])


def test_copy_on_write_of_what_is_no_table_is_refused(monkeypatch):
    monkeypatch.setitem(traits._table, "helpdesk", traits.Traits(copy_on_write=True))
    assert environments.Environments(bench.EnvironmentSpec(domain="helpdesk")), "its agent's database is tables"
    monkeypatch.setitem(traits._table, "telecom", traits.Traits(copy_on_write=True))
    with pytest.raises(BenchDataError, match=r"telecom: database fields that are no tables: plans, .*copy_on_write"):
        environments.Environments(bench.EnvironmentSpec(domain="telecom"))
