"""The model card: its numbers are the records', and huggingface_hub reads them back."""

import hashlib
import json

import pytest
from run_files import write

from slime_tau2.evaluation import estimators, runs


def test_every_number_traces_to_a_file(cli, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    for domain, name in (("airline", "noop"), ("telecom", "second")):
        assert (
            cli("eval", "--domain", domain, "--policy", "noop", "--attempts", "2", "--output", tmp_path / name)[0] == 0
        )
    out = tmp_path / "model" / "README.md"
    code, said, _ = cli(
        "card",
        tmp_path / "noop",
        tmp_path / "second",
        "--name",
        "m-4b",
        "--base-model",
        "Qwen/Qwen3-4B",
        "--output",
        out,
    )
    assert code == 0 and "6 results of 2 runs" in said
    card = hub.ModelCard.load(out)
    assert card.data.base_model == "Qwen/Qwen3-4B" and len(card.data.eval_results) == 6
    run = runs.load(tmp_path / "noop")
    wanted = estimators.summarise(run.successes, [1, 2])
    first = card.data.eval_results[:3]
    assert {r.metric_type: r.metric_value for r in first} == {
        m: round(wanted[m].value, 4) for m in ("pass@1", "pass@2", "pass^2")
    }
    assert all(r.dataset_revision == run.plan.sets[0].tasks_sha256 for r in first)
    digest = hashlib.sha256((tmp_path / "noop" / "attempts.jsonl").read_bytes()).hexdigest()
    assert f"`noop/attempts.jsonl`, sha256 {digest}" in card.text and str(tmp_path) not in card.text
    assert all(f"* {told}" in card.text for told in ("protocol native", "user gold", "max_steps 200", "attempts 2"))
    assert "| tasks | pass@1 | pass@2 | pass^2 | noop | transfer-only |" in card.text, "the baselines stand beside it"
    code, _, error = cli("card", tmp_path / "noop", "--name", "m", "--output", out)
    assert code == 2 and "exists; delete it" in error
    code, _, error = cli("card", tmp_path / "none", "--name", "m", "--output", tmp_path / "x.md")
    assert code == 2 and "holds no run" in error


CARD = {"airline": (20, 0.15, 0.45), "retail": (40, 0.55, 0.85), "telecom": (40, 0.275, 0.40)}


def like_the_card(directory):
    """Rewards of 100 tasks, four attempts each, with the published pass@1 and pass@4 of each domain."""
    rewards = {}
    for domain, (tasks, once, ever) in CARD.items():
        won, some = round(once * tasks * 4), round(ever * tasks)
        of_each = [won // some + (n < won % some) for n in range(some)] + [0] * (tasks - some)
        assert sum(of_each) == won and max(of_each) <= 4
        rewards[domain] = {str(t): [float(n < wins) for n in range(4)] for t, wins in enumerate(of_each)}
    return write(
        directory, rewards, temperature=0.8, top_k=20, protocol="card", user_model="gpt-4.1-mini", max_steps=100
    )


def test_the_cards_own_table_and_its_two_numbers(cli, tmp_path):
    """A run with the card's domain values has the card's overall row: each task weighs the same."""
    pytest.importorskip("huggingface_hub")
    run = like_the_card(tmp_path / "run")
    code, said, error = cli("card", run, "--name", "m", "--output", tmp_path / "card.md")
    assert code == 0, error
    text = (tmp_path / "card.md").read_text()
    overall = next(line for line in text.splitlines() if line.startswith("| overall |"))
    assert overall.startswith("| overall | 36.0 [") and "| 59.0 [" in overall
    assert next(line for line in text.splitlines() if line.startswith("| mean of domains |")).startswith(
        "| mean of domains | 32.5 ["
    )
    beside = [line for line in text.splitlines() if line.endswith("| within the interval |")]
    assert len(beside) == 8 and "Measured under the same settings (`--preset card`)." in text
    code, said, _ = cli("report", run)
    assert code == 0 and "Beside the published card" in said


@pytest.mark.parametrize(
    "rewards, more, why",
    [
        (
            {"0": [1.0, 0.0], "1": [1.0]},
            {"attempts": 2},
            "3 of 4 attempts scored, 1 not run; the same eval command runs what is missing, or",
        ),
        (
            {"0": [1.0, 0.0], "1": [None, 1.0]},
            {},
            "3 of 4 attempts scored, 1 ended by the infrastructure (policy_failure 1); the same eval",
        ),
        (
            {"0": [1.0], "1": [0.0]},
            {"split_size": 20},
            "airline (2 of 20 tasks of test) is no whole split; evaluate the split, or",
        ),
    ],
)
def test_half_a_run_is_refused_or_said_in_the_title(cli, tmp_path, rewards, more, why):
    hub = pytest.importorskip("huggingface_hub")
    run, out = write(tmp_path / "run", rewards, **more), tmp_path / "card.md"
    code, _, error = cli("card", run, "--name", "m", "--output", out)
    assert code == 2 and why in error and not out.exists()
    code, _, error = cli("export-tau2", run, "--output", tmp_path / "o.json")
    assert code == 2 and why in error and not (tmp_path / "o.json").exists()
    assert cli("card", run, "--name", "m", "--output", out, "--partial")[0] == 0
    text = out.read_text()
    assert "# m (PARTIAL evaluation: run: airline (" in text
    assert all("PARTIAL" in r.metric_name for r in hub.ModelCard.load(out).data.eval_results)
    if "split_size" in more:
        assert all(r.dataset_split == "2 of 20 tasks of test" for r in hub.ModelCard.load(out).data.eval_results), (
            "it is not called test"
        )


def test_a_card_is_of_one_model_and_has_each_number_once(cli, tmp_path):
    pytest.importorskip("huggingface_hub")
    for kind in ("noop", "gold"):
        assert cli("eval", "--domain", "airline", "--policy", kind, "--output", tmp_path / kind)[0] == 0
    assert cli("eval", "--domain", "airline", "--policy", "noop", "--seed", "1", "--output", tmp_path / "again")[0] == 0
    for runs_, why in (
        (("noop", "gold"), "not of one model: policy: noop 'noop', gold 'gold'"),
        (("noop", "again"), "two of the runs are of airline"),
    ):
        code, _, error = cli("card", *(tmp_path / r for r in runs_), "--name", "m", "--output", tmp_path / "c.md")
        assert code == 2 and why in error and not (tmp_path / "c.md").exists()


def test_a_plan_that_says_it_is_a_split_is_asked_for_its_tasks(cli, tmp_path):
    """Three tasks under a plan that calls them the whole of test."""
    pytest.importorskip("huggingface_hub")
    run = tmp_path / "run"
    ids = ("--task", "2", "--task", "10", "--task", "14")
    assert cli("eval", "--domain", "airline", "--policy", "noop", *ids, "--output", run)[0] == 0
    told = json.loads((run / "plan.json").read_text())
    told["sets"][0] |= {"in_split": 3, "split_size": 3}
    (run / "plan.json").write_text(json.dumps(told))
    code, _, error = cli("card", run, "--name", "m", "--output", tmp_path / "c.md")
    assert code == 2 and "is no whole split" in error
