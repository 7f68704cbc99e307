"""The `openai` package behind the one endpoint: chosen by the host, and in faults, retries, usage and thoughts the same
as our own.
"""

import json
import re
import sys
import types
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from aiohttp import web
from fake_openai import FakeOpenAI, completion
from fake_server import FakeServer

from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials, usage
from slime_tau2.episode.hosted import OpenAITransport, Server
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.transport import AiohttpTransport
from slime_tau2.errors import ConfigError, UserSimulatorError
from slime_tau2.hosts import Access, Host
from slime_tau2.limits import Retries
from slime_tau2.options import parse_assignments

HI = [b'{"role": "user", "content": "hi"}']
TOOLS = json.dumps(
    [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
).encode()


def seen(headers):
    """By lower-case names: the package writes them so."""
    return {name.lower(): value for name, value in headers.items()}


BOTH = pytest.mark.parametrize("by", ["own", "openai"])


def by_package(**more):
    return Access({"127.0.0.1": Host(client="openai", **more)})


def client(url, by="openai", key=None, retries=2, timeout_s=5.0, **more):
    access = Access({"127.0.0.1": Host(client=by, **more)})
    return ChatClient(
        url,
        "m",
        key_env=key,
        failure=UserSimulatorError,
        options={"temperature": 0.7},
        concurrency=8,
        access=access,
        retries=Retries(timeout_s=timeout_s, count=retries, backoff_s=0.01),
    )


@pytest.mark.parametrize(
    "url, package",
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://me.openai.azure.com/openai/v1", True),
        ("https://api.anthropic.com/v1", False),
        ("http://127.0.0.1:30001/v1", False),
        ("https://api.openai.com.far.example/v1", False),
    ],
)
async def test_the_host_decides_and_an_option_decides_otherwise(url, package):
    host = urlsplit(url).hostname
    made = [
        Server.of(url, "m", None, access).connect()
        for access in (Access(), Access({host: Host(client="own")}), Access({host: Host(client="openai")}))
    ]
    assert [isinstance(t, OpenAITransport) for t in made] == [package, False, True] and isinstance(
        made[1], AiohttpTransport
    )
    for transport in made:
        await transport.close()


async def test_both_send_the_same_request(monkeypatch):
    monkeypatch.setenv("MINE", "sk-planted")
    async with FakeOpenAI(["hi"]) as fake:
        for by in ("own", "openai"):
            c = client(fake.url, by, "MINE")
            assert (await c.complete(HI, TOOLS, seed=7, routing_key="k")).text == "hi"
            await c.close()
    assert fake.bodies[0] == fake.bodies[1] and fake.bodies[0]["seed"] == 7 and fake.bodies[0]["tools"]
    assert [(h["authorization"], h["x-smg-routing-key"]) for h in map(seen, fake.headers)] == [
        ("Bearer sk-planted", "k")
    ] * 2


@BOTH
@pytest.mark.parametrize(
    "bad, kind, tries",
    [
        (web.Response(status=500), "http_500", 3),
        (web.Response(status=429), "http_429", 3),
        (web.Response(status=400, text="too long"), "http_400", 1),
        (web.Response(text="{half"), "garbage", 3),
        (web.json_response([]), "garbage", 3),
        ("", "empty", 3),
        ([("f", "{no")], "malformed_arguments", 3),
    ],
)
async def test_both_count_the_same_faults(by, bad, kind, tries):
    async with FakeOpenAI([bad]) as fake:
        c = client(fake.url, by)
        with pytest.raises(UserSimulatorError, match="failed 3 times" if tries == 3 else "refused: HTTP 400 too long"):
            await c.complete(HI)
        await c.close()
    assert c.endpoint.faults == {kind: tries} and len(fake.bodies) == tries, "the package retries nothing by itself"


@BOTH
async def test_silence_and_nobody_are_told_apart(by):
    with usage.collecting() as told:
        async with FakeOpenAI(["late"], delay=1.0) as fake:
            c = client(fake.url, by, retries=0, timeout_s=0.3)
            with pytest.raises(UserSimulatorError, match=r"no answer within 0\.3 s"):
                await c.complete(HI)
            await c.close()
    assert c.endpoint.faults == {"timeout": 1} and told.tokens["user"]["unreported"] == 1
    with usage.collecting() as told:
        c = client("http://127.0.0.1:9/v1", by, retries=1)
        with pytest.raises(UserSimulatorError, match="Connect"):
            await c.complete(HI)
        await c.close()
    assert c.endpoint.faults == {"connection": 2} and told.tokens == {}


