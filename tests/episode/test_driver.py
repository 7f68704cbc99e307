import asyncio
import gc
import itertools
import json
import weakref
from collections import Counter

import pytest
from aiohttp import web
from fake_policy import FakePolicy, teacher_reply

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import AgentAction, ScriptedAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.conversation import Conversation, unplayed
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.recorder import Recorder
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.episode.users import DomainUser, GoldUser, PlainUser
from slime_tau2.errors import ConfigError, JudgeError, LedgerError, UserSimulatorError
from slime_tau2.evaluation import audit
from slime_tau2.limits import Limits, Retries
from slime_tau2.terminations import Disposition, Termination

PROMPT = "Help."


def token_agent(url, chat, **options):
    settings = dict(max_turn_tokens=64, max_response_tokens=2000, max_context_tokens=32000) | options
    client = PolicyClient(url, retries=Retries(count=1, backoff_s=0.01, timeout_s=2.0))
    recorder = Recorder(client=client, chat=chat, sampling={"temperature": 1.0}, **settings)
    return TokenAgent(recorder=recorder, system_prompt=PROMPT)


async def play(helpdesk, chat, tokenizer, reply, task="orders_3", user=None, agent_options=None, delay=0.0, **options):
    async with FakePolicy(tokenizer, reply, delay) as fake:
        agent = token_agent(fake.url, chat, **(agent_options or {}))
        episode = await driver.run_episode(helpdesk, task, agent, user or DomainUser(), seed=1, **options)
        await agent.recorder.client.close()
        return episode, fake.requests


async def test_every_request_strictly_extends_the_last(helpdesk, chat, tokenizer):
    episode, requests = await play(helpdesk, chat, tokenizer, teacher_reply(), task="phones_4")
    assert episode.reward == 1.0 and episode.termination is Termination.USER_STOP
    sent = [r["input_ids"] for r in requests]
    assert len(sent) > 2
    for before, after in itertools.pairwise(sent):
        assert after[: len(before)] == before and len(after) > len(before)
    assert episode.segments[0].tokens[: len(sent[-1])] == sent[-1]
    assert not audit.is_mismatch(episode, chat, PROMPT)
    assert [t.partial for t in episode.turns] == sorted(t.partial for t in episode.turns)
    assert episode.turns[-1].partial == episode.outcome.partial == 1.0
    assert episode.weight_versions == ["3"] * len(requests)


