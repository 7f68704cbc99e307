"""What each call did to the strict score, and what proves it wrong: on helpdesk and retail, through whole episodes."""

import asyncio
import copy
import random
from collections import Counter

import pytest
from exactness import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from slime_tau2 import bench
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import CallableAgent, ScriptedAgent
from slime_tau2.episode.scripts import script
from slime_tau2.episode.toolcalls import MALFORMED
from slime_tau2.episode.users import DomainUser, GoldUser
from slime_tau2.factory import build
from slime_tau2.types import CallGain


@pytest.fixture(scope="module")
def retail():
    return worlds.load("retail", retail_basis="communicate")


def calling(*calls):
    """One message with calls (name, arguments)."""
    made = [bench.ToolCall(name=name, arguments=copy.deepcopy(arguments)) for name, arguments in calls]
    return bench.AssistantMessage(role="assistant", content=None, tool_calls=made, cost=0.0)


async def played(world, task_id, *messages):
    """The turns of an episode in which the agent says these messages, then a goodbye."""
    goodbye = script("noop", world.task(task_id))
    return await driver.run_episode(world, task_id, ScriptedAgent([*messages, *goodbye]), GoldUser())


def faults(episode):
    return [call.wrong for turn in episode.turns for call in turn.by_call]


async def test_calls_of_one_message_are_scored_one_by_one(helpdesk):
    """phones_1: a read, a write that also makes an assertion hold; the order is the message's."""
    look, resume = ("get_line", {"line_id": "L10"}), ("resume_line", {"line_id": "L10"})
    together = await played(helpdesk, "phones_1", calling(look, resume, look))
    apart = await played(helpdesk, "phones_1", calling(look), calling(resume), calling(look))
    gains = [call.gain for call in together.turns[0].by_call]
    assert gains == [turn.gain for turn in apart.turns[:3]] and gains[0] > 0 and gains[1] > 2 * gains[0]
    assert gains[2] == 0.0 and sum(gains) == pytest.approx(together.turns[0].gain, abs=1e-9)
    assert [turn.by_call for turn in apart.turns[:3]] == [(CallGain(0, 0, gain),) for gain in gains]
    assert together.turns[1].by_call == () and faults(together) == ["", "", ""]
    assert together.turns[0].record()["by_call"][0] == {"start": 0, "end": 0, "gain": gains[0], "wrong": ""}


async def test_what_the_user_does_is_credited_to_the_words(helpdesk):
    """phones_1: the agent asks the gold user for its calls."""
    episode = await driver.run_episode(
        helpdesk, "phones_1", ScriptedAgent(scripts.gold(helpdesk.task("phones_1"))), GoldUser()
    )
    assert episode.reward == 1.0 and faults(episode) == ["", ""]
    words = [turn for turn in episode.turns if not turn.calls]
    assert sum(turn.gain > 0 for turn in words) >= 2 and not any(turn.by_call for turn in words)


LOOK = ("get_order", {"order_id": "W48"})
SWAP = ("swap_item", {"order_id": "W48", "item": "shelf"})
"""The gold calls of orders_1."""


@pytest.mark.parametrize(
    "calls, wrong",
    [
        ([LOOK, SWAP], ["", ""]),
        ([LOOK, LOOK, ("get_order", {"order_id": "W99"}), SWAP], ["", "", "", ""]),
        ([("swap_item", {"order_id": "W48", "item": "sofa"}), SWAP], ["wrong argument", ""]),
        ([SWAP, ("swap_item", {"order_id": "W48", "item": "sofa"})], ["", "forbidden write"]),
        ([("refund", {"order_id": "W48", "amount": "$21"})], ["forbidden write"]),
        ([SWAP, SWAP], ["", "repeated write"]),
        ([("swap_item", {"order_id": "W48", "item": "radio"})] * 2, ["", "repeated write"]),
        ([SWAP, ("swap_item", {"order_id": "W48", "item": "sofa"}), SWAP], ["", "forbidden write", ""]),
        ([("refund", {"order_id": "W48", "amount": "$4"})] * 2, ["forbidden write", "repeated write"]),
        ([("book_return", {"order_id": "W48"}), ("swap_item", {"order_id": "W48"})], ["refused", "refused"]),
        ([(MALFORMED, {"error": "not JSON", "text": ""}), ("no_such_tool", {})], ["unreadable", "refused"]),
        ([("toggle", {"setting": "vpn"}), ("check_phone", {})], ["refused", "refused"]),
        ([("transfer_to_human_agents", {"summary": "x"})], [""]),
    ],
    ids=(
        "gold|needless reads, one of nothing|another item first|another item afterwards|another write|again"
        "|what is there already|put right again|a list grows twice|errors|unreadable, unknown|the user's tools|transfer"
    ).split("|"),
)
async def test_what_is_proven_wrong(helpdesk, calls, wrong):
    assert faults(await played(helpdesk, "orders_1", calling(*calls))) == wrong
    assert faults(await played(helpdesk, "orders_1", *map(calling, calls))) == wrong, "whatever stands in one message"


