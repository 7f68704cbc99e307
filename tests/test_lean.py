"""tau2's own functions, less what they write to a debug log: the same steps, answers and errors, in every vintage."""

import json
import pickle

import pytest
from exactness import ScriptedMailboxAgent, ScriptedMailboxUser

from slime_tau2 import bench
from slime_tau2.bench.lean import without_debug
from slime_tau2.episode import scripts

logged = []


class logger:
    @staticmethod
    def debug(line):
        logged.append(line)

    info = debug


def said(words, *, often: int = 2):
    """Words, often."""
    logger.debug(f"says {words}")
    if often > 2:
        logger.debug("often")
    for _ in range(often):
        logger.info(words)
    return [words] * often


def enclosed():
    count = 3

    def inner():
        logger.debug(count)
        return count

    return inner


class Mangled:
    def __secret(self):
        return 1

    def said(self):
        logger.debug("x")
        return self.__secret()


def test_only_the_debug_lines_are_gone():
    lean = without_debug(said)
    assert lean is not said and lean is without_debug(said)
    logged.clear()
    assert lean("a") == ["a", "a"] and lean("a", often=3) == ["a"] * 3 and logged == ["a"] * 5
    assert said("a") == ["a", "a"] and logged[5:] == ["says a", "a", "a"], "the function itself is as it was"
    assert (lean.__name__, lean.__qualname__, lean.__module__) == (said.__name__, said.__qualname__, said.__module__)
    with pytest.raises(TypeError) as error:
        lean("a", often="b")
    assert error.traceback[-1].path == error.traceback[0].path
    assert "often > 2" in str(error.traceback[-1].statement), "it is found in its own file, at its own line"


def without_source():
    exec("def made(): return 1", scope := {})
    return scope["made"]


@pytest.mark.parametrize("function", [enclosed(), Mangled.said, print, without_source()])
def test_what_cannot_be_compiled_so_stays_itself(function):
    assert without_debug(function) is function


def test_tau2s_step_and_answer_can_be_compiled_so_in_this_vintage():
    assert bench.LeanOrchestrator.step is not bench.Orchestrator.step
    assert without_debug(bench.Environment.get_response) is not bench.Environment.get_response
    assert "logger" not in bench.LeanOrchestrator.step.__code__.co_names


def played(world, task_id, kind, lean):
    """What a conversation of a kind of orchestrator gives: its messages and the hashes of the databases."""
    task = world.task(task_id)
    environment = world.environments.fresh(task)
    orchestrator = kind(
        domain=world.domain,
        agent=ScriptedMailboxAgent(scripts.gold(task)),
        user=ScriptedMailboxUser(str(task.user_scenario)),
        environment=environment,
        task=task,
        max_steps=60,
    )
    if lean:
        environment.get_response = bench.answers(environment)
        bench.bind_tools(environment)
    orchestrator.initialize()
    while not orchestrator.done and orchestrator.step_count < 60:
        orchestrator.step()
    if lean:
        bench.release_tools(environment)
    messages = [m.model_dump(exclude={"timestamp"}) for m in orchestrator.trajectory]
    for message in messages:
        for call in message.get("tool_calls") or []:
            call.pop("id")
        message.pop("id", None)
    return messages, environment.get_db_hash(), environment.get_user_db_hash(), orchestrator.step_count


def test_a_lean_conversation_is_tau2s(helpdesk):
    for task_id in helpdesk.task_ids("test")[:12]:
        assert played(helpdesk, task_id, bench.LeanOrchestrator, True) == played(
            helpdesk, task_id, bench.Orchestrator, False
        )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("no_such_tool", {}),
        ("_func_tools", {}),
        ("use_tool", {}),
        ("get_order", {}),
        ("get_order", {"order_id": "none"}),
        ("get_order", {"order_id": "none", "tool_name": "x"}),
        ("get_order", {"self": 1}),
        ("db", {}),
    ],
)
@pytest.mark.parametrize("requestor", ["assistant", "user"])
def test_errors_are_word_for_word_tau2s(helpdesk, name, arguments, requestor):
    environment = helpdesk.environments.fresh()
    call = bench.ToolCall(id="1", name=name, arguments=arguments, requestor=requestor)
    theirs = environment.get_response(call)
    bench.bind_tools(environment)
    ours = bench.answers(environment)(call)
    assert ours == theirs and ours.error


def test_a_tool_is_found_and_everything_is_left_as_it_was(helpdesk):
    environment = helpdesk.environments.fresh()
    before = pickle.dumps(vars(environment.tools))
    name = sorted(bench.get_tool_types(environment.tools))[0]
    bench.bind_tools(environment)
    assert "use_tool" in vars(environment.tools)
    assert name in json.dumps(sorted(environment.tools.tools))
    bench.release_tools(environment)
    bench.release_tools(environment)
    assert pickle.dumps(vars(environment.tools)) == before


def test_a_toolkit_with_a_way_of_its_own_keeps_it(helpdesk):
    environment = helpdesk.environments.fresh()

    class Own(type(environment.tools)):
        def use_tool(self, tool_name, **kwargs):
            return "mine"

    environment.tools = Own(environment.tools.db)
    bench.bind_tools(environment)
    assert "use_tool" not in vars(environment.tools)
    assert environment.use_tool("anything") == "mine"


def test_an_answer_that_somebody_put_there_is_asked(helpdesk):
    environment = helpdesk.environments.fresh()
    environment.get_response = lambda call: "theirs"
    assert bench.answers(environment)(None) == "theirs"
