"""The command line as a user meets it: what it prints, what it returns."""

import json
import os
import subprocess
import sys

import pytest

from slime_tau2 import bench
from slime_tau2.domains.helpdesk import TOKENIZER


def test_errors_are_one_line_in_a_real_process_too(tmp_path):
    command = [sys.executable, "-m", "slime_tau2.cli", "tasks", "--domain", "retial"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert (
        done.returncode == 2
        and done.stderr.startswith("error: unknown domain 'retial'")
        and done.stderr.count("\n") == 1
    )


KNOWN_DOMAINS = {
    "pypi": "airline, helpdesk, mock, retail, telecom",
    "pin": "airline, helpdesk, mock, retail, telecom",
    "v1": "airline, banking_knowledge, helpdesk, mock, retail, telecom",
}[bench.VINTAGE.name]
NOOP_ON_AIRLINE = 7 if bench.VINTAGE.name == "v1" else 6


@pytest.mark.parametrize(
    "arguments, why",
    [
        (
            ["eval", "--domain", "retial", "--output", "{tmp}"],
            f"unknown domain 'retial'; known domains: {KNOWN_DOMAINS}",
        ),
        (
            ["eval", "--domain", "airline", "--split", "dev", "--output", "{tmp}"],
            "unknown split 'dev' of airline; it has: train, test, base",
        ),
        (
            ["eval", "--domain", "mock", "--split", "test", "--output", "{tmp}"],
            "unknown split 'test' of mock; it has: base: use --split base",
        ),
        (
            ["eval", "--domain", "airline", "--task", "x9", "--output", "{tmp}"],
            "unknown task 'x9' in airline; ids look like '0'",
        ),
        (["eval", "--policy", "glod", "--output", "{tmp}"], "--policy glod is neither gold, noop"),
        (
            ["eval", "--policy", "http://127.0.0.1:1", "--output", "{tmp}"],
            "name its tokenizer's directory with --tokenizer",
        ),
        (["eval", "--output", "{tmp}", "--set", "max_stesp=3"], "unknown key max_stesp; did you mean max_steps?"),
        (
            ["quickstart", "--output", "{tmp}", "--set", "sft_lr=-1"],
            "--set: sft_lr = -1: Input should be greater than 0",
        ),
        (
            ["quickstart", "--output", "{tmp}", "--set", "grpo_step=3"],
            "unknown key grpo_step; did you mean grpo_steps?",
        ),
        (["quickstart", "--output", "/proc/nowhere"], "cannot write to /proc/nowhere"),
        (["eval", "--output", "{tmp}", "--set", "agent_prompt=/no/prompt.txt"], "tau2_agent_prompt = /no/prompt.txt: "),
        (["report", "{tmp}"], "holds no run of `slime-tau2 eval`"),
        (["serve", "{tmp}"], "holds no tokenizer"),
        (["serve", "{tmp}", "--port", "99999"], "--port 99999: a port is a number from 1 to 65535"),
        (["serve", "{tmp}", "--threads", "0"], "--threads 0: torch needs at least 1"),
        (["serve", "{tmp}", "--device", "gpu0"], "--device gpu0: there are cpu and cuda"),
        (["doctor", "--port", "99999"], "--port 99999: a port is a number from 1 to 65535"),
        (["rft", "{tmp}/none.jsonl", "--output", "{tmp}/x"], "none.jsonl does not exist"),
        (
            ["rft", "{files}/rows.jsonl", "--output", "{tmp}/x"],
            "rows.jsonl, line 1: no record of an attempt: domain: Field required",
        ),
        (["rft", "{files}", "--output", "{tmp}/x"], "{files} cannot be read: Is a directory"),
        (["check-sft", "{files}/rows.jsonl", "--tokenizer", str(TOKENIZER)], "rows.jsonl, line 1: no messages in it"),
        (
            ["check-sft", "{files}/list.jsonl", "--tokenizer", str(TOKENIZER)],
            "list.jsonl, line 1: no JSON object in it",
        ),
        (["import-sft", "{files}/x.parquet", "--output", "{tmp}/x"], "x.parquet is no Parquet file"),
        (["import-sft", "{files}/none.parquet", "--output", "{tmp}/x"], "none.parquet does not exist"),
        (["tasks", "--output", "/proc/nowhere"], "No such file or directory"),
        (["eval", "--output", "{files}/rows.jsonl"], "File exists ({files}/rows.jsonl)"),
        (
            ["eval", "--output", "{tmp}", "--set", "user=json:dumps"],
            "tau2_user = json:dumps is function, not a class with start",
        ),
    ],
)
def test_bad_input_is_one_line_with_the_fix(cli, tmp_path, arguments, why):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "x.parquet").write_text("x")
    code, _, err = cli(*(a.format(tmp=tmp_path / "out", files=tmp_path) for a in arguments))
    assert code == 2 and err.startswith("error: ") and why.format(files=tmp_path) in err and "Traceback" not in err


