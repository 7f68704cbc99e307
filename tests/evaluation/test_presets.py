"""Presets, what wins over them, and the plan that a dry run prints."""

import json
from pathlib import Path

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI
from serving import Serving

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import plan
from slime_tau2.evaluation.presets import PRESETS, Preset
from slime_tau2.evaluation.request import EvalRequest


def request(domain="retail", policy="http://127.0.0.1:9", **more):
    return EvalRequest(output=Path("o"), domain=domain, policy=policy, **more)


def test_defaults_presets_and_options_in_that_order():
    plain = request().resolved()
    assert (plain.asked_split, plain.attempts, plain.temperature, plain.top_p, plain.top_k) == ("test", 1, 1.0, 1.0, -1)
    card = request(preset="card").resolved()
    assert (card.asked_split, card.attempts, card.temperature, card.top_p, card.top_k) == ("test", 4, 0.8, 1.0, 20)
    assert (card.config().user_model, card.config().max_steps) == ("gpt-4.1-mini", 100)
    board = request(preset="leaderboard", temperature=0.6, options={"max_steps": 50}).resolved()
    assert (board.asked_split, board.attempts, board.temperature) == ("base", 4, 0.6)
    assert (board.config().max_steps, board.config().user_model) == (50, "gpt-4.1")
    with pytest.raises(ConfigError, match="--preset crad: there are card, leaderboard"):
        request(preset="crad").resolved()


def test_a_commands_defaults_are_below_the_environment_and_user_above_a_preset(monkeypatch):
    assert request().resolved().config().retail_basis == "judge"
    collecting = request(defaults={"retail_basis": "communicate"})
    assert collecting.resolved().config().retail_basis == "communicate"
    monkeypatch.setenv("TAU2_RETAIL_BASIS", "no_judge")
    assert collecting.resolved().config().retail_basis == "no_judge"
    monkeypatch.setitem(PRESETS, "scripted", Preset(options={"user": "plain"}))
    assert request(preset="scripted", user="gold").resolved().config().user == "gold"


def test_a_split_that_nobody_asked_for_is_one_that_the_domain_has():
    default, asked = (request("mock", split=s).resolved() for s in (None, "test"))
    assert default.split_among({"base": []}) == "base"
    assert default.split_among({"train": [], "test": [], "base": []}) == "test"
    assert asked.split_among({"base": []}) == "test", "an explicit one is taken at its word"
    assert request("mock", preset="card").resolved().split_among({"base": []}) == "base"
    assert request("mock", preset="leaderboard").resolved().split_among({"base": [], "test": []}) == "base"


@pytest.mark.parametrize(
    "asked, option",
    [
        ({"temperature": 0.5}, "--temperature"),
        ({"top_p": 0.9}, "--top-p"),
        ({"top_k": 20}, "--top-k"),
        ({"tokenizer": Path("t")}, "--tokenizer"),
        ({"model": "m"}, "--model"),
    ],
)
def test_a_script_samples_nothing_and_says_so(asked, option):
    with pytest.raises(ConfigError, match=f"^{option}: --policy gold is a script and samples nothing; leave it out$"):
        request(policy="gold", **asked).resolved()
    assert request(policy="gold", preset="card").resolved().temperature == 0.8, "a preset is for all policies"


def test_mock_is_evaluated_on_base_and_says_so(cli, tmp_path):
    code, out, error = cli("eval", "--domain", "mock", "--task", "create_task_1", "--output", tmp_path)
    assert code == 0 and "mock has no split test: this is base" in out, error
    assert plan.read(tmp_path).sets[0].split == "base" and '"split": "base"' in (tmp_path / "summary.json").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_every_option_of_a_preset_exists(name):
    Tau2Config.from_mapping(PRESETS[name].options, "preset")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(cli, tmp_path):
    out = tmp_path / "run"
    code, said, _ = cli(
        "eval",
        "--domain",
        "retail",
        "--policy",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--preset",
        "card",
        "--set",
        "retail_basis=communicate",
        "--dry-run",
        "--output",
        out,
    )
    assert code == 0 and not out.exists()
    assert "reward basis of retail: communicate" in said
    assert "40 tasks × 4 attempts = 160, 0 of them done" in said and "temperature 0.8, top_p 1.0, top_k 20" in said
    assert (
        "gpt-4.1-mini at https://api.openai.com/v1" in said
        and "estimate for the 160 attempts left" in said
        and "sampled" in said
    )
    cli("eval", "--domain", "helpdesk", "--task", "orders_250", "--output", out)
    _, said, _ = cli(
        "eval", "--domain", "helpdesk", "--task", "orders_250", "--attempts", "3", "--dry-run", "--output", out
    )
    assert "reward basis" not in said, "helpdesk has one"
    assert "1 tasks × 3 attempts = 3, 1 of them done" in said and "for the 2 attempts left" in said