@pytest.mark.parametrize(
    "domain, tool", [("helpdesk", "get_order"), ("airline", "get_user_details"), ("telecom", "get_customer_by_id")]
)
@pytest.mark.parametrize(
    "value",
    [
        '"\\ud800"',
        '"\\udfff\\ud800"',
        '"\\u0000"',
        "1e999",
        "1" * 4000,
        "1" * 5000,
        "[" * 300 + "]" * 300,
        '{"a":' * 900 + "1" + "}" * 900,
    ],
)
async def test_no_call_escapes_its_score(tokenizer, domain, tool, value):
    """What JSON can say and nothing behind it can take is the policy's mistake, never trouble in the infrastructure."""
    world = worlds.load(domain)
    call = f'<tool_call>{{"name": "{tool}", "arguments": {{"x": {value}}}}}</tool_call>'
    chat, budgets = (
        ChatRenderer(tokenizer, world.tool_schemas),
        {"max_turn_tokens": 20_000, "max_response_tokens": 30_000},
    )
    task = world.task_ids("test")[0]
    episode, _ = await play(
        world, chat, tokenizer, lambda p, n: [call, "Sorry."][min(n, 1)], task, PlainUser(1), budgets
    )
    assert episode.termination.disposition is Disposition.SCORE and episode.reward is not None, episode.detail
    json.dumps(episode.record(), ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("task", ["update_task_with_message_history", "update_task_with_history_and_env_assertions"])
async def test_a_task_that_begins_within_a_conversation(tokenizer, task):
    mock = worlds.load("mock")
    chat = ChatRenderer(tokenizer, mock.tool_schemas)
    call = '<tool_call>\n{"name": "get_users", "arguments": {}}\n</tool_call>'
    user = GoldUser()
    episode, requests = await play(
        mock, chat, tokenizer, lambda p, n: [call, "Done."][min(n, 1)], task, user, limits=Limits(max_steps=12)
    )
    said = [m.content for m in mock.task(task).initial_state.message_history if m.role != "tool" and m.content]
    assert said and len(episode.turns) > 1
    assert all(text in tokenizer.decode(requests[0]["input_ids"]) for text in said)
    assert episode.segments[0].prompt_length == len(requests[0]["input_ids"]), (
        "what was said before is not the policy's"
    )
    assert not audit.is_mismatch(episode, chat, PROMPT)


async def test_the_audit_sees_a_wrong_token(helpdesk, chat, tokenizer):
    episode, _ = await play(helpdesk, chat, tokenizer, teacher_reply())
    episode.segments[0]._ids[episode.segments[0].prompt_length + 3] += 1
    assert audit.is_mismatch(episode, chat, PROMPT)


@pytest.mark.parametrize(
    "reply, options, termination, policy",
    [
        (lambda p, n: "", {}, Termination.AGENT_ERROR, Disposition.SCORE),
        (lambda p, n: ("on and on", "length"), {}, Termination.LENGTH, Disposition.SCORE),
        (
            lambda p, n: ("cut", "abort"),
            {"agent_options": {"aborted": lambda: True}},
            Termination.ABORTED,
            Disposition.RETRY,
        ),
        (lambda p, n: web.Response(status=500), {}, Termination.POLICY_FAILURE, Disposition.RETRY),
        (lambda p, n: web.Response(status=400, text="too long"), {}, Termination.POLICY_FAILURE, Disposition.RETRY),
        (lambda p, n: web.Response(text="not json"), {}, Termination.POLICY_FAILURE, Disposition.RETRY),
        (lambda p, n: "What?", {"limits": Limits(max_steps=6)}, Termination.MAX_STEPS, Disposition.SCORE),
        (
            lambda p, n: '<tool_call>{"name": "nope"}</tool_call>',
            {"limits": Limits(max_errors=3)},
            Termination.TOO_MANY_ERRORS,
            Disposition.SCORE,
        ),
        (lambda p, n: "<tool_call>{", {"limits": Limits(max_errors=3)}, Termination.TOO_MANY_ERRORS, Disposition.SCORE),
        (lambda p, n: "x", {"aborted": lambda: True}, Termination.ABORTED, Disposition.RETRY),
        (lambda p, n: "x", {"limits": Limits(deadline_s=0.05)}, Termination.TIMEOUT, Disposition.RETRY),
    ],
)
async def test_every_ending_has_one_termination_and_its_policy(
    helpdesk, chat, tokenizer, reply, options, termination, policy
):
    delay = 0.5 if termination is Termination.TIMEOUT else 0.0
    episode, _ = await play(helpdesk, chat, tokenizer, reply, delay=delay, **options)
    assert episode.termination is termination and termination.disposition is policy
    assert (episode.outcome is not None) == (policy is Disposition.SCORE)
    assert episode.reward is None or episode.reward == 0.0
    assert episode.detail or policy is Disposition.SCORE
    for segment in episode.segments:
        assert len(segment.loss_mask) == len(segment.log_probs) == segment.response_length
        assert not audit.is_mismatch(episode, chat, PROMPT)


@pytest.mark.parametrize(
    "then, termination",
    [(web.Response(status=400, text="gone"), Termination.POLICY_FAILURE), (("", "abort"), Termination.TIMEOUT)],
)
async def test_a_turn_that_fails_after_an_abort_leaves_nothing_in_the_ledger(
    helpdesk, chat, tokenizer, then, termination
):
    """The ledger's spans are the episode's turns, whatever cut the last one."""

    def reply(prompt, n):
        return [("Which", "stop"), ("Let me", "abort")][n] if n < 2 else then

    episode, requests = await play(helpdesk, chat, tokenizer, reply, limits=Limits(deadline_s=1.0))
    assert episode.termination is termination and len(requests) > 2
    assert requests[2]["input_ids"] == requests[1]["input_ids"] + tokenizer.encode("Let me"), (
        "what was sampled is asked to go on"
    )
    assert episode.segments[0].spans() == [(t.start, t.end) for t in episode.turns] and len(episode.turns) == 1
    assert not audit.is_mismatch(episode, chat, PROMPT)


async def test_budgets_end_an_episode_as_overflow(helpdesk, chat, tokenizer):
    episode, requests = await play(
        helpdesk, chat, tokenizer, lambda p, n: "Which order?", agent_options={"max_response_tokens": 20}
    )
    assert episode.termination is Termination.CONTEXT_OVERFLOW and episode.outcome.reward == 0.0
    assert all(r["sampling_params"]["max_new_tokens"] <= 20 for r in requests)
    call = '<tool_call>\n{"name": "get_order", "arguments": {"order_id": "W10"}}\n</tool_call>'
    spent, _ = await play(helpdesk, chat, tokenizer, lambda p, n: call, agent_options={"max_response_tokens": 60})
    assert spent.termination is Termination.CONTEXT_OVERFLOW and spent.turns[-1].start == spent.turns[-1].end
    assert not audit.is_mismatch(spent, chat, PROMPT), (
        "the last turn read its tool result and had nothing left to sample"
    )
    cut, _ = await play(
        helpdesk, chat, tokenizer, lambda p, n: ("word", "length"), agent_options={"max_response_tokens": 1}
    )
    assert cut.termination is Termination.CONTEXT_OVERFLOW, "a length stop that the episode's budget caused"


async def test_stopping_at_the_tool_call_appends_an_untrained_end(helpdesk, chat, tokenizer):
    whole = teacher_reply()

    def reply(prompt, n):
        said = whole(prompt, n)
        return (said, "stop_early") if said.endswith("</tool_call>") else said

    episode, requests = await play(helpdesk, chat, tokenizer, reply, agent_options={"stop_at_tool_call": True})
    assert episode.reward == 1.0 and not audit.is_mismatch(episode, chat, PROMPT)
    assert requests[0]["sampling_params"]["stop_token_ids"] == [tokenizer.convert_tokens_to_ids("</tool_call>")]
    response = episode.segments[0].tokens[episode.segments[0].prompt_length :]
    ends = [m for t, m in zip(response, episode.segments[0].loss_mask) if t == tokenizer.eos_token_id]
    assert 0 in ends and 1 in ends


async def test_parallel_calls_share_one_user_turn(helpdesk, chat, tokenizer):
    two = '<tool_call>\n{"name": "get_order", "arguments": {"order_id": "W10"}}\n</tool_call>'
    episode, requests = await play(helpdesk, chat, tokenizer, lambda p, n: f"{two}\n{two}" if n == 0 else "Sorry.")
    last = tokenizer.decode(requests[-1]["input_ids"])
    assert "</tool_response>\n<tool_response>" in last and episode.turns[0].calls == 2
    assert not audit.is_mismatch(episode, chat, PROMPT)
    ids = [c["id"] for m in episode.messages for c in m.get("tool_calls") or []]
    assert len(ids) == len(set(ids)) == 2


async def test_an_agent_cannot_call_the_users_tools(helpdesk, chat, tokenizer):
    sneaky = '<tool_call>{"name": "toggle", "arguments": {"setting": "vpn"}, "requestor": "user"}</tool_call>'
    episode, _ = await play(helpdesk, chat, tokenizer, lambda p, n: sneaky if n == 0 else "Sorry.", task="phones_3")
    result = next(m for m in episode.messages if m["role"] == "tool")
    assert result["error"] and "not found" in result["content"] and result["requestor"] == "assistant"


class FailingUser:
    def __init__(self, error):
        self.error = error

    def start(self, *_):
        pass

    async def respond(self, message):
        raise self.error


@pytest.mark.parametrize(
    "error, termination",
    [
        (UserSimulatorError("down"), Termination.USER_FAILURE),
        (JudgeError("down"), Termination.JUDGE_FAILURE),
        (ValueError("bug"), Termination.ENVIRONMENT_ERROR),
        (TimeoutError("bug"), Termination.ENVIRONMENT_ERROR),
    ],
)
async def test_failures_of_others_are_never_a_zero(helpdesk, error, termination):
    episode = await driver.run_episode(helpdesk, "orders_0", ScriptedAgent(scripts.noop(None)), FailingUser(error))
    assert episode.termination is termination and episode.reward is None and str(error) in episode.detail


@pytest.mark.parametrize("broken", ["scorer", "LeanOrchestrator"])
async def test_a_task_that_tau2_cannot_begin_ends_its_episode_alone(helpdesk, monkeypatch, broken):
    """tau2's constructor and the playing of gold are tau2 too: one bad task must not end a whole evaluation."""

    def fails(*_, **__):
        raise ValueError("a task that cannot be begun")

    monkeypatch.setattr(helpdesk.grader if broken == "scorer" else bench, broken, fails)
    episode = await driver.run_episode(helpdesk, "orders_0", ScriptedAgent(scripts.noop(None)), GoldUser())
    assert episode.termination is Termination.ENVIRONMENT_ERROR and "cannot be begun" in episode.detail
    assert episode.reward is None and episode.record()["task_id"] == "orders_0" and not episode.messages


@pytest.mark.parametrize("error", [ConfigError("no such option"), LedgerError("a broken record")])
async def test_what_no_episode_would_survive_is_raised(helpdesk, error):
    with pytest.raises(type(error), match=str(error)):
        await driver.run_episode(helpdesk, "orders_0", ScriptedAgent(scripts.noop(None)), FailingUser(error))


async def test_a_failing_user_does_not_lose_the_turn_before_it(helpdesk, chat, tokenizer):
    class FailsLater(DomainUser):
        async def respond(self, message):
            if len(getattr(self, "seen", ())) == 1:
                raise UserSimulatorError("down")
            self.seen = ["once"]
            return await super().respond(message)

    episode, _ = await play(helpdesk, chat, tokenizer, lambda p, n: "Which order?", user=FailsLater())
    assert episode.termination is Termination.USER_FAILURE and [t.text for t in episode.turns] == ["Which order?"]
    assert not audit.is_mismatch(episode, chat, PROMPT)


async def test_cancelling_is_not_swallowed(helpdesk):
    class Sleeper:
        segments = ()

        async def act(self, history, message):
            await asyncio.sleep(60)
            return AgentAction(None)

    task = asyncio.ensure_future(driver.run_episode(helpdesk, "orders_0", Sleeper(), GoldUser()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_concurrent_episodes_share_nothing_mutable(helpdesk):
    ids = helpdesk.task_ids("test")
    episodes = await asyncio.gather(
        *(
            driver.run_episode(helpdesk, i, ScriptedAgent(scripts.gold(helpdesk.task(i))), GoldUser())
            for i in ids
            for _ in range(2)
        )
    )
    assert Counter(e.reward for e in episodes) == {1.0: 2 * len(ids)}
    helpdesk.environments.check()


async def test_copy_on_write_protects_the_shared_database():
    from slime_tau2.episode import environments, worlds

    retail = worlds.load("retail")
    first, second = retail.environments.fresh(), retail.environments.fresh()
    order = next(iter(first.tools.db.orders))
    first.tools.db.orders[order].status = "changed"
    assert second.tools.db.orders[order].status != "changed"
    retail.environments.check()
    dict.__getitem__(first.tools.db.users, next(iter(first.tools.db.users))).name.first_name = "Mallory"
    with pytest.raises(AssertionError, match="changed the shared database"):
        retail.environments.check()
    worlds._load.cache_clear()
    environments.shared.cache_clear()


async def test_live_score_equals_tau2s_evaluator_on_helpdesk(helpdesk):
    """Invariant 4, field by field, on solved, failed and degenerate conversations."""
    from slime_tau2.domains.helpdesk.teacher import Teacher
    from slime_tau2.episode.agents import CallableAgent

    for n, task_id in enumerate(helpdesk.task_ids("test")):
        agent = CallableAgent(Teacher(n, flaws=1.5).act)
        task = helpdesk.task(task_id)
        run = Conversation(
            world=helpdesk,
            task=task,
            agent=agent,
            user=DomainUser(),
            episode=unplayed(helpdesk, task, seed=n),
            limits=Limits(max_steps=60),
        )
        run.begin()
        await run.converse()
        live = helpdesk.grader.score(run.task, run.environment, run.messages(), run.episode.termination.tau2_reason)
        official = bench.evaluate(bench.finalize(run.orchestrator, 0.0), run.task, helpdesk.spec)
        assert live.model_dump_json() == official.model_dump_json(), task_id


async def test_an_ended_episode_leaves_no_environment_behind(helpdesk):
    """The timer of its deadline, called off, stays in the loop, and with it the context of the task that played."""
    made = []

    def noted(task):
        environment = fresh(task)
        made.append(weakref.ref(environment))
        return environment

    fresh, helpdesk.environments.fresh = helpdesk.environments.fresh, noted
    task_id = helpdesk.task_ids("test")[0]
    sooner = asyncio.get_running_loop().call_later(60.0, int)  # what is called off behind it waits in the loop
    try:
        for kind in ("gold", "noop"):
            agent = ScriptedAgent(scripts.script(kind, helpdesk.task(task_id)))
            await asyncio.create_task(driver.run_episode(helpdesk, task_id, agent, GoldUser(), seed=1))
    finally:
        del helpdesk.environments.fresh
    gc.collect()
    sooner.cancel()
    assert len(made) >= 2 and not any(ref() for ref in made)
