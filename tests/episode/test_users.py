import asyncio
import json
import time

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials, driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.transport import Response
from slime_tau2.episode.users import DomainUser, GoldUser, LLMUser, PlainUser
from slime_tau2.errors import ConfigError, UserSimulatorError
from slime_tau2.limits import Retries
from slime_tau2.terminations import Termination

HI = [b'{"role": "user", "content": "hi"}']


def client(url, retries=2, timeout_s=5.0, concurrency=8):
    return ChatClient(
        url,
        "sim",
        key_env="TEST_USER_KEY",
        failure=UserSimulatorError,
        options={"temperature": 0.7},
        concurrency=concurrency,
        retries=Retries(timeout_s=timeout_s, count=retries, backoff_s=0.01),
    )


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
    assert {t["function"]["name"] for t in first["tools"]} == {"check_phone", "toggle"} and first[
        "tool_choice"
    ] == "auto"
    assert [m["role"] for m in last["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert (
        last["messages"][1]["content"] == bench.GREETING
        and last["messages"][5]["tool_call_id"] == last["messages"][4]["tool_calls"][0]["id"]
    )
    assert fake.headers[0]["Authorization"] == "Bearer sk-planted" and "sk-planted" not in json.dumps(episode.record())


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "   ",
        web.Response(status=500),
        [("toggle", "{not json")],
        [("toggle", "[1]")],
        "half \ud800",
        [("toggle", '{"setting": "\\ud800"}')],
    ],
)
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
    with pytest.raises(ConfigError, match=r"tau2_user=scripted exists for helpdesk(, lockers)? only, not airline"):
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


async def test_a_conversation_in_the_middle_is_told_to_the_user():
    """mock has tasks that begin with a history: the simulator must know what it has said and heard."""
    mock = worlds.load("mock")
    task_id = next(t for t, task in mock.tasks.items() if task.initial_state and task.initial_state.message_history)
    async with FakeOpenAI([f"Good. {bench.STOP}"]) as fake:
        c = client(fake.url)
        agent = ScriptedAgent([bench.AssistantMessage(role="assistant", content="Anything else?")])
        await driver.run_episode(mock, task_id, agent, LLMUser(c))
        await c.close()
    history = mock.task(task_id).initial_state.message_history
    visible = [m.content for m in history if m.content and m.role != "tool" and not m.tool_calls]
    told = [m["content"] for m in fake.bodies[-1]["messages"][1:]]
    assert len(visible) >= 2 and [t for t in told if t in visible] == visible


async def test_a_conversation_has_one_routing_key_and_only_our_own_servers_are_told(helpdesk, monkeypatch):
    monkeypatch.setattr(credentials, "_addresses", {"node-7": ["10.0.0.7"]}.__getitem__)
    sent: list[tuple[str, str | None]] = []

    async def transport(url, body, headers):
        sent.append((url, headers.get("X-SMG-Routing-Key")))
        text = f"Bye {bench.STOP}" if len(sent) % 2 == 0 else "Help me."
        return Response(200, json.dumps({"choices": [{"message": {"content": text}}]}).encode())

    for url in ("http://node-7:30001/v1", "https://api.openai.com/v1"):
        box = Harness(Tau2Config(user="llm", user_base_url=url))
        box.user_client.endpoint.transport = transport
        for key in ("episode-1", None, None):
            await box.run(helpdesk, "orders_0", ScriptedAgent(scripts.noop(None)), routing_key=key, seed=0)
    own, theirs = [k for u, k in sent if "node-7" in u], [k for u, k in sent if "openai" in u]
    assert own[:2] == ["episode-1"] * 2 and own[2] == own[3] and own[4] == own[5] and len(set(own)) == 3
    assert theirs == [None] * 6


@pytest.mark.parametrize(
    "status, tries, words",
    [(401, 1, "set NO_SUCH_KEY to a valid key"), (400, 1, "too long"), (429, 3, "failed 3 times")],
)
async def test_what_a_retry_cannot_mend_is_not_retried(status, tries, words):
    async with FakeOpenAI([web.Response(status=status, text="too long")]) as fake:
        c = ChatClient(
            fake.url,
            "sim",
            key_env="NO_SUCH_KEY",
            failure=UserSimulatorError,
            options={},
            retries=Retries(count=2, backoff_s=0.01),
        )
        with pytest.raises(UserSimulatorError, match=words):
            await c.complete(HI)
        await c.close()
    assert len(fake.bodies) == tries and c.endpoint.faults == {f"http_{status}": tries}


def test_a_url_that_is_none_is_named():
    with pytest.raises(ConfigError, match="'localhost:30001' is not the URL of a server"):
        ChatClient("localhost:30001", "m", key_env="K", failure=UserSimulatorError, options={})


async def test_a_server_that_wants_a_key_says_which_option_names_it():
    async with FakeOpenAI([web.Response(status=401)]) as fake:
        c = ChatClient(fake.url, "sim", failure=UserSimulatorError, options={})
        with pytest.raises(
            UserSimulatorError, match="no key is sent there: name the variable that holds it with user_key_env"
        ):
            await c.complete(HI)
        await c.close()


async def test_a_server_that_asks_for_a_pause_gets_it():
    busy = web.Response(status=429, headers={"Retry-After": "0.3"})
    async with FakeOpenAI([busy, "fine"]) as fake:
        c, started = client(fake.url), time.perf_counter()
        assert (await c.complete(HI)).text == "fine"
        await c.close()
    assert time.perf_counter() - started >= 0.3


async def test_what_the_model_reads_is_what_tau2_would_send(helpdesk):
    """Roles, order, tool calls and results of a conversation with user tools: tau2's own conversion of its own state."""
    answers = [
        "My phone is offline.",
        [("check_phone", "{}"), ("toggle", '{"setting": "vpn"}')],
        "vpn is off now",
        f"Thanks {bench.STOP}",
    ]
    async with FakeOpenAI(answers) as fake:
        c = client(fake.url)
        script = [bench.AssistantMessage(role="assistant", content=t) for t in ("Please check.", "And now?")]
        episode = await driver.run_episode(helpdesk, "phones_5", ScriptedAgent(script), LLMUser(c))
        await c.close()
    messages = [bench.parse_message(m) for m in episode.messages[:-1]]
    prompt = bench.user_prompt(str(helpdesk.task("phones_5").user_scenario), True)
    system = [bench.load("data_model.message").SystemMessage(role="system", content=prompt)]
    state = bench.load("user.user_simulator_base", "user.base").UserState(system_messages=system, messages=messages)
    theirs = bench.load("utils.llm_utils").to_litellm_messages(state.system_messages + state.flip_roles())

    def plain(rows):
        """Without the ids of calls, which need only agree with each other, and without nulls."""
        out = []
        for row in rows:
            calls = [
                (c["function"]["name"], json.loads(c["function"]["arguments"])) for c in row.get("tool_calls") or []
            ]
            out.append((row["role"], row.get("content") or "", calls))
        return out

    ours = fake.bodies[-1]["messages"]
    assert plain(ours) == plain(theirs)
    called = [call["id"] for m in ours for call in m.get("tool_calls") or []]
    assert called == [m["tool_call_id"] for m in ours if m["role"] == "tool"] and len(set(called)) == 2