def test_both_switches_are_sent_and_recorded(cli, tmp_path):
    with Serving(FakeOpenAI(["Help me.", f"Bye {bench.STOP}"])) as user, Serving(FakeOpenAI(["Hello."])) as policy:
        code, _, error = cli(
            "eval",
            "--domain",
            "airline",
            "--task",
            "0",
            "--policy",
            policy.url,
            "--model",
            "m",
            "--user",
            "llm",
            "--output",
            tmp_path,
            "--set",
            f"user_base_url={user.url}",
            "--set",
            "user_thinking=off",
            "--set",
            "thinking=on",
        )
    assert code == 0, error
    settings = json.loads((tmp_path / "summary.json").read_text())["plan"]["settings"]
    assert (settings["thinking"], settings["user_thinking"]) == ("on", "off")
    sent = [[b["chat_template_kwargs"]["enable_thinking"] for b in fake.bodies] for fake in (policy, user)]
    assert sent[0] and set(sent[0]) == {True} and sent[1] and set(sent[1]) == {False}


def test_a_switch_that_the_policys_host_does_not_have_is_one_line(cli, tmp_path):
    code, out, error = cli(
        "eval",
        "--domain",
        "airline",
        "--task",
        "0",
        "--policy",
        "https://api.openai.com/v1",
        "--model",
        "gpt-4.1",
        "--user",
        "gold",
        "--set",
        "thinking=off",
        "--output",
        tmp_path / "run",
    )
    assert code == 2 and "thinking = off: https://api.openai.com/v1 has no such switch; use auto" in " ".join(
        (out + error).split()
    )


def answer_of(model, text):
    message = {"role": "assistant", "content": text}
    return web.json_response({"model": model, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})


def test_the_model_that_a_server_answers_with_is_recorded_and_another_is_refused(cli, tmp_path):
    """An alias such as gpt-4.1 is another model from one month to the next."""
    models = ["m-2025-04-14"]
    with Serving(FakeOpenAI(lambda body: answer_of(models[0], f"Bye {bench.STOP}"))) as policy:
        command = ("eval", "--domain", "airline", "--policy", policy.url, "--model", "m", "--user", "gold")
        run = ("--output", tmp_path, "--task", "0")
        code, _, error = cli(*command, *run)
        assert code == 0, error
        assert plan.read(tmp_path).settings["policy_server"] == {"model": "m-2025-04-14"}
        models[0] = "m-2026-01-01"
        code, _, error = cli(*command, *run, "--attempts", "2")
    assert code == 2 and "policy_server = {'model': 'm-2025-04-14'}, not {'model': 'm-2026-01-01'}" in error


@pytest.mark.parametrize("options, sent", [((), None), (("--set", "max_turn_tokens=300"), 300)])
def test_a_limit_on_a_turn_that_was_asked_for_reaches_a_server_of_texts(cli, tmp_path, options, sent):
    with Serving(FakeOpenAI([f"Bye {bench.STOP}"])) as policy:
        command = ("eval", "--domain", "airline", "--policy", policy.url, "--model", "m", "--user", "gold")
        code, _, error = cli(*command, "--task", "0", "--output", tmp_path, *options)
        assert code == 0, error
    assert [body.get("max_tokens") for body in policy.bodies] == [1, *[sent] * (len(policy.bodies) - 1)]
    assert plan.read(tmp_path).settings.get("max_turn_tokens") == sent
