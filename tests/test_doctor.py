"""The doctor: every check in its good and its bad case, against real servers over HTTP, and no key in anything it says."""

import json
import shutil
import socket

import pytest
import tokenizers_that_differ as differ
from aiohttp import web
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy
from fake_server import FakeServer

from slime_tau2 import vintage
from slime_tau2.doctor import findings, installation, models, servers
from slime_tau2.doctor.findings import Status
from slime_tau2.doctor.run import Question, examine
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.hosts import Access, Host


def test_this_machine(tmp_path):
    found = {f.what: f for f in examine(Question(output=tmp_path))}
    assert not findings.failed(list(found.values())), [findings.as_line(f) for f in found.values()]
    assert found["python"].status is Status.OK and "tau2" in found["tau2"].text
    assert found["tau2 retail"].text.startswith("tasks ") and found["disk"].text.endswith(str(tmp_path))


def test_what_a_run_needs_fails_where_it_is_absent(monkeypatch, tmp_path):
    monkeypatch.setattr(installation.vintage, "locations", lambda name: [])
    for needed, status in ((True, Status.FAIL), (False, Status.OK)):
        assert installation.package("sglang", "sglang", needed=needed, fix="fix it").status is status
    assert (
        installation.torch_and_gpus(99)[1].status is Status.FAIL
        and "wants 99" in installation.torch_and_gpus(99)[1].text
    )
    assert (
        installation.disk(tmp_path, 10**9).status is Status.FAIL
        and installation.disk(tmp_path / "a" / "b", 0).status is Status.OK
    )
    assert installation.tau2()[0].status is Status.FAIL


def test_banking_knowledge_is_there_with_v1_and_says_what_its_search_needs(monkeypatch, tmp_path):
    folder = tmp_path / "tau2" / "domains" / "banking_knowledge" / "tasks"
    folder.mkdir(parents=True)
    (folder / "task_001.json").write_text("{}")
    v1, pin = (vintage.Vintage(name, "tau2", "1.0.1", tmp_path) for name in ("v1", "pin"))
    assert installation._searched(pin, "banking_knowledge") == []
    for installed, said in (([tmp_path], "bm25, which needs no key, can run"), (None, "pip install rank-bm25")):
        monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name, installed=installed: installed)
        (found,) = installation._searched(v1, "banking_knowledge")
        assert found.status is Status.OK and found.text.startswith("1 tasks; ") and said in found.text


def test_another_version_than_was_verified_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(installation.vintage, "locations", lambda name: [tmp_path])
    monkeypatch.setattr(installation.vintage, "distribution_version", lambda name: "9.9")
    found = installation.package("sglang", "sglang", needed=True, fix="")
    assert found.status is Status.WARN and "9.9" in found.text and installation.VERIFIED["sglang"] in found.fix


def test_ports():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert installation.port(number).status is Status.FAIL
    assert installation.port(number).status is Status.OK


def test_keys_are_never_shown(monkeypatch, tmp_path, cli):
    monkeypatch.setenv("WANDB_API_KEY", "sekret-w")
    monkeypatch.setenv("OPENAI_API_KEY", "sekret-o")
    for options in (("--json",), ()):
        code, out, err = cli("doctor", "--output", str(tmp_path), *options)
        assert code == 0 and "WANDB_API_KEY" in out and "is set" in out and "sekret" not in out + err
    monkeypatch.delenv("OPENAI_API_KEY")
    assert installation.key("OPENAI_API_KEY", needed=True).status is Status.FAIL


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(TOKENIZER, directory)
    (directory / "config.json").write_text(json.dumps({"rope_theta": 5000000.0}))
    (directory / "model.safetensors").write_bytes(b"0" * 100)
    return directory


def test_a_models_files(model, tmp_path):
    assert models.files(model).status is Status.OK and models.template(model).status is Status.OK
    assert models.rotary_base(model, 5000000).status is Status.OK
    wrong = models.rotary_base(model, 1000000)
    assert wrong.status is Status.FAIL and "5000000" in wrong.text and "1000000" in wrong.text
    (model / "config.json").write_text(json.dumps({"rope_parameters": {"rope_theta": 1e6}}))
    assert models.rotary_base(model, 1000000).status is Status.OK
    (model / "config.json").write_text("{}")
    assert models.rotary_base(model, 1000000).status is Status.FAIL
    assert "does not exist" in models.files(tmp_path / "no").text
    (model / "model.safetensors").unlink()
    assert "no *.safetensors" in models.files(model).text
    (model / "tokenizer.json").unlink()
    assert "no tokenizer.json" in models.files(model).text
    assert models.template(model).status is Status.FAIL
    (model / "tokenizer.json").write_text("{}")
    assert models.template(model).status is Status.FAIL, "a broken file is a finding, too"


def test_a_template_without_tools_is_found(model):
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    (model / "chat_template.jinja").write_text(plain)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = plain
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    found = models.template(model)
    assert found.status is Status.FAIL and "Qwen3" in found.fix