def test_gold_and_noop(cli, tmp_path):
    code, out, _ = cli("eval", "--domain", "helpdesk", "--policy", "gold", "--output", tmp_path / "gold")
    assert code == 0 and "150 of 150 attempts scored; 150 earned reward 1.0" in out
    records = [json.loads(line) for line in (tmp_path / "gold" / "attempts.jsonl").read_text().splitlines()]
    assert len(records) == 150 and {"domain", "task_id", "attempt", "reward", "termination"} <= set(records[0])
    summary = json.loads((tmp_path / "gold" / "summary.json").read_text())
    assert summary["metrics"]["overall"]["pass@1"]["value"] == 1.0 and summary["plan"]["tau2"]
    code, out, err = cli("rft", tmp_path / "gold" / "attempts.jsonl", "--output", tmp_path / "rft.jsonl")
    assert code == 2 and "of test tasks 150" in out and "no row qualified" in err, "what is tested is never trained on"
    code, out, _ = cli(
        "eval", "--domain", "airline", "--split", "test", "--policy", "noop", "--output", tmp_path / "noop"
    )
    assert code == 0 and f"20 of 20 attempts scored; {NOOP_ON_AIRLINE} earned reward 1.0" in out
    code, _, err = cli("eval", "--domain", "helpdesk", "--policy", "noop", "--output", tmp_path / "gold")
    assert code == 2 and "use another --output" in err


def test_a_served_model(cli, tmp_path, tiny_model_dir):
    tasks = ("--task", "orders_250", "--task", "phones_250", "--attempts", "2", "--set", "max_turn_tokens=8")
    code, out, err = cli("eval", "--policy", tiny_model_dir, *tasks, "--output", tmp_path / "m")
    assert code == 0 and "token mismatches: 0 in 4 episodes" in out, err


def test_a_directory_that_another_process_writes_gets_no_servers_log(cli, tmp_path, tiny_model_dir):
    hold = "import pathlib, sys\nfrom slime_tau2 import manifest\nwith manifest.held(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "1\n"
        code, _, error = cli("eval", "--policy", tiny_model_dir, "--task", "orders_250", "--output", tmp_path)
    finally:
        child.kill()
        child.wait()
    assert code == 2 and f"is being written by process {child.pid}" in error
    assert not (tmp_path / "server.log").exists()


