"""banking_knowledge on the real v1.0.x, through the command line: kinds that run, and what the others say
(tests/test_knowledge.py: a stand-in).
"""

import json
import sys

import pytest

from slime_tau2 import bench
from slime_tau2.bench import knowledge
from slime_tau2.data import records
from slime_tau2.episode import environments, worlds
from slime_tau2.evaluation import plan

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(bench.VINTAGE.name != "v1", reason="tau2 v1.0.x is not on the path (README, 'tau2 itself')"),
]
EVAL = ("eval", "--domain", bench.KNOWLEDGE, "--set", "retail_basis=no_judge")


@pytest.fixture(autouse=True)
def keyless(monkeypatch):
    for key in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def searchable():
    pytest.importorskip("rank_bm25", reason="pip install rank-bm25")


def test_gold_wins_every_task_and_the_kind_is_recorded(cli, tmp_path, searchable):
    code, out, error = cli(*EVAL, "--policy", "gold", "--output", tmp_path / "gold")
    assert code == 0, error
    assert (
        f"{bench.KNOWLEDGE} has no split test: this is base" in out
        and "97 of 97 attempts scored; 97 earned reward 1.0" in out
    )
    assert all(f"beside it, {kind} on the same tasks: overall 0.0 %" in out for kind in ("noop", "transfer-only"))
    (tasks,) = plan.read(tmp_path / "gold").sets
    assert (tasks.name, tasks.retrieval) == ("base", "bm25")
    assert cli("export-tau2", tmp_path / "gold", "--output", tmp_path / "r.json")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["info"]["retrieval_config"] == "bm25"


@pytest.mark.parametrize("kind", ["no_knowledge", "full_kb", "golden_retrieval", "grep_only", "bm25_grep"])
def test_every_other_kind_that_needs_no_key(cli, tmp_path, searchable, kind):
    ids = [w for n in ("001", "004", "102") for w in ("--task", f"task_{n}")]
    code, out, error = cli(*EVAL, "--policy", "gold", "--set", f"retrieval={kind}", *ids, "--output", tmp_path / "o")
    assert code == 0 and "3 of 3 attempts scored; 3 earned reward 1.0" in out, error
    assert len(records.read(tmp_path / "o" / "attempts.jsonl")) == 3
    world = worlds.load(bench.KNOWLEDGE, retail_basis="no_judge", retrieval=kind)
    policies = {world.policy_for(f"task_{n}") for n in ("001", "004", "102")}
    assert len(policies) == (3 if kind == "golden_retrieval" else 1)


def test_the_kinds_that_need_a_key_or_a_sandbox_say_so_in_one_line(cli, tmp_path):
    kinds = knowledge._kinds()
    assert len(kinds) == 20 and set(knowledge.keyless()) == {
        "no_knowledge",
        "full_kb",
        "golden_retrieval",
        "bm25_grep",
        "bm25",
        "grep_only",
        "terminal_use",
        "terminal_use_write",
    }
    for kind in set(kinds) - set(knowledge.keyless()):
        code, _, error = cli(*EVAL, "--set", f"retrieval={kind}", "--output", tmp_path / "o")
        assert (
            code == 2
            and error.count("\n") == 1
            and error.startswith(f"error: {bench.KNOWLEDGE} with retrieval {kind} needs O")
        ), error
        assert "_API_KEY in the environment" in error and ("OPENROUTER" in error) == ("qwen" in kind)
    code, _, error = cli(*EVAL, "--set", "retrieval=bm52", "--output", tmp_path / "o")
    assert code == 2 and error.count("\n") == 1 and "bm25" in error


def test_the_shell_without_its_programs(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = cli(*EVAL, "--set", "retrieval=terminal_use", "--output", tmp_path / "o")
    assert code == 2 and error.count("\n") == 1 and "srt" in error and "npm install" in error


def test_a_missing_package_is_named(cli, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.startswith("tau2.knowledge")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rank_bm25", None)
    worlds._load.cache_clear()
    environments.shared.cache_clear()
    code, _, error = cli(*EVAL, "--output", tmp_path / "o")
    assert (
        code == 2
        and error.count("\n") == 1
        and "needs the package rank_bm25, which is not installed: pip install rank-bm25" in error
    )
    code, out, _ = cli("tasks", "--domain", bench.KNOWLEDGE, "--split", "base")
    assert code == 0 and out.count("banking_knowledge/task_") == 97, "whoever lists tasks searches nothing"
