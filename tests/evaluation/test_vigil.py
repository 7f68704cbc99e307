"""Servers that are wrong from the start, and servers that go away in the middle: one line, with what mends it."""

import asyncio

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy
from fake_server import FakeServer

from slime_tau2.config import Tau2Config
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import ConfigError, PolicyError, ServerUnavailable, UserError, UserSimulatorError
from slime_tau2.evaluation import vigil
from slime_tau2.limits import Retries
from slime_tau2.local.process import free_port


def chat(base_url, model="m", key_env=None):
    return ChatClient(base_url, model, key_env=key_env, failure=UserSimulatorError, options={})


class Asked:
    """`server.gate` holds every answer back while it is cleared; `status` is that of each answer. With `long_turn` only
    probes are answered.
    """

    def __init__(self, path, status=200, body=None, health=404, models=(), long_turn=False):
        self.long_turn = long_turn
        self.gate, self.status, self.body, self.asked = asyncio.Event(), status, body, 0
        self.gate.set()
        self.came = asyncio.Condition()
        self.server = FakeServer({path: self._answer})
        self.server.tells("/v1/models", {"data": [{"id": name} for name in models]})

        async def well(request):
            return web.Response(status=health)

        self.server.app.router.add_get("/health", well)

    async def _answer(self, request):
        async with self.came:
            self.asked += 1
            self.came.notify_all()
        await self.gate.wait()
        if self.long_turn and (await request.json())["input_ids"] != [1]:
            await asyncio.sleep(60)
        return web.json_response(self.body, status=self.status)

    async def reached(self, count):
        """Returns when so many requests have come."""
        async with self.came:
            await asyncio.wait_for(self.came.wait_for(lambda: self.asked >= count), 30)

    async def __aenter__(self):
        await self.server.__aenter__()
        self.url = self.server.url
        return self

    async def __aexit__(self, *exc):
        self.gate.set()
        await self.server.__aexit__(*exc)


TOKEN = {
    "output_ids": [1],
    "meta_info": {"finish_reason": {"type": "length"}, "output_token_logprobs": [[-0.5, 1, None]]},
}


async def refusal(role, client, patience_s=5.0, error=ConfigError):
    """What is said of a server that cannot be used; `error` is whether it is wrong, or right and away."""
    try:
        with pytest.raises(UserError) as caught:
            await vigil.before({role: client}, patience_s)
    finally:
        await client.endpoint.close()
    assert type(caught.value) is error
    return str(caught.value)


async def test_servers_that_answer_are_used(tokenizer):
    async with FakePolicy(tokenizer, lambda p, n: "no") as policy, FakeOpenAI(["hello"]) as user:
        asked = {"policy": PolicyClient(policy.url), "user": chat(user.url), "judge": chat(user.url)}
        await vigil.before(asked)
        for client in asked.values():
            await client.endpoint.close()
    assert policy.requests == [] and len(user.bodies) == 2


async def test_nothing_listens():
    said = await refusal("policy", PolicyClient(f"http://127.0.0.1:{free_port()}"), error=ServerUnavailable)
    assert "nothing listens there: start the server" in said and "mend --policy" in said and "\n" not in said


async def test_a_wrong_path():
    async with FakeServer({}) as server:
        said = await refusal("policy", PolicyClient(f"{server.url}/v1"))
    assert f"policy {server.url}/v1/generate: no such path: --policy is an SGLang server's URL without a path" in said


async def test_a_server_that_hangs():
    async with Asked("/generate") as server:
        server.gate.clear()
        said = await refusal(
            "policy",
            PolicyClient(server.url, retries=Retries(timeout_s=300.0)),
            patience_s=0.2,
            error=ServerUnavailable,
        )
    assert "takes the connection and does not answer within 0.2 s" in said and server.asked == 1


async def test_a_server_that_answers_500_for_ever():
    async with Asked("/generate", 500, "out of memory") as server:
        said = await refusal("policy", PolicyClient(server.url), error=ServerUnavailable)
    assert (
        "it failed 3 times: look into its log" in said
        and "HTTP 500" in said
        and "out of memory" in said
        and server.asked == 3
    )


async def test_a_server_that_comes_up_while_it_is_asked():
    async with Asked("/generate", 503, TOKEN) as server:
        client = PolicyClient(server.url)
        asking = asyncio.create_task(vigil.before({"policy": client}))
        await server.reached(1)
        server.status = 200
        await asking
        await client.close()
    assert server.asked == 2


async def test_a_server_that_is_busy_is_there():
    async with Asked("/v1/chat/completions", 429, "slow down") as server:
        client = chat(f"{server.url}/v1")
        await vigil.before({"user": client})
        await client.endpoint.close()


async def test_a_key_that_is_refused():
    async with Asked("/v1/chat/completions", 401, "who are you?") as server:
        said = await refusal("judge", chat(f"{server.url}/v1", key_env="JUDGE_KEY"))
    assert "judge" in said and "it refuses the key" in said and "set JUDGE_KEY to a valid key" in said


