"""One task played twice: by our driver on copy-on-write databases, and by tau2's own runner and evaluator.

Everything is real but the two participants, which are scripted. `differences` runs in a worker process: it takes names
and returns texts. Some of tau2's constructors take most of tau2's time (airline's parses 7 MB, seven times a
conversation). Of those, a process makes what one conversation needs once; tau2 plays and grades each in a fork, on
environments that nobody has touched.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import os
import pickle
import random
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.conversation import Conversation, unplayed
from slime_tau2.episode.users import GoldUser
from slime_tau2.episode.world import World
from slime_tau2.seeds import derive_seed
from slime_tau2.terminations import Termination

KINDS = ("gold", "noop", "empty-arguments", "transfer-only", "fuzz-0", "fuzz-1", "fuzz-2")
FUZZES = {"airline": 2, "retail": 1, "telecom": 1, "mock": 3, "helpdesk": 1}
"""Random episodes a task: 50·2 + 114 + 114 + 9·3 + 48 = 403 of PyPI's tasks."""
FUZZES_KNOWLEDGE = 1
"""The same, of banking_knowledge, which only v1.0.x has."""
COSTLY = ("airline", "retail", bench.KNOWLEDGE)
LIMITS = {Termination.TOO_MANY_ERRORS, Termination.MAX_STEPS}


def kinds(domain: str) -> list[str]:
    return [k for k in KINDS if not k.startswith("fuzz") or int(k[-1]) < FUZZES.get(domain, FUZZES_KNOWLEDGE)]


def world_of(domain: str, how: str) -> World:
    """A domain's world; `how` is retail's basis, or banking_knowledge's retrieval kind."""
    if domain == bench.KNOWLEDGE:
        return worlds.load(domain, retail_basis="no_judge", retrieval=how)
    return worlds.load(domain, retail_basis=how)


def tasks_of(world: World) -> list[str]:
    return [*world.task_ids("train+val"), *world.task_ids("test")] if "test" in world.splits else world.task_ids("base")


def fuzz(task, world, seed: int) -> list:
    """Gold calls, perturbed calls, unknown tools, the user's tools, several calls a turn, texts beside calls, texts
    with told info.
    """
    rng = random.Random(seed)
    criteria = task.evaluation_criteria
    names = [*world.grader.tool_types, "no_such_tool", "malformed_tool_call"]
    script = []
    for action in (criteria.actions if criteria else None) or []:
        if action.requestor == "user" and rng.random() < 0.6:
            script += [m for m in scripts.gold(task) if m.content and action.name in m.content][:1]
            continue
        calls = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            arguments = copy.deepcopy(action.arguments)
            kind = rng.random()
            if kind < 0.2 and arguments:
                arguments.pop(rng.choice(list(arguments)))
            elif kind < 0.4 and arguments:
                arguments[rng.choice(list(arguments))] = rng.choice(("", "x", 7, None, [], {}))
            calls.append(bench.ToolCall(name=action.name if kind < 0.85 else rng.choice(names), arguments=arguments))
        content = rng.choice((None, "Let me see.", "; ".join(criteria.communicate_info or []) or None))
        script.append(bench.AssistantMessage(role="assistant", content=content, tool_calls=calls, cost=0.0))
    return [*script, scripts.gold(task)[-1]]


def script_of(kind: str, world, task) -> list:
    if kind.startswith("fuzz"):
        return fuzz(task, world, derive_seed(world.domain, task.id, kind))
    return scripts.script(kind, task)


class ScriptedMailboxAgent(bench.MailboxAgent):
    """tau2's agent, called by tau2: plays a script."""

    def __init__(self, script):
        super().__init__("")
        self.script = ScriptedAgent(script)

    def generate_next_message(self, message, state):
        return now(self.script.act([], message)).message, state


class ScriptedMailboxUser(bench.MailboxUser):
    """tau2's user, called by tau2: the gold user."""

    def generate_next_message(self, message, state):
        return now(GoldUser().respond(message)), state


