"""One task played twice: by our driver on copy-on-write databases, and by tau2's own runner and evaluator.

Everything is real but the two participants, which are scripted. `differences` runs in a worker process: it takes names and
returns texts.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Iterator

from slime_tau2 import bench
from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.conversation import Conversation
from slime_tau2.episode.users import GoldUser
from slime_tau2.seeds import derive_seed
from slime_tau2.types import Episode, TaskRef, Termination

KINDS = ("gold", "noop", "empty-arguments", "transfer-only", "fuzz-0", "fuzz-1", "fuzz-2")
FUZZES = {"airline": 2, "retail": 1, "telecom": 1, "mock": 3}
"""Random episodes a task: 50·2 + 114 + 114 + 9·3 = 355 of PyPI's tasks."""
LIMITS = {Termination.TOO_MANY_ERRORS, Termination.MAX_STEPS}


def kinds(domain: str) -> list[str]:
    return [k for k in KINDS if not k.startswith("fuzz") or int(k[-1]) < FUZZES[domain]]


def fuzz(task, world, seed: int) -> list:
    """Gold calls, perturbed calls, unknown tools, the user's tools, several calls a turn, texts beside calls, texts with told info."""
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


def own_run(world, task, script):
    """tau2's own SimulationRun, on an environment of its own (adapter: v1.0.x runs and grades in one call)."""
    orchestrator = bench.Orchestrator(
        domain=world.domain, agent=ScriptedMailboxAgent(script), user=ScriptedMailboxUser(str(task.user_scenario)),
        environment=bench.registry.get_env_constructor(world.domain)(), task=task, max_steps=200, max_errors=10,
    )  # fmt: skip
    if not bench.HAS_V1_RUNNER:
        return orchestrator.run(), None
    from tau2.runner.simulation import run_simulation

    run = run_simulation(orchestrator)
    return run, run.reward_info


def plain(messages) -> list:
    """Messages without what may differ: times, and the ids that our driver gives to calls."""
    out = []
    for m in messages:
        row = m.model_dump(mode="json", exclude={"timestamp", "turn_idx", "id"})
        for call in row.get("tool_calls") or []:
            call.pop("id")
        out.append(row)
    return out


def outcome(call):
    """RewardInfo as JSON, or what the evaluator raised (mock asserts on a task that may not exist)."""
    try:
        return call().model_dump_json()
    except ValueError as error:
        return f"ValueError: {error}"


def differences(domain: str, retail_basis: str, task_id: str) -> list[str]:
    """What differs, as texts, over all kinds of conversation on one task; the last element counts the conversations."""
    world, found = worlds.load(domain, retail_basis), []
    task = world.task(task_id)
    criteria = bench.unjudged(task).evaluation_criteria
    judged = (criteria.nl_assertions if criteria else None) or []
    answer = json.dumps({"results": [{"expectedOutcome": a, "reasoning": "stub", "metExpectation": True} for a in judged]})
    for kind in kinds(domain):
        found += [f"{domain}/{task_id} {kind}: {text}" for text in _compare(world, task, script_of(kind, world, task), answer)]
    world.environments.check()
    return [*found, str(len(kinds(domain)))]


def _compare(world, task, script, answer) -> Iterator[str]:
    episode = Episode(TaskRef(world.domain, task.id), 0, Termination.ENVIRONMENT_ERROR, None)
    run = Conversation(world, task, ScriptedAgent(script), GoldUser(), episode, 200, 10, lambda: False)
    termination, _ = asyncio.run(run.converse())
    live = outcome(lambda: world.grader.score(task, run.environment, run.messages(), termination.tau2_reason, answer))
    graded = outcome(lambda: bench.evaluate(bench.finalize(run.orchestrator, 0.0), task, world.domain, answer))
    if live != graded:
        yield f"live {live}\n tau2's evaluator {graded}"
    if termination in LIMITS and not bench.HAS_V1_RUNNER:
        return  # PyPI's runner counts no errors and checks steps otherwise
    theirs, info = bench.with_answer(answer, lambda: own_run(world, task, script))
    if theirs.termination_reason.value != termination.value:
        yield f"ended {termination}, tau2's runner {theirs.termination_reason}"
    if plain(run.messages()) != plain(theirs.messages):
        yield "the trajectories differ"
    if info is not None and info.model_dump_json() != live:
        yield f"live {live}\n tau2's runner {info.model_dump_json()}"
