"""Tokens by role, as the servers report them: every answer counts, nothing is counted elsewhere, and what is not known
is said.
"""

import asyncio
import json

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy, cut_in_three, teacher_reply

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import driver, scripts, usage
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import UserSimulatorError
from slime_tau2.limits import Retries
from slime_tau2.record import TokenCounts
from slime_tau2.terminations import Termination

HI = [b'{"role": "user", "content": "hi"}']


def told(text, prompt=None, completion=None, cached=None, finish="stop"):
    """A chat completion with its usage."""
    answer = {"choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]}
    if prompt is not None:
        answer["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached is not None:
        answer["usage"]["prompt_tokens_details"] = {"cached_tokens": cached}
    return web.json_response(answer)


def counts(requests, unreported, prompt, cached, completion):
    return dict(zip(TokenCounts.__annotations__, (requests, unreported, prompt, cached, completion)))


async def spent(answers, retries=3, timeout_s=120.0, **over):
    with usage.collecting() as collected:
        async with FakeOpenAI(answers, over.pop("delay", 0.0)) as fake:
            client = ChatClient(
                fake.url,
                "m",
                failure=UserSimulatorError,
                options={},
                retries=Retries(count=retries, timeout_s=timeout_s, backoff_s=0.01),
                **over,
            )
            try:
                await client.complete(HI)
            except UserSimulatorError:
                pass
            await client.close()
    return collected.tokens


async def test_answers_that_a_retry_replaced_cost_tokens_too():
    answers = [
        told("", 10, 3, 4),
        told(None, 10, 900),
        web.Response(status=500),
        web.Response(text="{half"),
        told("fine", 10, 2, 10),
    ]
    assert await spent(answers, 4) == {"user": counts(4, 1, 30, 14, 905)}


@pytest.mark.parametrize(
    "usage_field",
    [
        None,
        "lots",
        [],
        {"prompt_tokens": 3},
        {"prompt_tokens": "3", "completion_tokens": 1},
        {"prompt_tokens": 3, "completion_tokens": None},
        {"prompt_tokens": -1, "completion_tokens": 1},
    ],
)
async def test_an_answer_that_does_not_say_is_told_apart(usage_field):
    body = {"choices": [{"message": {"content": "hi"}}], "usage": usage_field}
    assert await spent([web.json_response(body)]) == {"user": counts(1, 1, 0, 0, 0)}


async def test_a_request_that_was_cut_off_is_not_known_and_one_that_nobody_heard_is_none():
    assert await spent([told("late", 5, 5)], 1, delay=1.0, timeout_s=0.05) == {"user": counts(2, 2, 0, 0, 0)}
    with usage.collecting() as collected:
        client = ChatClient(
            "http://127.0.0.1:9/v1",
            "m",
            failure=UserSimulatorError,
            options={},
            retries=Retries(count=1, backoff_s=0.01),
        )
        with pytest.raises(UserSimulatorError):
            await client.complete(HI)
        await client.close()
    assert collected.tokens == {}
    assert await spent([web.Response(status=500)], 2) == {}


async def test_an_episodes_policy_is_counted_as_its_server_reports_it(helpdesk, tokenizer):
    """A turn that weight updates cut into three requests is three answers."""
    async with FakePolicy(tokenizer, cut_in_three()) as fake:
        box = Harness(Tau2Config(user="scripted"), tokenizer, PolicyClient(fake.url))
        agent = box.agent(helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 20_000})
        episode = await box.run(helpdesk, "orders_0", agent, seed=1)
        await box.close()
    sent = [len(r["input_ids"]) for r in fake.requests]
    assert len(sent) == len(episode.turns) + 2
    expected = {"policy": counts(len(sent), 0, sum(sent), sum(n // 2 for n in sent), episode.segments[0].sampled)}
    assert episode.usage == expected == json.loads(json.dumps(episode.record()))["usage"]


async def test_garbage_of_the_policys_server_was_sampled_too(helpdesk, tokenizer):
    teacher, n = teacher_reply(), 0

    def reply(prompt, _):
        nonlocal n
        n += 1
        if n == 1:
            pairs = [[-0.25, 7, None]]
            meta = {
                "finish_reason": {"type": "stop"},
                "output_token_logprobs": pairs,
                "prompt_tokens": 100,
                "completion_tokens": 50,
            }
            return web.json_response({"output_ids": [8], "meta_info": meta})
        return teacher(prompt, n)

    async with FakePolicy(tokenizer, reply) as fake:
        box = Harness(
            Tau2Config(user="scripted"), tokenizer, PolicyClient(fake.url, retries=Retries(count=1, backoff_s=0.01))
        )
        agent = box.agent(helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 20_000})
        episode = await box.run(helpdesk, "orders_0", agent, seed=1)
        faults = box.take_faults()
        await box.close()
    assert faults == {"policy/garbage": 1} and episode.usage["policy"]["completion"] == episode.segments[0].sampled + 50
    assert episode.usage["policy"]["prompt"] == sum(len(r["input_ids"]) for r in fake.requests[1:]) + 100


async def test_episodes_side_by_side_never_mix(helpdesk):
    """Twelve at once, each with a user whose answers cost what only they cost, over one client."""

    def answer(body):
        price = int(body["messages"][-1]["content"].removeprefix("say "))
        return told(f"Help. {bench.STOP}", price, 1)

    async with FakeOpenAI(answer, delay=0.02) as fake:
        box = Harness(Tau2Config(user="llm", user_base_url=fake.url))
        agents = [ScriptedAgent([bench.AssistantMessage(role="assistant", content="x")]) for _ in range(12)]
        prices = [10**n for n in range(12)]
        users = [Priced(box.user_client, price) for price in prices]
        runs = [driver.run_episode(helpdesk, "orders_0", a, u, seed=n) for n, (a, u) in enumerate(zip(agents, users))]
        episodes = await asyncio.gather(*runs)
        await box.close()
    assert fake.peak > 1
    assert [e.usage for e in episodes] == [{"user": counts(1, 0, price, 0, 1)} for price in prices]


class Priced:
    """A user of one's own, which knows nothing of the counting; it asks in a task of its own."""

    def __init__(self, client, price):
        self.client, self.price = client, price

    def start(self, *_):
        pass

    async def respond(self, message):
        asked = json.dumps({"role": "user", "content": f"say {self.price}"}).encode()
        reply = await asyncio.create_task(self.client.complete([asked]))
        return bench.UserMessage(role="user", content=reply.text, cost=0.0)


async def test_an_episode_that_hits_its_deadline_says_what_it_does_not_know(helpdesk):
    async with FakeOpenAI([told("late", 5, 5)], delay=5.0) as fake:
        config = Tau2Config(user="llm", user_base_url=fake.url, episode_timeout_s=0.1)
        box = Harness(config)
        episode = await box.run(helpdesk, "orders_0", ScriptedAgent(scripts.noop(None)), seed=1)
        await box.close()
    assert episode.termination is Termination.TIMEOUT and episode.usage == {"user": counts(1, 1, 0, 0, 0)}