def now(coroutine):
    """The result of a coroutine that awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


def own_run(world, task, script, answer):
    """tau2's own SimulationRun, and its RewardInfo or error as text, on an environment of its own.

    v1.0.x runs and grades in one call; the older ones leave the grading to `evaluate_simulation`, of which the text is
    then None.
    """
    options = bench.environment_options(world.spec, task)
    orchestrator = bench.Orchestrator(
        domain=world.domain,
        agent=ScriptedMailboxAgent(script),
        user=ScriptedMailboxUser(str(task.user_scenario)),
        environment=bench.registry.get_env_constructor(world.domain)(**options),
        task=task,
        max_steps=200,
        max_errors=10,
    )
    if not bench.HAS_V1_RUNNER:
        return orchestrator.run(), None
    from tau2.runner.simulation import run_simulation

    runs, run = [], orchestrator.run
    orchestrator.run = lambda: runs.append(run()) or runs[0]  # kept, should the grading raise
    info = outcome(
        lambda: bench.with_answer(answer, lambda: run_simulation(orchestrator, env_kwargs=options or None).reward_info)
    )
    return runs[0], info


class Stock:
    """Environments from tau2's own constructor, made before they are asked for; whoever takes one is a fork, so none is
    ever used up.
    """

    def __init__(self, domain: str, options: dict[str, Any], count: int):
        self.domain, self.options, self.real = domain, options, bench.registry.get_env_constructor(domain)
        self.made = [self.real(**options) for _ in range(count)]

    def take(self, **options: Any) -> Any:
        asked = {k: v for k, v in options.items() if k != "solo_mode" or v}
        return self.made.pop() if asked == self.options and self.made else self.real(**options)

    def constructor(self, domain: str) -> Callable[..., Any]:
        return self.take if domain == self.domain else _constructor(domain)


_constructor = bench.registry.get_env_constructor
_stocks: dict[str, Stock] = {}


def stock(world: World, task: Any) -> Stock:
    """As many environments as tau2 makes for one conversation: its own, and those of two gradings."""
    options = bench.environment_options(world.spec, task)
    if world.domain not in _stocks or _stocks[world.domain].options != options:
        bench.load("utils.llm_utils")  # which tau2's own runner calls: imported once here, and not in each fork
        _stocks[world.domain] = Stock(world.domain, options, 7 if bench.HAS_V1_RUNNER else 3)
        gc.freeze()  # a fork that collected would copy every page of it
    return _stocks[world.domain]


def in_fork(call: Callable[[], Any]) -> Any:
    """What `call` returns, in a fork of this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            gc.disable()
            try:
                told = True, call()
            except BaseException:
                told = False, traceback.format_exc()
            with os.fdopen(write, "wb") as sink:
                pickle.dump(told, sink)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        data = source.read()
    os.waitpid(child, 0)
    good, value = pickle.loads(data) if data else (False, "the fork died")
    if not good:
        raise AssertionError(value)
    return value


def plain(messages) -> list:
    """Messages without what may differ: times, and the ids that our driver gives to calls."""
    out = []
    for m in messages:
        row = m.model_dump(mode="json", exclude={"timestamp", "turn_idx", "id"})
        for call in row.get("tool_calls") or []:
            call.pop("id")
        if row["role"] == "tool":  # tau2's search tells the agent how long it took
            row["content"] = re.sub(r"\[Timing: [^\]]*\]$", "[Timing]", row["content"] or "")
        out.append(row)
    return out


def outcome(call):
    """RewardInfo as JSON, or what the evaluator raised (`may_raise`)."""
    try:
        return call().model_dump_json()
    except ValueError as error:
        return f"ValueError: {error}"


def may_raise(domain: str, task: Any) -> bool:
    """Whether tau2's evaluator raises where the agent has not made what is asserted on: mock's assertion does not look
    before.
    """
    criteria = task.evaluation_criteria
    return domain == "mock" and bool(criteria and criteria.env_assertions)


def differences(domain: str, how: str, task_id: str) -> list[str]:
    """What differs, as texts, over all kinds of conversation on one task; the last element counts the conversations.

    Args:
        how: retail's basis, or banking_knowledge's retrieval kind.
    """
    world, found = world_of(domain, how), []
    task = world.task(task_id)
    criteria = bench.unjudged(task).evaluation_criteria
    judged = (criteria.nl_assertions if criteria else None) or []
    answer = json.dumps(
        {"results": [{"expectedOutcome": a, "reasoning": "stub", "metExpectation": True} for a in judged]}
    )
    for kind in kinds(domain):
        found += [
            f"{domain}/{task_id} {kind}: {text}" for text in _compare(world, task, script_of(kind, world, task), answer)
        ]
    world.environments.check()
    return [*found, str(len(kinds(domain)))]


def _compare(world, task, script, answer) -> Iterator[str]:
    run = Conversation(
        world=world, task=task, agent=ScriptedAgent(script), user=GoldUser(), episode=unplayed(world, task, seed=0)
    )
    run.begin()
    asyncio.run(run.converse())
    termination = run.episode.termination
    live = outcome(lambda: world.grader.score(task, run.environment, run.messages(), termination.tau2_reason, answer))
    costly = world.domain in COSTLY
    environments = stock(world, task) if costly else None

    def theirs() -> tuple[str, str, list, str | None]:
        if environments is not None:
            bench.registry.get_env_constructor = environments.constructor
        graded = outcome(lambda: bench.evaluate(bench.finalize(run.orchestrator, 0.0), task, world.spec, answer))
        own, info = own_run(world, task, script, answer)
        return graded, own.termination_reason.value, plain(own.messages), info

    graded, ended, said, info = in_fork(theirs) if costly else theirs()
    if live.startswith("ValueError") and not may_raise(world.domain, task):
        yield f"neither could grade it: {live}"
    if live != graded:
        yield f"live {live}\n tau2's evaluator {graded}"
    if termination in LIMITS and bench.VINTAGE.name == "pypi":
        return  # PyPI's runner counts no errors and checks steps otherwise
    if ended != termination.value:
        yield f"ended {termination}, tau2's runner {ended}"
    if plain(run.messages()) != said:
        yield "the trajectories differ"
    if info is not None and info != live:
        yield f"live {live}\n tau2's runner {info}"