class SGLang(FakePolicy):
    def __init__(self, tokenizer):
        super().__init__(tokenizer, lambda prompt, n: "Hi")
        self.tells("/get_model_info", {"model_path": "qwen"})


async def test_the_policys_server(tokenizer):
    async with SGLang(tokenizer) as fake:
        found = await servers.policy(fake.url)
    assert [f.status for f in found] == [Status.OK, Status.OK] and "qwen" in found[0].text
    (gone,) = await servers.policy(fake.url)
    assert gone.status is Status.FAIL and "does not answer" in gone.text


async def test_the_policys_tokenizer_is_compared_with_the_models(tokenizer, tmp_path):
    async with SGLang(tokenizer) as fake:
        right = await servers.policy(fake.url, model=TOKENIZER)
        wrong = await servers.policy(fake.url, model=differ.permuted(tmp_path / "t"))
        absent = await servers.policy(fake.url, model=tmp_path)
    assert [f.status for f in right] == [Status.OK] * 3 and "32768 tokens of context" in right[2].text
    assert wrong[2].status is Status.FAIL and "the vocabulary at" in wrong[2].text
    assert absent[2].status is Status.FAIL and "holds no tokenizer" in absent[2].text


class User(FakeOpenAI):
    def __init__(self, answers):
        super().__init__(answers)
        self.tells("/v1/models", {"data": [{"id": "m"}]})


@pytest.mark.parametrize(
    "said, status",
    [
        ([("check_signal", '{"line": "L1"}')], Status.OK),
        ("I am offline.", Status.WARN),
        (web.Response(status=500), Status.FAIL),
    ],
)
async def test_the_user_simulator_is_asked_to_call_a_tool(said, status):
    async with User([said]) as fake:
        found = await servers.user(fake.url, "m", "NO_KEY")
    assert [f.status for f in found] == [Status.OK, status]
    assert status is Status.OK or "tool-call-parser" in found[1].fix
    assert all("chat_template_kwargs" not in body for body in fake.bodies), (
        "whether it thinks is the server's own affair"
    )


async def test_what_is_said_of_a_host_holds_for_the_doctor_too(monkeypatch):
    monkeypatch.setenv("GATEWAY", '{"X-Team": "rl"}')
    async with User([[("check_signal", "{}")]]) as fake:
        found = await servers.user(
            fake.url, "m", None, Access({"127.0.0.1": Host(client="openai", headers_env="GATEWAY")})
        )
    assert [f.status for f in found] == [Status.OK, Status.OK]
    assert {name.lower(): value for name, value in fake.headers[0].items()}["x-team"] == "rl"


@pytest.mark.parametrize("option, model", [("--user", "m"), ("--policy", "m")])
def test_a_server_in_the_clear_is_a_finding_before_it_is_asked(cli, tmp_path, option, model):
    code, out, _ = cli("doctor", option, "http://8.8.8.8/v1", "--user-model", model, "--json", "--output", tmp_path)
    (found,) = [f for f in json.loads(out)["findings"] if f["status"] == "fail"]
    assert code == 1 and "conversations would go over plain http to 8.8.8.8" in found["text"]


def test_the_environments_user_is_looked_at(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("TAU2_USER_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TAU2_USER_MODEL", "some-model")
    monkeypatch.setenv("TAU2_USER_KEY_ENV", "NO_SUCH_KEY_HERE")
    _, out, _ = cli("doctor", "--json", "--output", tmp_path)
    assert "user http://127.0.0.1:9/v1" in out and "NO_SUCH_KEY_HERE" in out
    monkeypatch.delenv("TAU2_USER_BASE_URL")
    _, out, _ = cli("doctor", "--json", "--output", tmp_path)
    assert '"user ' not in out, "nobody named a server"


async def test_a_server_of_another_model(tokenizer):
    async with User(["x"]) as fake:
        (found,) = await servers.user(fake.url, "other", "NO_KEY")
    assert found.status is Status.FAIL and "serves m, not other" in found.text


async def test_ray():
    fake = FakeServer({})
    fake.tells("/api/version", {"ray_version": "2.55"})
    async with fake:
        assert (await servers.ray(fake.url)).text.startswith("2.55")
    assert (await servers.ray(fake.url)).status is Status.FAIL


def test_the_exit_code_and_json_are_for_scripts(cli, tmp_path):
    code, out, _ = cli("doctor", "--model", "/nowhere", "--json", "--output", str(tmp_path))
    told = json.loads(out)
    assert code == 1 and told["failed"] and any(f["what"] == "model /nowhere" and f["fix"] for f in told["findings"])
    code, out, _ = cli("doctor", "--model", "/nowhere", "--quiet", "--output", str(tmp_path))
    assert code == 1 and out.strip().startswith("fail  model /nowhere") and "\n" not in out.strip()
