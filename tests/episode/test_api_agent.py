"""A policy behind an OpenAI-compatible server cannot escape its score: what it says badly is scored, only what the
server does is not.
"""

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode.api_agent import ApiAgent, TextApiAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.errors import PolicyError
from slime_tau2.limits import Retries
from slime_tau2.terminations import Termination


def said(finish="stop", **message):
    return web.json_response(
        {"choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}]}
    )


def refused(message, code=None):
    return web.json_response({"error": {"message": message, "code": code}}, status=400)


CALL = {"id": "x", "type": "function", "function": {"name": "get_order", "arguments": "{no"}}
ENDS = [
    (said(content=None), Termination.AGENT_ERROR),
    (said(content="  "), Termination.AGENT_ERROR),
    (said(content=None, reasoning_content="I think, and think."), Termination.AGENT_ERROR),
    (said("length", content="half a sen"), Termination.LENGTH),
    (said("length", content=None, reasoning_content="I think, and"), Termination.LENGTH),
    (
        refused("This model's maximum context length is 4096 tokens.", "context_length_exceeded"),
        Termination.CONTEXT_OVERFLOW,
    ),
    (refused("The input is longer than the model's context length (4096 tokens)."), Termination.CONTEXT_OVERFLOW),
]


async def played(world, answers, agent=ApiAgent):
    async with FakeOpenAI(answers) as fake:
        client = ChatClient(fake.url, "m", failure=PolicyError, options={}, retries=Retries(count=2, backoff_s=0.001))
        box = Harness(Tau2Config(user="scripted"), policy=client)
        speaks = {"tools": None} if agent is ApiAgent else {"protocol": PROTOCOLS["card"]}
        episode = await box.run(world, "orders_0", agent(client, system_prompt="", seed=0, **speaks), seed=1)
        await box.close()
    return episode, fake


@pytest.mark.parametrize("agent", [ApiAgent, TextApiAgent])
@pytest.mark.parametrize("answer, ends", ENDS, ids=[f"{e.value} {n}" for n, (_, e) in enumerate(ENDS)])
async def test_what_the_policy_does_badly_is_scored_and_not_asked_again(helpdesk, answer, ends, agent):
    episode, fake = await played(helpdesk, [answer], agent)
    assert episode.termination is ends and episode.reward == 0.0 and len(fake.bodies) == 1


async def test_a_call_that_cannot_be_read_is_a_malformed_one_and_the_model_hears_of_it(helpdesk):
    episode, fake = await played(helpdesk, [said(content=None, tool_calls=[CALL]), said(content=None)])
    assert (
        episode.turns[0].malformed == 1 and episode.tool_errors == 1 and episode.termination is Termination.AGENT_ERROR
    )
    assert "malformed_tool_call" in str(fake.bodies[1]["messages"])


async def test_half_a_surrogate_pair_is_written_like_any_other_text(helpdesk):
    episode, _ = await played(helpdesk, [said(content="a\ud800b"), said(content=None)])
    assert any(m.get("content") == "a\ufffdb" for m in episode.messages)
    assert str(bench.parse_message(episode.messages[1]).content).encode()


@pytest.mark.parametrize(
    "answer", [web.Response(status=500), web.json_response({"choices": []}), refused("no such field")]
)
async def test_what_the_server_does_is_infrastructure(helpdesk, answer):
    episode, _ = await played(helpdesk, [answer])
    assert episode.termination is Termination.POLICY_FAILURE and episode.reward is None
