"""Tokens of a run, what they cost, and what a run to come would cost."""

import json

import pytest
from fake_openai import FakeOpenAI
from run_files import write
from serving import Serving

from slime_tau2 import bench
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import costs, runs
from slime_tau2.evaluation.costs import Price, Tokens

USAGE = {
    "policy": {"requests": 3, "unreported": 0, "prompt": 900, "cached": 600, "completion": 90},
    "user": {"requests": 2, "unreported": 1, "prompt": 400, "cached": 0, "completion": 40},
}
PRICES = {"served": {"prompt": 1.0, "cached": 0.1, "completion": 10.0}, "u": {"prompt": 2.0, "completion": 4.0}}


def tokens(requests, prompt, cached, completion, unreported=0):
    return Tokens(requests=requests, prompt=prompt, cached=cached, completion=completion, unreported=unreported)


@pytest.fixture
def run(tmp_path):
    rewards = {"airline": {"0": [1.0, 0.0], "1": [1.0, None]}, "retail": {"0": [0.0, 0.0]}}
    return write(tmp_path / "run", rewards, more={"usage": USAGE}, model="served")


def test_a_role_is_added_up_over_all_attempts_those_without_a_score_too(run):
    spent = costs.used(runs.load(run).records)
    assert spent == {"policy": tokens(18, 5400, 3600, 540), "user": tokens(12, 2400, 0, 240, 6)}
    assert str(spent["user"]) == "2,400 tokens sent (0 cached), 240 sampled, 6 answers without a count"


def test_cached_tokens_have_a_price_of_their_own_or_cost_like_any_other():
    assert Price(prompt=1.0, cached=0.1, completion=10.0).of(tokens(1, 2e6, 1e6, 1e6)) == pytest.approx(
        1.0 + 0.1 + 10.0
    )
    assert Price(prompt=1.0, completion=0.0).of(tokens(1, 2e6, 1e6, 1e6)) == pytest.approx(2.0)


def test_report_and_card_say_tokens_and_money(run, cli, tmp_path):
    pytest.importorskip("huggingface_hub")
    table = tmp_path / "prices.yaml"
    table.write_text(json.dumps(PRICES))
    wanted = (1800 * 1.0 + 3600 * 0.1 + 540 * 10.0) / 1e6 + (2400 * 2.0 + 240 * 4.0) / 1e6
    code, out, error = cli("report", run, "--prices", table)
    assert (
        code == 0
        and f"in all: at least {wanted:.2f} in the currency of the table" in out
        and "policy (served): 5,400 tokens sent" in out
    ), error
    assert cli("card", run, "--name", "m", "--partial", "--prices", table, "--output", tmp_path / "c.md")[0] == 0
    assert (
        "* user (u): 2,400 tokens sent (0 cached), 240 sampled, 6 answers without a count: 0.01"
        in (tmp_path / "c.md").read_text()
    )
    script = write(tmp_path / "script", {"airline": {"0": [1.0]}})
    code, out, error = cli("report", run, script, "--prices", table)
    assert code == 0 and out.count("in the currency of the table") == 1, (
        "a script takes no tokens, and may stand beside"
    )
    code, _, error = cli("report", script, "--prices", table)
    assert code == 2 and "the records hold no tokens" in error
    table.write_text(json.dumps({"served": PRICES["served"]}))
    code, _, error = cli("report", run, "--prices", table)
    assert code == 2 and "the table of prices has no 'u', the user's model; write 0 where it costs nothing" in error


@pytest.mark.parametrize(
    "text, why",
    [
        ("m: {prompt: -1, completion: 1}", "m.prompt: Input should be greater than or equal to 0"),
        ("m: 3", "m: Input should be a valid dictionary"),
        ("m: {prompt: 1}", "m.completion: Field required"),
        ("m: {prompt: 1, completion: 1, output: 1}", "m.output: Extra inputs are not permitted"),
        ("[1", "no YAML"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path, text, why):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError, match=why.replace(".", r"\.")):
        costs.read_prices(tmp_path / "p.yaml")


def test_a_dry_run_takes_an_attempts_tokens_from_an_earlier_run(run, cli, tmp_path):
    """20 airline tasks × 4 attempts at (900, 600, 90), 40 retail tasks alike."""
    options = (
        "--domain",
        "airline,retail",
        "--policy",
        "http://127.0.0.1:9/v1",
        "--model",
        "served",
        "--attempts",
        "4",
        "--user",
        "llm",
    )
    command = (
        "eval",
        *options,
        "--set",
        "user_model=u",
        "--set",
        "retail_basis=communicate",
        "--dry-run",
        "--output",
        tmp_path / "o",
    )
    code, out, error = cli(*command, "--like", run)
    assert code == 0 and not (tmp_path / "o").exists(), error
    assert "airline (test), retail (test): 60 tasks × 4 attempts = 240, 0 of them done" in out
    assert (
        "policy (served): 0.22 M tokens sent (0.14 M cached), 21,600 sampled" in out
        and "240 answers without a count" in out
    )
    assert "are of another run" not in out, "the same models, whatever their addresses"
    _, out, _ = cli(*(w if w != "served" else "other" for w in command), "--like", run)
    assert f"the tokens of {run} are of another run: model served there, other here" in " ".join(out.split())
    (tmp_path / "p.json").write_text(json.dumps(PRICES))
    code, out, _ = cli(*command, "--like", run, "--prices", tmp_path / "p.json")
    wanted = 240 * (300 * 1.0 + 600 * 0.1 + 90 * 10.0 + 400 * 2.0 + 40 * 4.0) / 1e6
    assert code == 0 and f"in all: at least {wanted:.2f}" in out
    code, _, error = cli(*(w if w != "airline,retail" else "telecom" for w in command), "--like", run)
    assert code == 2 and "it holds no attempt of telecom; name another run" in error
    code, _, error = cli(*(w for w in command if w != "--dry-run"), "--like", run)
    assert code == 2 and "--like and --prices are for --dry-run" in error


def test_what_servers_report_is_in_the_record_and_the_total(cli, tmp_path):
    """Through `eval`: a policy and a user model, each with its usage."""

    def told(answer, prompt, completion):
        from fake_openai import completion as made

        response = made(answer)
        body = json.loads(response.body) | {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}
        response.body = json.dumps(body).encode()
        return response

    with (
        Serving(FakeOpenAI([told("Hi", 10, 1), told("Help me.", 10, 1), told(f"Bye {bench.STOP}", 20, 2)])) as user,
        Serving(FakeOpenAI([told("Hi", 10, 1), told("Hello.", 100, 5)])) as policy,
    ):
        code, out, error = cli(
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
            "user_model=u",
        )
    assert code == 0, error
    (record,) = runs.load(tmp_path).records
    assert record["usage"]["policy"] == {"requests": 1, "unreported": 0, "prompt": 100, "cached": 0, "completion": 5}
    assert record["usage"]["user"] == {"requests": 2, "unreported": 0, "prompt": 30, "cached": 0, "completion": 3}
    assert "policy (m): " in out and "user (u): " in out
