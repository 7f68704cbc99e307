"""The model card: its numbers are the records', and huggingface_hub reads them back."""

import pytest

from slime_tau2.evaluation import compare, statistics


def test_every_number_traces_to_a_file(cli, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    for kind in ("noop", "transfer-only"):
        assert cli("eval", "--domain", "airline", "--policy", kind, "--attempts", "2", "--output", tmp_path / kind)[0] == 0
    out = tmp_path / "model" / "README.md"
    code, said, _ = cli(
        "card", tmp_path / "noop", tmp_path / "transfer-only", "--name", "m-4b", "--base-model", "Qwen/Qwen3-4B", "--output", out
    )
    assert code == 0 and "6 results of 2 runs" in said
    card = hub.ModelCard.load(out)
    assert card.data.base_model == "Qwen/Qwen3-4B" and len(card.data.eval_results) == 6
    run = compare.load(tmp_path / "noop")
    wanted = statistics.summarise(run.successes, [1, 2])
    first = card.data.eval_results[:3]
    assert {r.metric_type: r.metric_value for r in first} == {m: round(wanted[m].value, 4) for m in ("pass@1", "pass@2", "pass^2")}
    assert all(r.dataset_revision == run.settings["tasks_sha256"] for r in first)
    assert f"{tmp_path / 'noop' / 'attempts.jsonl'}" in card.text and "tasks_sha256" in card.text
    code, _, error = cli("card", tmp_path / "noop", "--name", "m", "--output", out)
    assert code == 2 and "exists; delete it" in error
    code, _, error = cli("card", tmp_path / "none", "--name", "m", "--output", tmp_path / "x.md")
    assert code == 2 and "holds no run" in error