async def test_an_answer_of_another_kind_of_server():
    async with Asked("/generate", 200, {"generated_text": "hi"}) as server:
        said = await refusal("policy", PolicyClient(server.url))
    assert "its answer cannot be used: is --policy the right server's?" in said


@pytest.mark.parametrize("status", [200, 404])
async def test_a_model_that_is_not_served(status):
    """One that says so, and one that answers whatever it is called."""
    async with Asked(
        "/v1/chat/completions", status, {"choices": [{"message": {"content": "hi"}}]}, models=("qwen-4b", "qwen-8b")
    ) as server:
        said = await refusal("user", chat(f"{server.url}/v1", model="qwen-40b"))
        assert said.startswith(
            f"user {server.url}/v1 does not serve qwen-40b; it serves qwen-4b, qwen-8b: name one of them with user_model"
        )
        named = chat(f"{server.url}/v1", model="qwen-8b")
        if status == 200:
            await vigil.before({"user": named})
            await named.endpoint.close()
        else:
            assert "no such path" in await refusal("user", named)


async def test_each_server_has_its_line():
    policy, user = PolicyClient(f"http://127.0.0.1:{free_port()}"), chat(f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(ServerUnavailable) as caught:
        await vigil.before({"policy": policy, "user": user})
    first, second = str(caught.value).split("\n")
    assert first.startswith("policy http") and second.startswith("user http") and "user_base_url" in second
    async with FakeServer({}) as server:
        wrong = PolicyClient(f"{server.url}/v1")
        with pytest.raises(ConfigError, match=r"(?s)no such path.*nothing listens"):
            await vigil.before({"policy": wrong, "user": user})
        await wrong.close()
    await policy.close()
    await user.endpoint.close()


async def watched(server, during, **options):
    """The reasons that `stop` was called with, while a request waits and `during(server)` happens."""
    client, reasons, stopped = PolicyClient(server.url, retries=Retries(count=0)), [], asyncio.Event()

    def stop(reason):
        reasons.append(reason)
        stopped.set()

    async with vigil.watching({"policy": client}, stop, silent_s=0.2, patience_s=0.2, **options):
        waiting = asyncio.create_task(client.generate(b"[7]", {}))
        await during(server, stopped)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await client.close()
    return reasons


async def test_a_server_that_hangs_in_the_middle_ends_the_run():
    async def hang(server, stopped):
        server.gate.clear()
        await asyncio.wait_for(stopped.wait(), 30)

    async with Asked("/generate", 200, TOKEN) as server:
        server.gate.clear()
        (reason,) = await watched(server, hang)
    assert (
        reason.startswith(f"policy {server.url}/generate has answered nothing for")
        and "no answer within 0.2 s" in reason
    )


async def test_a_server_that_is_only_slow_is_left_alone():
    """Its queue is full, so that a probe waits as everybody does; it says that it is well."""

    async def slow(server, stopped):
        await server.reached(4)  # the request, and three probes in vain

    async with Asked("/generate", 200, TOKEN, health=200) as server:
        server.gate.clear()
        assert await watched(server, slow) == []


async def test_a_server_that_answers_others_is_left_alone():
    """A long turn of the one request; three probes are answered."""

    async def long(server, stopped):
        await server.reached(4)

    async with Asked("/generate", 200, TOKEN, long_turn=True) as server:
        assert await watched(server, long) == []


async def test_silence_is_that_of_a_server_that_somebody_waits_for():
    async with Asked("/generate", 500, TOKEN) as server:
        client = PolicyClient(server.url, retries=Retries(count=1, backoff_s=0.05))
        assert client.endpoint.silence() == 0.0
        server.gate.clear()
        waiting = asyncio.create_task(client.generate(b"[7]", {}))
        await server.reached(1)
        await asyncio.sleep(0.2)
        before = client.endpoint.silence()
        server.gate.set()
        server.gate.clear()
        await server.reached(2)  # an answer of any status breaks it
        assert 0 < client.endpoint.silence() < before
        server.gate.set()
        with pytest.raises(PolicyError) as caught:
            await waiting
        assert caught.value.kind == "http_500" and client.endpoint.silence() == 0.0
        await client.close()


def test_a_run_asks_the_servers_that_it_has():
    named = {"user_base_url": "http://127.0.0.1:1/v1", "judge_base_url": "http://127.0.0.1:2/v1"}
    policy = PolicyClient("http://127.0.0.1:3")
    asked = vigil.clients(Harness(Tau2Config(user="llm", **named), None, policy), judged=True)
    assert list(asked) == ["policy", "user", "judge"] and asked["policy"] is policy
    assert asked["judge"].base_url == "http://127.0.0.1:2/v1" and asked["user"].base_url == "http://127.0.0.1:1/v1"
    assert vigil.clients(Harness(Tau2Config(user="scripted", **named)), judged=False) == {}
