"""What would hang the process is refused at once: in a live run, in a replay, by tau2's evaluator, and by a stock tau2."""

import time

import pytest

from slime_tau2 import bench, guards
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.official import Job, grade
from slime_tau2.episode.users import GoldUser

HANGS = ["9**9**9", "9* *9", "9*\t*9", "1+" * 200 + "1"]
WITH_CALCULATE = sorted(
    d
    for d in bench.registry.get_domains()
    if "_" not in d and hasattr(type(worlds.load(d).environments.base.tools), "calculate")
)


def test_the_domains_that_have_the_tool_are_known():
    assert {"airline", "retail"} <= set(WITH_CALCULATE)


@pytest.mark.parametrize("expression", HANGS)
@pytest.mark.parametrize("domain", WITH_CALCULATE)
def test_refused_within_a_millisecond(domain, expression):
    environment = worlds.load(domain).environments.fresh()
    best = float("inf")
    for n in range(5):
        started = time.perf_counter()
        reply = environment.get_response(
            bench.ToolCall(id=str(n), name="calculate", arguments={"expression": expression})
        )
        best = min(best, time.perf_counter() - started)
        assert reply.error and reply.content == f"Error: {guards.REFUSAL}"
    assert best < 1e-3
    sane = environment.get_response(bench.ToolCall(id="2", name="calculate", arguments={"expression": "2 * (3 + 4)"}))
    assert not sane.error and float(sane.content) == 14.0


@pytest.mark.parametrize("domain", WITH_CALCULATE)
async def test_live_replay_and_regrading_see_the_same_refusal(domain):
    world = worlds.load(domain)
    task = world.task(world.task_ids("test")[0])
    calls = [bench.ToolCall(name="calculate", arguments={"expression": e}) for e in HANGS]
    script = [bench.AssistantMessage(role="assistant", tool_calls=calls, cost=0.0), *scripts.gold(task)]
    started = time.perf_counter()
    episode = await driver.run_episode(world, task.id, ScriptedAgent(script), GoldUser())
    assert episode.reward == 1.0 and episode.tool_errors == len(HANGS)
    messages = [bench.parse_message(m) for m in episode.messages]
    environment = world.environments.fresh()
    environment.set_state(initialization_data=None, initialization_actions=None, message_history=messages)
    for form in (lambda m: m, guards.stock_safe):
        info = grade(
            60.0,
            Job(
                spec=world.spec,
                task=task.model_dump(mode="json"),
                messages=[form(m) for m in episode.messages],
                termination="user_stop",
            ),
        )
        assert info == episode.outcome.reward_info
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("expression", HANGS)
def test_an_exported_refusal_is_one_for_a_stock_tau2_too(expression):
    message = {
        "role": "assistant",
        "tool_calls": [{"name": "calculate", "arguments": {"expression": expression}}, {"name": "x", "arguments": {}}],
    }
    safe = guards.stock_safe(message)
    exported = safe["tool_calls"][0]["arguments"]["expression"]
    assert safe["tool_calls"][1] == message["tool_calls"][1] and len(exported) <= guards.MAX_EXPRESSION
    tools = type(worlds.load("airline").environments.base.tools)
    with pytest.raises(ValueError, match="Invalid characters"):
        tools.calculate.__wrapped__(None, exported)  # tau2's own function, without the guard
    harmless = {"role": "assistant", "tool_calls": [{"name": "calculate", "arguments": {"expression": "1 + 1"}}]}
    assert guards.stock_safe(harmless) is harmless


def test_arguments_that_are_no_expression_are_an_error_not_a_crash():
    environment = worlds.load("airline").environments.fresh()
    for arguments in (
        {},
        {"expression": None},
        {"expression": ["9**9**9"]},
        {"expression": "(" * 150},
        {"expression": "1/0"},
    ):
        assert environment.get_response(bench.ToolCall(id="1", name="calculate", arguments=arguments)).error
