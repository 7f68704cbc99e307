"""What is logged, where it goes, and that the list in the docs is the whole list."""

import re
from argparse import Namespace
from pathlib import Path

import pytest
from test_hooks import make_args, scored

from slime_tau2.config import Tau2Config
from slime_tau2.hooks import current, data_source
from slime_tau2.hooks import metrics as log_hooks

DOCS = Path(__file__).parents[2] / "docs" / "hooks.md"


def batch():
    """Two groups of helpdesk and mock, one sample of them dropped, one interrupted by a weight update."""
    out = [scored(1.0, 1.0, 0, 0), scored(0.0, 0.5, 0, 1), scored(0.0, 0.0, 1, 2, removed=True), scored(1.0, 1.0, 1, 3)]
    for n, s in enumerate(out):
        s.tokens, s.response_length, s.loss_mask = list(range(1400, 1410)), 6, [1, 1, 0, 0, 1, 1]
        s.weight_versions = ["3", "4"] if n == 0 else ["3"]
        s.metadata["domain"] = "mock" if n == 3 else "helpdesk"
        s.metadata["tau2"] |= {
            "turns": 2,
            "calls": 3,
            "user_s": 4.0,
            "policy_s": 1.0,
            "usage": {"policy": {"prompt": 100, "cached": 60}},
        }
    return out


def test_figures():
    metrics = log_hooks.episode_metrics(batch(), "p") | log_hooks.group_metrics(Tau2Config(), batch(), "p")
    assert (
        metrics["p/success"] == pytest.approx(2 / 3)
        and metrics["p/mock/success"] == 1.0
        and metrics["p/helpdesk/dropped"] == pytest.approx(1 / 3)
    )
    assert (
        metrics["p/user_s_per_turn"] == 2.0 and metrics["p/prefix_cache_hits"] == 0.6 and metrics["p/tool_calls"] == 3
    )
    assert (
        metrics["p/trained_tokens"] == 4
        and metrics["p/longest_tokens"] == 10
        and metrics["p/weight_updates_within"] == pytest.approx(1 / 3)
    )
    assert (
        metrics["p/zero_variance_groups"] == 0.5
        and metrics["p/solved_groups"] == 0.5
        and metrics["p/unsolved_groups"] == 0.0
    )


def test_every_key_is_documented(tmp_path, monkeypatch):
    sent = {}
    monkeypatch.setattr(log_hooks, "log_metrics", lambda args, metrics, step: sent.update(metrics))
    monkeypatch.setattr(log_hooks, "take_faults", lambda: {"user/http_500": 2})
    monkeypatch.setattr(current, "_source", None)
    data_source.Tau2DataSource(Namespace(n_samples_per_prompt=2, tau2_user="scripted"))
    log_hooks.log_rollout(3, Namespace(tau2_log_samples=0), batch(), None, 2.0)
    log_hooks.log_eval(3, Namespace(), {"airline": {"samples": batch()}}, None)
    assert (
        sent["tau2/faults/user/http_500"] == 2.0
        and sent["tau2/curriculum/unseen"] == 600.0
        and sent["tau2/episodes_per_s"] == 2.0
    )
    assert all(isinstance(v, int | float) for v in sent.values()), "what TensorBoard takes, too"
    listed = set(re.findall(r"^\| `([^`]+)` \|", DOCS.read_text().split("## What they log")[1], re.MULTILINE))
    general = {re.sub(r"^(tau2|tau2_eval/airline)/((helpdesk|mock)/)?", "", k) for k in sent}
    general = {
        re.sub(
            r"^ended_.*",
            "ended_REASON",
            re.sub(r"^faults/.*", "faults/CLIENT/KIND", re.sub(r"^curriculum/.*", "curriculum/POOL", k)),
        )
        for k in general
    }
    assert general - {"rollout/step", "eval/step"} == {k for k in listed if k not in ("samples", "groups")}, (
        "docs/hooks.md lists every key, and no other"
    )


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="t", mode="offline", dir=tmp_path)
    try:
        assert log_hooks.log_rollout(7, make_args(use_wandb=True, tau2_log_samples=2), batch(), None, 1.0) is False
        assert run.summary["tau2/success"] == pytest.approx(2 / 3) and run.summary["rollout/step"] == 7
        table = run.summary["tau2/samples"]
        assert (table["_type"], table["nrows"], table["ncols"]) == ("table-file", 2, len(log_hooks.TABLE_COLUMNS) + 1)
        groups = run.summary["tau2/groups"]
        assert (groups["nrows"], groups["ncols"]) == (2, len(log_hooks.GROUP_COLUMNS))
    finally:
        run.finish()
    assert list(tmp_path.rglob("*.wandb")), "the offline run can be synced later"


def test_a_tracker_that_fails_never_stops_a_rollout(monkeypatch, caplog):
    wandb = pytest.importorskip("wandb")

    class Broken:
        def log(self, metrics):
            raise ConnectionError("no route to the tracker")

    monkeypatch.setattr(wandb, "run", Broken())
    assert log_hooks.log_rollout(0, make_args(use_wandb=True), batch(), None, 1.0) is False
    assert "no route to the tracker" in caplog.text


def test_rows_of_the_tables_are_whole_conversations_and_every_group(tokenizer, monkeypatch):
    tables = {}
    monkeypatch.setattr(
        log_hooks, "log_table", lambda args, name, columns, rows: tables.update({name: (columns, list(rows()))})
    )
    log_hooks.log_rollout(5, make_args(tau2_log_samples=2), batch(), None, 1.0)
    columns, rows = tables["tau2/samples"]
    assert len(rows) == 2 and all(len(r) == len(columns) for r in rows)
    first, last = (dict(zip(columns, r)) for r in rows)
    assert first["conversation"] == tokenizer.decode(list(range(1404, 1410)))
    assert (first["rollout"], first["group"], first["sample"], first["domain"]) == (5, 0, 0, "helpdesk")
    assert (first["reward"], first["training_reward"], first["advantage"]) == (1.0, 1.0, pytest.approx(0.4375))
    assert (last["sample"], last["trains"], last["why_not"], last["advantage"]) == (2, False, "user_stop", None)
    columns, rows = tables["tau2/groups"]
    told = [dict(zip(columns, r)) for r in rows]
    assert [(r["group"], r["fate"], r["rewards"]) for r in told] == [(0, "trained", "1 0"), (1, "trained", "0 1")]
    assert told[0]["training_rewards"] == "1.00 0.12", "a partial of 0.5 earns alpha times as much"


def test_the_name_before_still_leads_there():
    from slime_tau2.hooks import logging as before

    assert before.log_rollout is log_hooks.log_rollout and before.log_eval is log_hooks.log_eval
