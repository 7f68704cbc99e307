"""Keys are used and never kept: a run against servers that want them, then every byte that it left; and what we never
do to files.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI
from serving import Serving

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.doctor import probe
from slime_tau2.episode import credentials
from slime_tau2.episode.api_agent import ApiAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import ConfigError, PolicyError
from slime_tau2.hosts import Access, Host
from slime_tau2.limits import Retries

ROOT = Path(__file__).parents[1]
KEYS = {
    "OPENAI_API_KEY": "planted-openai",
    "POLICY_KEY": "planted-policy",
    "USER_KEY": "planted-user",
    "WANDB_API_KEY": "planted-wandb",
    "HF_TOKEN": "planted-hf",
}


def test_keys_reach_their_servers_and_nothing_else(tmp_path):
    speak = lambda body: "Please help." if len(body["messages"]) == 2 else "Bye. ###STOP###"  # noqa: E731
    with Serving(FakeOpenAI(["Sorry, I cannot help."])) as policy, Serving(FakeOpenAI(speak)) as user:
        command = [
            sys.executable,
            "-m",
            "slime_tau2.cli",
            "eval",
            "--domain",
            "retail",
            "--policy",
            policy.url,
            "--model",
            "m",
            "--user",
            "llm",
            "--task",
            "0",
            "--attempts",
            "2",
            "--output",
            str(tmp_path / "run"),
            "--set",
            f"user_base_url={user.url}",
            "--set",
            "user_model=u",
            "--set",
            "user_key_env=USER_KEY",
            "--set",
            "policy_key_env=POLICY_KEY",
            "--set",
            "retail_basis=communicate",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **KEYS})
    assert done.returncode == 0, done.stderr
    assert {h["Authorization"] for h in policy.headers} == {"Bearer planted-policy"}
    assert {h["Authorization"] for h in user.headers} == {"Bearer planted-user"}
    keys, of_policy = (
        [h["X-SMG-Routing-Key"] for h in server.headers[1:]] for server in (user, policy)
    )  # the first asked who is there
    assert len(keys) == 4 and len(set(keys)) == 2 == len(set(of_policy)), "one an episode, for both"
    for follow in (
        ["report"],
        ["export-tau2", "--partial", "--output", str(tmp_path / "tau2.json")],
        ["card", "--partial", "--name", "m", "--output", str(tmp_path / "c.md")],
    ):
        after = subprocess.run(
            [sys.executable, "-m", "slime_tau2.cli", follow[0], str(tmp_path / "run"), *follow[1:]],
            capture_output=True,
            text=True,
            env={**os.environ, **KEYS},
        )
        assert after.returncode == 0, after.stderr
        done.stdout += after.stdout + after.stderr
    left = [done.stdout.encode(), done.stderr.encode(), *(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())]
    assert len(left) >= 8 and not any(b"planted-" in text for text in left)


async def test_no_server_sees_a_key_that_was_not_named_for_it(helpdesk, monkeypatch):
    """User, evaluation's user, judge and policy, with OpenAI's key in the environment and no option that names one."""
    monkeypatch.setenv("OPENAI_API_KEY", "planted-openai")
    monkeypatch.setenv("USER_KEY", "planted-user")
    with Serving(User([f"Bye {bench.STOP}"])) as near, Serving(User([f"Bye {bench.STOP}"])) as other:
        named = {
            "user": "llm",
            "user_base_url": near.url,
            "eval_user_base_url": other.url,
            "eval_user_model": "m",
            "judge_base_url": near.url,
        }
        for config in (Tau2Config(**named), Tau2Config(**named, user_key_env="USER_KEY")):
            box = Harness(
                config, policy=ChatClient(near.url, "m", key_env=config.policy_key_env, failure=PolicyError, options={})
            )
            for evaluation in (False, True):
                await box.run(
                    helpdesk,
                    "orders_0",
                    ApiAgent(box.policy, system_prompt="", tools=None, seed=0),
                    seed=1,
                    evaluation=evaluation,
                )
            await box.judge.client.complete([b'{"role": "user", "content": "hi"}'])
            await box.close()
    sent = [h.get("Authorization") for h in (*near.headers, *other.headers)]
    assert set(sent) == {None, "Bearer planted-user"} and sent.count("Bearer planted-user") == 1, (
        "the user's, to the user's own server"
    )
    assert {h.get("Authorization") for h in other.headers} == {None}, "the key was named for another one"


def test_the_doctor_sends_a_server_only_the_key_that_was_named_for_it(monkeypatch, cli, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "planted-openai")
    monkeypatch.setenv("USER_KEY", "planted-user")
    asked = ("doctor", "--user-model", "m", "--output", tmp_path, "--user")
    with Serving(User(["Hi"])) as fake:
        assert cli(*asked, fake.url)[0] == 0 and {h.get("Authorization") for h in fake.headers} == {None}
        monkeypatch.setenv("TAU2_USER_KEY_ENV", "USER_KEY")
        assert cli(*asked, fake.url)[0] == 0 and fake.headers[-1]["Authorization"] == "Bearer planted-user"
    for url, why in (
        ("http://8.8.8.8/v1", "the key in USER_KEY would go over plain http"),
        ("http://api.openai.com/v1", "over https"),
    ):
        code, out, _ = cli(*asked, url)
        assert code == 1 and why in out and "planted" not in out


class User(FakeOpenAI):
    def __init__(self, answers):
        super().__init__(answers)
        self.app.router.add_get("/v1/models", self._models)

    async def _models(self, request):
        self.headers.append(dict(request.headers))
        return web.json_response({"data": [{"id": "m"}]})


def test_which_server_sees_which_key(monkeypatch):
    monkeypatch.setattr(
        credentials, "_addresses", {"far.example": ["8.8.8.8"], "near.example": ["10.0.0.7", "fd00::7"]}.__getitem__
    )
    assert credentials.variable("https://api.openai.com/v1", None) == "OPENAI_API_KEY"
    assert credentials.variable("https://API.OpenAI.com./v1", None) == "OPENAI_API_KEY"
    assert credentials.variable("https://api.openai.com/v1", "MINE") == "MINE"
    for url in (
        "http://127.0.0.1:30001/v1",
        "https://far.example/v1",
        "https://api.openai.com.far.example/v1",
        "https://eu.api.openai.com/v1",
        "https://evilapi.openai.com/v1",
        "https://me.openai.azure.com/v1",
    ):
        assert credentials.variable(url, None) is None, url
        assert url.startswith("http:") or credentials.variable(url, "MINE") == "MINE"
    with pytest.raises(ConfigError, match=r"^the URL of far.example has a user name or a password in it"):
        credentials.variable("https://api.openai.com@far.example/v1", None)
    for url in ("http://near.example/v1", "https://far.example/v1"):
        assert credentials.variable(url, "MINE") == "MINE"
    with pytest.raises(
        ConfigError,
        match=r"^http://far.example/v1: the key in MINE would go over plain http to far.example, which is no loop",
    ):
        credentials.variable("http://far.example/v1", "MINE")
    for named in (None, "MINE"):
        with pytest.raises(ConfigError, match=r"OpenAI's servers are asked over https; write https://api.openai.com"):
            ChatClient("http://api.openai.com/v1", "m", key_env=named, failure=PolicyError, options={})


@pytest.mark.parametrize(
    "near",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "[::1]",
        "[fd00::1]",
        "[fe80::1%25eth0]",
        "localhost",
    ],
)
def test_a_near_address_may_see_a_named_key_over_plain_http(near):
    assert credentials.variable(f"http://{near}:30001/v1", "MINE") == "MINE" and credentials.is_ours(
        f"https://{near}:30001/v1"
    )
    with pytest.raises(ConfigError, match="plain http"):
        credentials.variable("http://8.8.8.8:30001/v1", "MINE")


@pytest.mark.parametrize(
    "url, refused",
    [
        ("http://far.example/v1", True),
        ("https://far.example/v1", False),
        ("http://near.example/v1", False),
        ("http://split.example/v1", True),
        ("http://nowhere.example/v1", True),
        ("http://10.0.0.7/v1", False),
        ("http://[::1]:30001", False),
        ("http://8.8.8.8:3000", True),
    ],
)
def test_no_conversation_goes_in_the_clear_unless_said(monkeypatch, url, refused):
    addresses = {
        "far.example": ["8.8.8.8"],
        "near.example": ["10.0.0.7", "fd00::7"],
        "split.example": ["10.0.0.7", "8.8.8.8"],
    }
    monkeypatch.setattr(credentials, "_addresses", lambda host: addresses.get(host, [host]))
    if not refused:
        return credentials.check_conversation(url)
    with pytest.raises(
        ConfigError,
        match=r"conversations would go over plain http to .*; use https, or say that they may: plain_http=\[",
    ):
        credentials.check_conversation(url)
    host = credentials.parsed(url).hostname
    credentials.check_conversation(url, (host,))
    if host != "nowhere.example":
        credentials.check_conversation(url, ("other.example", "8.8.0.0/16"))


async def test_every_client_is_checked_and_the_option_reaches_it(helpdesk, tokenizer, monkeypatch):
    """Policy, user and judge; a router that slime has started on this machine's own address is no network away."""
    monkeypatch.setattr(credentials, "_addresses", lambda host: [host])
    far = "http://8.8.8.8:3000"
    clear = "conversations would go over plain http to 8.8.8.8"
    with pytest.raises(ConfigError, match=clear):
        PolicyClient(far)
    for options in ({"user_base_url": f"{far}/v1"}, {"judge_base_url": f"{far}/v1"}):
        with pytest.raises(ConfigError, match=clear):
            box = Harness(Tau2Config(user="llm", **options))
            box.check()
            assert box.judge
        said = Harness(Tau2Config(user="llm", plain_http=("8.8.8.8",), **options))
        said.check()
        assert said.judge
    monkeypatch.setattr(credentials, "_is_this_machine", lambda address: address == "8.8.8.8")
    PolicyClient(far)


