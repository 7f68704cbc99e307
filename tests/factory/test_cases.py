"""Cases, the helpdesk's long conversations: made, played by the expert and its user, graded step by step."""

import asyncio
import json
import random

import pytest

from slime_tau2 import bench
from slime_tau2.domains.helpdesk import MAX_STEPS, case_user, cases, speaker
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode.agents import CallableAgent, ScriptedAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser
from slime_tau2.episode.worlds import build as build_world
from slime_tau2.episode.worlds import load
from slime_tau2.factory import build, factories, rulings
from slime_tau2.factory.case import Case
from slime_tau2.limits import Limits
from slime_tau2.rewards.partial import Call as Scored
from slime_tau2.schedule import prefixes
from slime_tau2.verification.verify import Verifier

COUNT = 120


@pytest.fixture(scope="module")
def made():
    return build.make("helpdesk-cases", COUNT, seed=5)


@pytest.fixture(scope="module")
def world(made):
    tasks = [bench.Task.model_validate(m.task) for m in made]
    return build_world(load("helpdesk").spec, name="cases", tasks=tasks)


def play(world, teacher):
    async def run():
        return [
            await run_episode(
                world, t, CallableAgent(teacher(n).act), DomainUser(), seed=n, limits=Limits(max_steps=MAX_STEPS)
            )
            for n, t in enumerate(world.tasks)
        ]

    return asyncio.run(run())


def test_all_pass_all_checks(world):
    verifier = Verifier(world, load("helpdesk"), evaluated=1.0, rulings=rulings.of)
    verdicts = list(verifier.verify_all(list(world.tasks)))
    assert {v.task: v.refusals() for v in verdicts if v.refusals()} == {}
    assert all(v.evaluated for v in verdicts)