async def test_where_the_database_does_not_count_nothing_is_proven_by_it(helpdesk):
    """phones_1 asks for assertions alone; to resume a line twice errs."""
    resume = ("resume_line", {"line_id": "L10"})
    assert faults(await played(helpdesk, "phones_1", calling(resume, resume))) == ["", "refused"]
    task = helpdesk.task("phones_1")
    assert not helpdesk.grader.counts_database(task) and helpdesk.grader.counts_database(helpdesk.task("orders_1"))


async def test_retail_lists_in_another_order_are_no_other_effect(retail):
    """retail/0 exchanges two items; the database holds them as two lists."""
    *_, gold = retail.task("0").evaluation_criteria.actions
    pairs = list(zip(gold.arguments["item_ids"], gold.arguments["new_item_ids"]))
    turned = gold.arguments | {"item_ids": [a for a, _ in pairs[::-1]], "new_item_ids": [b for _, b in pairs[::-1]]}
    crossed = gold.arguments | {"item_ids": [pairs[0][0]], "new_item_ids": [pairs[0][1]]}
    paid = gold.arguments | {"payment_method_id": "paypal_0"}
    assert faults(await played(retail, "0", calling((gold.name, turned)))) == [""]
    assert faults(await played(retail, "0", calling((gold.name, paid), (gold.name, crossed)))) == [
        "refused",
        "wrong argument",
    ]
    retail.check()


async def test_in_a_case_each_write_beyond_the_solutions_is_proven_wrong_and_no_other():
    """Long conversations with several calls a turn; no argument is free there, and no write is wanted twice."""
    tasks = [bench.Task.model_validate(made.task) for made in build.make("helpdesk-cases", 40, seed=5)]
    world = worlds.build(worlds.load("helpdesk").spec, name="cases", tasks=tasks)
    found = Counter()
    for n, task in enumerate(tasks):
        teacher = Teacher(n, 1.0)
        episode = await driver.run_episode(world, task.id, CallableAgent(teacher.act), DomainUser(), seed=n)
        errors = {m["id"] for m in episode.messages if m["role"] == "tool" and m.get("error")}
        said = [m for m in episode.messages if m["role"] == "assistant"][-sum(t.sent for t in episode.turns) :]
        wanted = [(a.name, a.arguments) for a in task.evaluation_criteria.actions]
        for turn, message in zip((t for t in episode.turns if t.sent), said, strict=True):
            for call, record in zip(turn.by_call, message.get("tool_calls") or [], strict=True):
                if record["name"] not in world.writes or record["id"] in errors:
                    assert call.wrong in ("", "refused")
                    continue
                gold = (record["name"], record["arguments"]) in wanted
                if gold:
                    wanted.remove((record["name"], record["arguments"]))
                assert (call.wrong == "") == gold, (task.id, record)
                found[call.wrong] += 1
    assert found[""] > 50 and found["wrong argument"] > 5 and found["forbidden write"] > 2


@given(st.integers(0, 10_000))
@settings(max_examples=60)
def test_what_is_proven_is_so_and_gains_add_up(retail, seed):
    """Fuzzed gold scripts: whose last change to the database is proven strange, its database is not the solution's."""
    helpdesk = worlds.load("helpdesk", retail_basis="communicate")
    rng = random.Random(seed)
    world = rng.choice([helpdesk, retail])
    task = world.task(rng.choice(list(world.tasks)))
    episode = asyncio.run(driver.run_episode(world, task.id, ScriptedAgent(fuzz(task, world, seed)), GoldUser()))
    assert episode.outcome is not None, episode.detail
    last = ""
    for turn in episode.turns:
        assert len(turn.by_call) == turn.calls
        if turn.calls:
            assert sum(call.gain for call in turn.by_call) == pytest.approx(turn.gain, abs=1e-9)
        made = [m for m in episode.messages if m["role"] == "assistant"][turn.index + 1].get("tool_calls") or []
        for call, record in zip(turn.by_call, made, strict=True):
            if record["name"] in world.writes and call.wrong != "refused":
                last = call.wrong
    check = episode.outcome.reward_info.get("db_check")  # none where tau2's limit on errors ended it
    if last in ("forbidden write", "wrong argument") and check:
        assert check["db_match"] is False, last