def test_an_address_of_this_machine_is_known():
    assert credentials._is_this_machine("127.0.0.1") and not credentials._is_this_machine("8.8.8.8")


def test_who_is_told_which_requests_are_one_conversations():
    for url in (
        "http://8.8.8.8:30001/v1",
        "http://node-7:30001/v1",
        "http://127.0.0.1:30001/v1",
        "https://10.0.0.7/v1",
    ):
        assert credentials.is_ours(url), url
    for url in ("https://api.openai.com/v1", "https://x.openai.azure.com/v1", "https://models.example/v1"):
        assert not credentials.is_ours(url), url


@pytest.mark.parametrize("by", ["own", "openai"])
async def test_neither_a_key_nor_a_conversation_follows_a_redirect(monkeypatch, by):
    monkeypatch.setenv("MINE", "planted")
    with Serving(FakeOpenAI(["hi"])) as stranger:
        away = web.Response(status=307, headers={"Location": f"{stranger.url}/chat/completions"})
        async with FakeOpenAI([away]) as fake:
            access = Access({"127.0.0.1": Host(client=by)})
            client = ChatClient(
                fake.url, "m", key_env="MINE", failure=PolicyError, options={}, access=access, retries=Retries(count=2)
            )
            with pytest.raises(
                PolicyError,
                match=rf"refused: HTTP 307 it sends elsewhere, to {stranger.url}/chat/completions: name that",
            ):
                await client.complete([b'{"role": "user", "content": "hi"}'])
            await client.close()
    assert [v for h in fake.headers for k, v in h.items() if k.lower() == "authorization"] == [
        "Bearer planted"
    ] and not stranger.bodies