def test_a_gpu_that_is_not_there_is_named_before_anything_is_loaded(cli, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = cli("serve", tmp_path / "none", "--device", "cuda")
    assert code == 2 and err.startswith("error: --device cuda: this torch sees no GPU")


def test_a_missing_users_key_is_found_before_anything_runs(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ask = (
        "eval",
        "--domain",
        "airline",
        "--policy",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--output",
        tmp_path / "run",
    )
    code, _, err = cli(*ask, "--preset", "card")
    assert code == 2 and err.startswith(
        "error: OPENAI_API_KEY is not set, and the user is gpt-4.1-mini at https://api.openai.com/v1; set it"
    )
    assert "--set user_base_url=… --set user_model=…" in err and not (tmp_path / "run").exists()
    own = (
        "--set",
        "eval_user_model=u",
        "--set",
        "eval_user_base_url=https://models.example/v1",
        "--set",
        "eval_user_key_env=NOT_THERE",
    )
    code, _, err = cli(*ask, *own)
    assert (
        code == 2
        and "NOT_THERE is not set, and the user is u at https://models.example/v1" in err
        and "eval_user_model=…" in err
    )


def test_small_commands(cli, tmp_path):
    assert cli("tasks", "--split", "test")[1].splitlines()[0] == "helpdesk/orders_250"
    assert (
        "40 tasks written" in cli("tasks", "--domain", "retail", "--split", "test", "--output", tmp_path / "t.jsonl")[1]
    )
    assert "5 rows written" in cli("collect", "--episodes", "5", "--output", tmp_path / "c.jsonl")[1]
    assert "quickstart" in cli("--help")[1]


@pytest.mark.skipif(bench.VINTAGE.name != "pypi", reason="tau2's own repository brings its data")
def test_prepare_data_says_where_it_lies_and_which_tau2_reads_it(cli):
    code, out, error = cli("prepare-data")
    assert code == 0 and out.startswith("tau2 data: ") and str(bench.VINTAGE) in out, error


def test_a_full_disk_is_one_line(cli, tmp_path, monkeypatch):
    import errno

    from slime_tau2.evaluation.plan import RunPlan

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(RunPlan, "write", full)
    code, _, err = cli("eval", "--output", tmp_path / "x")
    assert code == 2 and err.startswith("error: No space left on device") and "what was saved before is intact" in err


def test_the_official_cross_check_and_the_provenance_in_the_results(cli, tmp_path):
    code, out, _ = cli(
        "eval", "--domain", "airline", "--task", "1", "--task", "2", "--set", "official_check=1", "--output", tmp_path
    )
    assert code == 0 and "tau2's own evaluator graded 2 episodes again and agreed" in out
    rows = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    assert all(
        len(r["tasks_sha256"]) == 64 and r["reward_basis"] == ["DB", "COMMUNICATE"] and "tau2" in r for r in rows
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["user_stopped_early"] == 0.0 and summary["plan"]["settings"]["retail_basis"] == "judge"


def test_a_missing_judges_key_is_found_before_the_first_conversation(monkeypatch):
    from slime_tau2.config import Tau2Config
    from slime_tau2.episode import worlds
    from slime_tau2.errors import ConfigError
    from slime_tau2.evaluation import keys

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    plain = next(
        t for t in worlds.load("mock").tasks.values() if t.evaluation_criteria and t.evaluation_criteria.nl_assertions
    )
    criteria = plain.evaluation_criteria.model_copy(update={"reward_basis": [bench.RewardType.NL_ASSERTION]})
    judged = plain.model_copy(update={"evaluation_criteria": criteria})
    keys.check(Tau2Config(user="gold"), {"airline": [worlds.load("airline").task("0")]})
    with pytest.raises(
        ConfigError, match=r"1 of these 1 tasks \(\w+\) are judged by gpt-4.1-2025-04-14, and OPENAI_API_KEY is not"
    ):
        keys.check(Tau2Config(user="gold"), {"mock": [judged]})
    keys.check(Tau2Config(user="gold", judge_base_url="http://127.0.0.1:1/v1"), {"mock": [judged]})
    monkeypatch.setenv("OPENAI_API_KEY", "planted")
    keys.check(Tau2Config(user="gold"), {"mock": [judged]})


def test_report_of_an_evaluation_says_what_went_wrong(cli, tmp_path):
    assert (
        cli(
            "eval", "--domain", "retail", "--policy", "noop", "--task", "0", "--task", "1", "--output", tmp_path / "run"
        )[0]
        == 0
    )
    code, out, _ = cli("report", tmp_path / "run")
    assert (
        code == 0 and "2 failed attempts" in out and "missing write" in out and "exchange_delivered_order_items(" in out
    )
    (tmp_path / "run" / "attempts.jsonl").write_text("")
    code, _, error = cli("report", tmp_path / "run")
    assert code == 2 and "holds no attempt" in error


def test_what_is_on_the_command_line_wins_over_the_environment(cli, tmp_path, monkeypatch):
    """TAU2_USER once replaced an explicit --user without a word; rows were written in another protocol than was played."""
    monkeypatch.setenv("TAU2_USER", "llm")
    assert cli("eval", "--task", "orders_250", "--policy", "noop", "--user", "gold", "--output", tmp_path / "o")[0] == 0
    assert json.loads((tmp_path / "o" / "plan.json").read_text())["settings"]["user"] == "gold"
    monkeypatch.setenv("TAU2_MAX_STEPS", "none")
    code, _, error = cli("eval", "--task", "orders_250", "--output", tmp_path / "p")
    assert code == 2 and error.startswith("error: TAU2_* in the environment: tau2_max_steps = 'none': ")
