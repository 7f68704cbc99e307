import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.users import DomainUser, GoldUser, LLMUser, PlainUser
from slime_tau2.errors import ConfigError, UserSimulatorError
from slime_tau2.types import Termination


class FakeOpenAI:
    """An OpenAI-compatible server: `answers` are played in order, the last one repeats."""

    def __init__(self, answers, delay=0.0):
        self.answers, self.delay, self.bodies, self.headers, self.open, self.peak = answers, delay, [], [], 0, 0
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self.server = TestServer(app)

    async def __aenter__(self):
        await self.server.start_server()
        self.url = str(self.server.make_url("/v1"))
        return self

    async def __aexit__(self, *exc):
        await self.server.close()

    async def _complete(self, request):
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        self.open += 1
        self.peak = max(self.peak, self.open)
        await asyncio.sleep(self.delay)
        self.open -= 1
        answer = self.answers[min(len(self.bodies) - 1, len(self.answers) - 1)]
        if isinstance(answer, web.Response):
            return answer
        calls = None
        if isinstance(answer, list):
            calls = [{"id": f"x{n}", "type": "function", "function": {"name": f, "arguments": a}} for n, (f, a) in enumerate(answer)]
            answer = None
        message = {"role": "assistant", "content": answer, "tool_calls": calls}
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            }
        )


HI = [b'{"role": "user", "content": "hi"}']


def client(url, retries=2, timeout_s=5.0, concurrency=8):
    return ChatClient(url, "sim", "TEST_USER_KEY", UserSimulatorError, {"temperature": 0.7}, concurrency, timeout_s, retries, 0.01)


async def test_it_plays_tau2s_simulator(helpdesk, monkeypatch):
    monkeypatch.setenv("TEST_USER_KEY", "sk-planted")
    async with FakeOpenAI(["My phone is offline.", [("check_phone", "{}")], "vpn on", f"Thanks {bench.STOP}"]) as fake:
        c = client(fake.url)
        script = [bench.AssistantMessage(role="assistant", content=t) for t in ("Please check.", "Turn it off.")]
        episode = await driver.run_episode(helpdesk, "phones_5", ScriptedAgent(script), LLMUser(c), seed=4)
        await c.close()
    assert episode.termination is Termination.USER_STOP and episode.reward == 0.0
    first, last = fake.bodies[0], fake.bodies[-1]
    system = first["messages"][0]
    assert (
        system["role"] == "system"
        and "<scenario>" in system["content"]
        and helpdesk.task("phones_5").user_scenario.instructions.known_info in system["content"]
    )
    assert {t["function"]["name"] for t in first["tools"]} == {"check_phone", "toggle"} and first["tool_choice"] == "auto"
    assert [m["role"] for m in last["messages"]] == ["system", "user", "assistant", "user", "assistant", "tool", "assistant", "user"]
    assert (
        last["messages"][1]["content"] == bench.GREETING
        and last["messages"][5]["tool_call_id"] == last["messages"][4]["tool_calls"][0]["id"]
    )
    assert fake.headers[0]["Authorization"] == "Bearer sk-planted" and "sk-planted" not in json.dumps(episode.record())


@pytest.mark.parametrize("bad", ["", "   ", web.Response(status=500), [("toggle", "{not json")], [("toggle", "[1]")]])
async def test_trouble_is_retried_and_then_named(bad):
    async with FakeOpenAI([bad, "fine"]) as fake:
        c = client(fake.url)
        assert (await c.complete(HI)).text == "fine"
        await c.close()
    async with FakeOpenAI([bad]) as fake:
        c = client(fake.url, retries=1)
        with pytest.raises(UserSimulatorError, match="failed 2 times"):
            await c.complete(HI)
        await c.close()
    assert len(fake.bodies) == 2 and fake.bodies[0]["seed"] != fake.bodies[1]["seed"]


async def test_a_silent_server_times_out_and_the_cap_holds():
    async with FakeOpenAI(["late"], delay=1.0) as fake:
        c = client(fake.url, retries=0, timeout_s=0.1)
        with pytest.raises(UserSimulatorError, match="no answer within"):
            await c.complete(HI)
        await c.close()
    async with FakeOpenAI(["ok"], delay=0.02) as fake:
        c = client(fake.url, concurrency=3)
        await asyncio.gather(*(c.complete(HI) for _ in range(12)))
        await c.close()
    assert fake.peak == 3


async def test_scripted_users():
    airline = worlds.load("airline")
    task_id = airline.task_ids("test")[0]
    with pytest.raises(ConfigError, match="tau2_user=scripted exists for helpdesk only"):
        DomainUser().start(airline, airline.task(task_id), None, [], 0)
    episode = await driver.run_episode(airline, task_id, ScriptedAgent(scripts.noop(None)), PlainUser(turns=2))
    assert (
        episode.termination is Termination.USER_STOP
        and episode.messages[1]["content"] == airline.task(task_id).user_scenario.instructions.reason_for_call
    )
    assert await GoldUser().respond(bench.AssistantMessage(role="assistant", content="Hi")) is not None


def test_unknown_scripts_are_named():
    with pytest.raises(ConfigError, match="unknown scripted policy 'glod'; known: gold, noop"):
        scripts.script("glod", None)