def test_the_probes_key_does_not_follow_a_redirect(monkeypatch):
    monkeypatch.setenv("MINE", "planted")
    with Serving(User([])) as stranger, Serving(Elsewhere(stranger.url)) as fake:
        assert probe.reach(fake.url, "MINE") == ""
    assert fake.headers[0]["Authorization"] == "Bearer planted" and "Authorization" not in stranger.headers[0]


class Elsewhere(User):
    def __init__(self, url):
        self.url_of_another = url
        super().__init__([])

    async def _models(self, request):
        self.headers.append(dict(request.headers))
        return web.Response(status=302, headers={"Location": f"{self.url_of_another}/models"})


@pytest.mark.parametrize("option", ["--user-key", "--job-key"])
def test_the_doctor_does_not_repeat_a_key_given_in_place_of_its_variables_name(option, cli, tmp_path):
    code, out, err = cli("doctor", option, "sk-planted", "--output", tmp_path)
    assert code == 2 and "name the environment variable that holds the key" in err and "planted" not in out + err


BAD_URLS = [
    "http://[bad/v1",
    "http://h:99999/v1",
    "http://h:x/v1",
    "nonsense",
    "ftp://h/v1",
    "http:///v1",
    "http://a b/v1",
    "http://a..b/v1",
]


@pytest.mark.parametrize("bad", BAD_URLS)
def test_what_is_no_url_of_a_server_is_one_line_wherever_it_is_asked_about(bad, cli, tmp_path):
    good = "http://127.0.0.1:30001/v1"
    said = rf"{re.escape(repr(bad))} is not the URL of a server.*; it looks like {good}"
    for ask in (
        lambda: ChatClient(bad, "m", failure=PolicyError, options={}),
        lambda: credentials.variable(bad, "MINE"),
        lambda: credentials.is_openai(bad),
        lambda: credentials.is_ours(bad),
        lambda: credentials.same_server(good, bad),
    ):
        with pytest.raises(ConfigError, match=said):
            ask()
    for option in ("--user", "--policy"):
        code, out, _ = cli("doctor", option, bad, "--user-model", "m", "--output", tmp_path, "--json")
        (found,) = [f for f in json.loads(out)["findings"] if f["status"] == "fail"]
        assert code == 1 and "is not the URL of a server" in found["text"], found