def test_the_expert_settles_each_case_of_a_patient_user(world, monkeypatch):
    monkeypatch.setattr(case_user, "HANGS_UP", 0.0)
    episodes = play(world, Teacher)
    assert [e.task.task_id for e in episodes if e.reward != 1.0 or e.outcome.partial != 1.0] == []
    turns = sorted(sum(m["role"] == "assistant" for m in e.messages) - 1 for e in episodes)
    assert turns[len(turns) // 20] >= 8 and turns[-1] <= 32, "10 to 30 turns, give or take"
    calls = [len(m.get("tool_calls") or []) for e in episodes for m in e.messages if m["role"] == "assistant"]
    assert calls.count(2) > 0.04 * len(calls), "turns of several calls"


@pytest.fixture
def flawless(monkeypatch):
    for name in ("LEAVES_ID_OUT", "MISTYPES_ID", "HANGS_UP"):
        monkeypatch.setattr(case_user, name, 0.0)
    monkeypatch.setattr(speaker, "FORGETS_TOGGLE", 0.0)


def test_a_user_goes_on_from_any_turn_of_another_users_conversation(world, flawless):
    """As prefix starts need it: what was said before the cut is said, in whatever words."""

    async def resumed(number, task_id):
        whole = (await run(task_id, CallableAgent(Teacher(number).act), number)).record()
        said = prefixes.spoken(json.loads(json.dumps(whole))["messages"])
        before = prefixes.cut(said, random.Random(number))
        rest = [bench.parse_message(m) for m in said[len(before) :] if m["role"] == "assistant"]
        return await run(task_id, ScriptedAgent(rest), number + 1000, prefix=before)

    async def run(task_id, agent, seed, prefix=()):
        return await run_episode(
            world, task_id, agent, DomainUser(), seed=seed, limits=Limits(max_steps=MAX_STEPS), prefix=prefix
        )

    async def all_of_them():
        return [await resumed(number, task_id) for number, task_id in enumerate(world.tasks)]

    assert [e.task.task_id for e in asyncio.run(all_of_them()) if e.reward != 1.0] == []


def test_each_step_of_gold_raises_the_partial_score(world):
    for task in world.tasks.values():
        scorer, stage = world.grader.scorer(task), world.stage(task)
        environment = stage.environments.fresh(task)
        environment.set_state(
            task.initial_state.initialization_data, task.initial_state.initialization_actions, message_history=[]
        )
        scorer.start(stage.grader.assertions_met(task, environment))
        before = scorer.value()
        assert before == 0.0
        for action in task.evaluation_criteria.actions:
            call = bench.ToolCall(id="1", name=action.name, arguments=action.arguments, requestor=action.requestor)
            assert not environment.get_response(call).error
            scorer.add_call(Scored(action.name, action.requestor, action.arguments, False))
            scorer.set_assertions_met(stage.grader.assertions_met(task, environment))
            assert scorer.value() > before
            before = scorer.value()
        scorer.add_text(" ".join(task.evaluation_criteria.communicate_info or ()))
        assert scorer.value() == 1.0


def test_requests_are_three_to_six_and_some_lean_on_what_came_before(made):
    requests = [cases.read(bench.Task.model_validate(m.task))[0] for m in made]
    assert {len(each) for each in requests} == {3, 4, 5, 6}
    every = [request for each in requests for request in each]
    for leans in (
        [r for r in every if r.called in ("it", "the same order")],
        [r for r in every if r.called.endswith(" order") and r.called != "the same order"],
        [r for r in every if r.item_called.endswith(" has")],
        [r for r in every if r.item_called.endswith(" had")],
        [r for r in every if r.at_least],
        [r for r in every if r.with_previous],
        [r for r in every if r.refused == "refund"],
        [r for r in every if r.refused == "keep"],
        [r for r in every if r.kind == "phone" and r.ident.startswith("W")],
    ):
        assert len(leans) >= 3


def test_what_an_order_had_is_said_of_swapped_orders_alone():
    """Of two requests at once one may be a refund, whose order has what it had."""
    factory, helpdesk, said = factories.of("helpdesk-cases"), load("helpdesk"), 0
    for n, owner in enumerate(factory.owners(helpdesk)[:600]):
        draft = factory.draft(("two", "like"), Case(helpdesk, owner, random.Random(n)))
        if draft is None:
            continue
        *_, like = (request for wish in draft.wishes for request in wish.notes[cases.REQUESTS])
        if like["item_called"].endswith(" had"):
            said += 1
            swaps = [call.arguments["order_id"] for call in draft.wishes[0].calls if call.name == "swap_item"]
            assert like["item_called"].split()[1] in swaps
    assert said >= 20


REFUND = cases.Request(kind="refund", ident="W1001", called="W1001")
SWAP = cases.Request(
    kind="swap", ident="W1002", called="W1002", item="lamp", item_called="lamp", refused="refund", with_previous=True
)
PHONE = cases.Request(kind="phone", ident="L1", called="L1")


def user_of(*requests):
    return case_user.CaseUser(requests, [request.ident for request in requests], seed=1)


def test_a_refusal_that_asks_to_confirm_too_skips_no_request():
    user = user_of(REFUND, PHONE)
    user.reply("Hi!", [])
    said = user.reply("W1001 is a final sale, sorry. Please confirm that you have read this.", []).content
    assert "L1" in said and [matter.request for matter in user.open] == [PHONE]


def test_a_refusal_of_one_and_a_question_about_the_other_gets_the_others_answer():
    user = user_of(REFUND, SWAP, PHONE)
    user.reply("Hi!", [])
    said = user.reply("W1001 is a final sale. Please confirm: W1002 becomes a lamp.", []).content
    assert said in ("Yes.", "Yes please.", "I confirm.")
    assert [matter.request for matter in user.open] == [SWAP] and user.open[0].agreed and len(user.groups) == 1


def test_both_of_two_that_are_refused_at_once_are_noted():
    user = user_of(REFUND, SWAP, PHONE)
    user.reply("Hi!", [])
    assert (
        user.reply("W1001 is a final sale. W1002 was delivered and cannot be swapped.", []).content == "Then refund it."
    )
    assert [(matter.request, matter.kind) for matter in user.open] == [(SWAP, "refund")]


def test_a_recipe_is_possible_where_some_customer_has_all_its_wishes():
    factory, helpdesk = factories.of("helpdesk-cases"), load("helpdesk")

    def fits(recipe, tries):
        some = random.Random(f"{recipe}").sample(factory.owners(helpdesk), tries)
        return any(factory.draft(recipe, Case(helpdesk, c, random.Random(f"{recipe} {c}"))) for c in some)

    impossible = {recipe for recipe in factory.recipes if not factory.possible(recipe)}
    assert 0 < len(impossible) < 20 and not any(fits(recipe, 40) for recipe in impossible)
    assert all(fits(recipe, 400) for recipe in set(factory.recipes) - impossible)


def test_no_customer_of_a_held_out_case_is_in_a_train_case_of_any_seed(made):
    others = build.make("helpdesk-cases", COUNT, seed=6)
    held, trained = set(), set()
    for each in (made, others):
        splits = build.splits("helpdesk-cases", each)
        assert 0.3 < len(splits["held-out"]) / COUNT < 0.7 and set(splits["train"]).isdisjoint(splits["held-out"])
        for m in each:
            (held if m.task["id"] in splits["held-out"] else trained).add(m.draft.owner)
    assert held.isdisjoint(trained)
    assert len({m.draft.key for m in (*made, *others)}) == 2 * COUNT
    assert factories.of("helpdesk-cases").held_out == 0.5