@BOTH
async def test_both_report_tokens_and_thoughts_and_honour_a_pause(by):
    answer = json.loads(completion("hi").body)
    answer["usage"] = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    answer["choices"][0]["message"]["reasoning_content"] = "Hm."
    waits = []
    async with FakeOpenAI(
        [web.Response(status=429, headers={"Retry-After": "0.3"}), web.json_response(answer)]
    ) as fake:
        c = client(fake.url, by)
        here = c.endpoint._here()
        send = here.send

        async def noting(url, body, headers):
            reply = await send(url, body, headers)
            waits.append(reply.retry_after_s)
            return reply

        c.endpoint._per_loop[next(iter(c.endpoint._per_loop))] = here._replace(send=noting)
        with usage.collecting() as told:
            assert (await c.complete(HI)).reasoning == "Hm."
        await send.close()
    assert waits == [0.3, 0.0] and [t["text"] for t in told.thoughts] == ["Hm."]
    assert told.tokens == {"user": {"requests": 1, "unreported": 0, "prompt": 9, "cached": 4, "completion": 5}}


async def test_what_the_package_reads_from_its_environment_goes_to_no_other_host(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: planted")
    async with FakeOpenAI(["hi"]) as fake:
        c = client(fake.url)
        await c.complete(HI)
        await c.close()
    assert "planted" not in json.dumps(fake.headers[0]) and "authorization" not in seen(fake.headers[0])


@BOTH
async def test_further_headers_are_named_by_a_variable(monkeypatch, by):
    monkeypatch.setenv("GATEWAY", '{"X-Team": "rl"}')
    async with FakeOpenAI(["hi"]) as fake:
        c = client(fake.url, by, headers_env="GATEWAY")
        await c.complete(HI)
        await c.close()
    assert seen(fake.headers[0])["x-team"] == "rl"
    for bad in (None, "X-Team: rl-secret", '["rl-secret"]', '{"X-Team": 1}'):
        monkeypatch.delenv("GATEWAY") if bad is None else monkeypatch.setenv("GATEWAY", bad)
        with pytest.raises(ConfigError, match="set GATEWAY to its headers, a JSON object") as caught:
            client(fake.url, by, headers_env="GATEWAY")
        assert "rl-secret" not in str(caught.value)


@BOTH
@pytest.mark.parametrize("name", ["fresh", "fresh_async"])
async def test_a_token_is_asked_for_before_each_request(monkeypatch, by, name):
    given = []

    def fresh():
        given.append(f"token-{len(given)}")
        return given[-1]

    async def fresh_async():
        return fresh()

    tokens = types.ModuleType("tokens_of_mine")
    tokens.fresh, tokens.fresh_async, tokens.broken = fresh, fresh_async, lambda: 1 / 0
    monkeypatch.setitem(sys.modules, "tokens_of_mine", tokens)
    async with FakeOpenAI(["hi"]) as fake:
        c = client(fake.url, by, token=f"tokens_of_mine:{name}")
        await c.complete(HI)
        await c.complete(HI)
        await c.close()
        with pytest.raises(UserSimulatorError, match="tokens_of_mine:broken gave no token: ZeroDivisionError"):
            await client(fake.url, by, token="tokens_of_mine:broken").complete(HI)
        with pytest.raises(ConfigError, match="tokens_of_mine:absent"):
            client(fake.url, by, token="tokens_of_mine:absent")
    assert [seen(h)["authorization"] for h in fake.headers] == ["Bearer token-0", "Bearer token-1"]


class Azure(FakeServer):
    """Azure's older address: the deployment in the path, a version in the query."""

    def __init__(self):
        self.seen = []
        super().__init__({"/openai/deployments/gpt 4/chat/completions": self._complete})

    async def _complete(self, request):
        self.seen.append((request.query_string, dict(request.headers)))
        return completion("hi")


@BOTH
async def test_azures_older_address(monkeypatch, by):
    monkeypatch.setenv("AZURE_KEY", "planted")
    async with Azure() as fake:
        for base in (fake.url, f"{fake.url}/openai"):
            c = ChatClient(
                base,
                "gpt 4",
                key_env="AZURE_KEY",
                failure=UserSimulatorError,
                options={},
                access=Access({"127.0.0.1": Host(client=by, api_version="2024-10-21")}),
            )
            assert (await c.complete(HI)).text == "hi"
            await c.close()
    assert [query for query, _ in fake.seen] == ["api-version=2024-10-21"] * 2
    assert all(h["api-key"] == "planted" and "authorization" not in h for h in (seen(h) for _, h in fake.seen))


async def test_azure_has_its_own_header_and_an_address_that_is_named(monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "planted")
    server = Server.of("https://me.openai.azure.com/openai/v1/", "d", "AZURE_KEY", Access())
    assert server.url == "https://me.openai.azure.com/openai/v1/chat/completions" and await server.headers() == {
        "api-key": "planted"
    }
    with pytest.raises(ConfigError, match=r"write https://me.openai.azure.com/openai/v1, or name the version"):
        Server.of("https://me.openai.azure.com", "d", "AZURE_KEY", Access())


@BOTH
@pytest.mark.parametrize(
    "answers, said",
    [
        (["hi"], None),
        ([web.json_response({"choices": [{"message": {"content": None}}]})], None),
        ([web.Response(status=404, text="no such model")], "no such model"),
        ([web.Response(status=500)], "failed: HTTP 500"),
    ],
)
async def test_a_probe_is_one_small_request(by, answers, said):
    async with FakeOpenAI(answers) as fake:
        c = client(fake.url, by)
        if said is None:
            await c.probe(2.0)
        else:
            with pytest.raises(UserSimulatorError, match=said):
                await c.probe(2.0)
        await c.close()
    assert len(fake.bodies) == 1 and fake.bodies[0]["max_tokens"] == 1 and not c.endpoint.faults
    with pytest.raises(UserSimulatorError, match="Connect"):
        await client("http://127.0.0.1:9/v1", by).probe(2.0)


def test_options_of_a_host_are_checked_and_come_from_everywhere(monkeypatch):
    monkeypatch.setenv("TAU2_HOSTS", "{gw.example: {client: openai, headers_env: GATEWAY}}")
    monkeypatch.setenv("TAU2_PLAIN_HTTP", "sim.example,130.60.0.0/16")
    config = Tau2Config.from_args(None)
    assert config.hosts == {"gw.example": Host(client="openai", headers_env="GATEWAY")} and config.plain_http == (
        "sim.example",
        "130.60.0.0/16",
    )
    assert (
        config.access.named("https://GW.example./v1") == config.hosts["gw.example"]
        and config.access.named("https://example/v1") is None
    )
    with pytest.raises(ConfigError, match=r"tau2_hosts\.gw\.clint = 'openai'"):
        Tau2Config.from_mapping({"hosts": {"gw": {"clint": "openai"}}}, "--set")
    monkeypatch.setenv("TAU2_HOSTS", "{half")
    with pytest.raises(ConfigError, match=r"TAU2_HOSTS: '\{half' is no YAML"):
        Tau2Config.from_args(None)


def test_azures_version_can_be_written_as_the_page_and_the_refusal_write_it(monkeypatch):
    """Unquoted, YAML takes it for a date."""
    written = parse_assignments(["hosts={h.example: {api_version: 2024-10-21}}"], Tau2Config.model_fields, "--set")
    assert Tau2Config.from_mapping(written, "--set").hosts["h.example"].api_version == "2024-10-21"
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    (block,) = re.findall(r"```yaml\n(# tau2\.yaml.*?)```", page, re.DOTALL)
    hosts = Tau2Config.from_mapping({"hosts": yaml.safe_load(block)["tau2_hosts"]}, "the page").hosts
    assert hosts["my-resource.openai.azure.com"].api_version == "2024-10-21" and len(hosts) == 2


def test_what_hosts_names_is_a_secret_too(monkeypatch):
    monkeypatch.setattr(credentials, "_addresses", {"far.example": ["8.8.8.8"]}.__getitem__)
    for more in ({"headers_env": "GATEWAY"}, {"token": "json:loads"}):
        with pytest.raises(ConfigError, match=r"would go over plain http to far\.example"):
            Server.of("http://far.example/v1", "m", None, Access({"far.example": Host(**more)}, ("far.example",)))
