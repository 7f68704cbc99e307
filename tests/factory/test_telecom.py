"""Telecom's factory: what is its own beside what holds of any."""

import asyncio
import random
from collections import Counter

import factory_proofs as proofs
import pytest

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser
from slime_tau2.factory import build, factories
from slime_tau2.factory.case import Case, set_up
from slime_tau2.factory.draft import Call
from slime_tau2.factory.telecom import faults, households, policy
from slime_tau2.factory.telecom.account import Account, today


@pytest.fixture(scope="module")
def world():
    return worlds.load("telecom")


@pytest.fixture(scope="module")
def made():
    return build.make("telecom", 150, seed=11)


def replayed(world, task, calls):
    """tau2's own reward of a conversation of these calls, which replays it in new environments."""
    environment = world.environments.fresh(task)
    environment.set_state(None, task.initial_state.initialization_actions, [])
    messages = []
    for number, call in enumerate(calls):
        tool_call = bench.ToolCall(
            id=str(number), name=call.name, arguments=dict(call.arguments), requestor=call.requestor
        )
        speaker = bench.UserMessage if call.requestor == "user" else bench.AssistantMessage
        messages.append(speaker(role=call.requestor, content=None, tool_calls=[tool_call]))
        messages.append(environment.get_response(tool_call))
    simulation = bench.SimulationRun(
        id="0",
        task_id=task.id,
        start_time="",
        end_time="",
        duration=0.0,
        termination_reason=bench.termination_reason("user_stop"),
        messages=messages,
    )
    return bench.evaluate(simulation, task, bench.EnvironmentSpec(domain="telecom")).reward


def test_tau2s_own_evaluator_agrees(world, made):
    families = {}
    for task, draft in made:
        if not draft.tells():
            families.setdefault(draft.families[-1], (bench.Task.model_validate(task), draft))
    assert len(families) > 12
    for task, draft in families.values():
        assert replayed(world, task, draft.calls()) == 1.0, task.id
        assert replayed(world, task, []) == (draft.outcome == "refused"), task.id


def test_gold_earns_one_through_the_driver(made):
    tasks = [bench.Task.model_validate(task) for task, _ in made[:30]]
    ours = worlds.build(bench.EnvironmentSpec(domain="telecom"), name="made", tasks=tasks)

    async def play():
        return [await driver.run_episode(ours, t.id, ScriptedAgent(scripts.gold(t)), GoldUser()) for t in tasks]

    assert [episode.reward for episode in asyncio.run(play())] == [1.0] * len(tasks)
    ours.environments.check()


def test_customers_and_lines_are_none_of_tau2s(world, made):
    database = world.environments.base.tools.db.model_dump_json()
    ids = households.owners(world)
    assert len(ids) == len({households.household(c).full_name for c in ids}) == households.HOUSEHOLDS
    numbers = [card.phone_number for c in ids for card in households.household(c).cards]
    assert len(numbers) == len(set(numbers))
    for task, draft in made:
        assert not [entity for entity in draft.entities() if entity in database]
        assert "John Smith" not in str(task)


def test_no_fault_set_of_a_test_or_val_task(world, made):
    held = faults.held_out_sets(world)
    assert {frozenset({"airplane", "suspended"}), frozenset({"apn", "sim_pin"})} <= held
    assert (
        frozenset({"airplane", "2g", "sim_missing", "usage", "roaming_line"})
        | {
            "sms_permission",
            "storage_permission",
        }
        in held
    )
    sets = Counter()
    for task, draft in made:
        tau2s = bench.Task.model_validate(task)
        wrong = faults._of_task(tau2s)
        if draft.families[0] in ("service", "no_data", "slow_data", "mms"):
            environment = world.environments.fresh()
            set_up(environment, (), draft.scene)
            bills = [bill for bill in environment.tools.db.bills if bill.customer_id == draft.owner]
            overdue = sum(bill.status == "Overdue" for bill in bills)
            suspended = not environment.user_tools.db.surroundings.line_active
            wrong |= {f"suspended by {overdue}" if overdue > 1 else "suspended"} if suspended else set()
            assert wrong and wrong not in held, task["id"]
            sets[wrong] += 1
    assert len(sets) > 40 and max(map(len, sets)) > 5


def test_dates_and_limits_are_the_policys(world):
    assert str(today(world.policy)) in world.policy
    assert f"{policy.REFUEL_LIMIT_GB:g}GB" in world.policy
    assert faults.BEST_MODE in world.policy


def test_every_family_can_be_made_and_every_rule_is_touched(world):
    factory = factories.of("telecom")
    assert {name for recipe in factory.recipes for name in recipe} == factory.families.keys()
    owners, touched = households.owners(world), set()
    for name in factory.families:
        for number in range(400):
            case = Case(world, owners[number % len(owners)], random.Random(number), owners)
            draft = factory.draft((name,), case)
            if draft is not None:
                touched |= {finding.rule for finding in draft.findings()}
                break
        else:
            pytest.fail(f"{name} makes nothing")
    assert len(touched) > len(factory.rules) // 2


def test_an_account_is_what_the_scene_says(world):
    owner = households.owners(world)[5]
    case = Case(world, owner, random.Random(3), households.owners(world))
    set_up(case.environment, (), factories.of("telecom").scene(case))
    account = Account(case)
    assert account.customer.customer_id == owner and account.line in account.lines
    assert [bill.status for bill in account.with_status("Draft")] == ["Draft"], "what refueling is charged to"
    found = case.environment.tools.get_customer_by_phone(account.line.phone_number)
    assert found.customer_id == owner


def test_an_agent_that_always_transfers_or_refuels_earns_little(world, made):
    transfer = [Call(name="transfer_to_human_agents", arguments={"summary": "-"})]
    earned = sum(proofs.reward(world, bench.Task.model_validate(task), transfer) for task, _ in made)
    assert earned / len(made) < 0.2