@pytest.mark.parametrize("bad", BAD_URLS[:2])
def test_an_evaluation_does_not_begin_with_what_is_no_url_of_a_server(bad, cli, tmp_path):
    code, out, err = cli(
        "eval",
        "--domain",
        "retail",
        "--policy",
        "http://127.0.0.1:30001/v1",
        "--model",
        "m",
        "--user",
        "llm",
        "--task",
        "0",
        "--attempts",
        1,
        "--output",
        tmp_path / "run",
        "--set",
        f"user_base_url={bad}",
        "--set",
        "retail_basis=communicate",
    )
    assert code == 2 and f"{bad!r} is not the URL of a server" in out + err


def test_nothing_untrusted_is_executed_and_servers_stay_at_home():
    """What would run somebody's code from a file, or open a port to the network, is nowhere in the package or its
    scripts.
    """
    forbidden = {
        "trust_remote_code": r"trust_remote_code\s*=\s*True|--trust-remote-code",
        "pickle": r"\bpickle\.loads?\(|\bcloudpickle\b|\bdill\b",
        "torch.load of anything": r"torch\.load\((?![^)]*weights_only=True)",
        "yaml.load": r"\byaml\.load\(",
        "shell=True": r"shell\s*=\s*True",
        "all interfaces": r"0\.0\.0\.0",
    }
    files = [*ROOT.glob("slime_tau2/**/*.py"), *ROOT.glob("launch/**/*.sh")]
    assert len(files) > 100
    found = [
        f"{p.relative_to(ROOT)}: {what}"
        for p in files
        for what, pattern in forbidden.items()
        if re.search(pattern, p.read_text())
    ]
    assert set(found) == set(JUSTIFIED)
    assert "weights_only=False" not in (ROOT / "slime_tau2/local/checkpoint.py").read_text()


JUSTIFIED = {
    "slime_tau2/doctor/probe.py: pickle": "Ray's own, told to carry a module of ours to nodes that may lack it; nothing is read",
    "launch/serve_user_sim.sh: all interfaces": "named in its help; whoever sets USER_HOST so is warned that the server asks for no key",
    "slime_tau2/doctor/job.py: all interfaces": "the same setting, where a node does not reach the simulator",
    "slime_tau2/checkpoints/torch_dist.py: torch.load of anything": "Megatron's metadata, through an unpickler that knows a few harmless classes",
    "slime_tau2/workers/wire.py: pickle": "what the processes of one job send each other, over sockets that no one else holds, or through Ray",
    "slime_tau2/episode/environments.py: pickle": "databases that this process itself has pickled, in memory",
}


def test_every_locked_package_has_a_version_and_hashes():
    for name in ("base", "dev", "tau2"):
        entries = re.findall(
            r"^\S+==.*(?:\n    .*)*", (ROOT / "launch" / "lock" / f"{name}.txt").read_text(), re.MULTILINE
        )
        assert entries and all("--hash=sha256:" in e for e in entries), name


def test_a_password_in_a_url_is_refused_and_said_nowhere(cli, tmp_path):
    for words in (
        ("--policy", "http://me:planted-pass@127.0.0.1:9/v1", "--model", "m"),
        ("--set", "user_base_url=http://me:planted-pass@127.0.0.1:9/v1", "--user", "llm"),
    ):
        code, out, error = cli("eval", "--task", "orders_250", *words, "--output", tmp_path / "o")
        assert code == 2 and "the URL of 127.0.0.1 has a user name or a password in it; leave it out" in error
        assert "planted-pass" not in out + error and not (tmp_path / "o").exists()
