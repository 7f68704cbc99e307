"""tau2's calls to models are imported when one of them is called, and not before."""

import asyncio
import importlib
import inspect
import subprocess
import sys

import pytest

from slime_tau2 import bench
from slime_tau2.bench.deferred import deferred

CALLS = "LIMIT = 3\nasync def ask(a, *, b):\n    return a, b\ndef cost():\n    return 7\n"


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A module `model_calls` that can be imported, and is forgotten afterwards."""
    (tmp_path / "model_calls.py").write_text(CALLS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("model_calls", "user_of_calls"):
        sys.modules.pop(name, None)


def test_a_function_that_was_taken_imports_the_module_when_it_is_called(calls):
    (calls / "user_of_calls.py").write_text("from model_calls import ask, cost\n")
    with deferred("model_calls", CALLS):
        user = importlib.import_module("user_of_calls")
    assert "model_calls" not in sys.modules and (user.ask.__module__, user.ask.__name__) == ("model_calls", "ask")
    assert inspect.iscoroutinefunction(user.ask) and not inspect.iscoroutinefunction(user.cost)
    assert user.cost() == 7 and asyncio.run(user.ask(1, b=2)) == (1, 2)
    sys.modules["model_calls"].cost = lambda: 8
    assert user.cost() == 8, "what somebody puts in its place is called"


def test_anything_else_is_imported_at_once_and_the_import_system_asks_for_nothing(calls):
    with deferred("model_calls", CALLS):
        assert not hasattr(sys.modules["model_calls"], "__path__")
        stand_in = importlib.import_module("model_calls")
        assert stand_in.LIMIT == 3 and importlib.import_module("model_calls") is not stand_in
        with pytest.raises(AttributeError, match="'model_calls' has no attribute 'nothing'"):
            stand_in.nothing  # noqa: B018
    real = importlib.import_module("model_calls")
    with deferred("model_calls", "def other(): ..."):
        assert importlib.import_module("model_calls") is real


def in_a_process(script):
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(bench.VINTAGE.name == "v1", reason="tau2 v1.x imports litellm with its package")
def test_the_command_plays_and_scores_without_litellm(tmp_path):
    in_a_process(f"""
import sys
from slime_tau2 import cli
sys.argv = ["slime-tau2", "eval", "--domain", "airline", "--policy", "gold", "--task", "1", "--output", {str(tmp_path / "e")!r}]
try:
    cli.main()
except SystemExit as ended:
    assert ended.code == 0
assert "litellm" not in sys.modules and "openai" not in sys.modules
""")


def test_tau2s_own_calls_are_there_for_whoever_wants_them():
    """Its modules hold functions that the real module has; that is imported as any other, and may be patched."""
    in_a_process("""
import importlib, sys
from unittest import mock
from slime_tau2.bench import tau2
taken = {
    value.__name__
    for path in ("agent.llm_agent", "user.user_simulator", "orchestrator.orchestrator")
    for value in vars(tau2.load(path)).values()
    if getattr(value, "__module__", "") == tau2.CALLS_MODELS
}
assert {"generate", "get_cost"} <= taken
real = importlib.import_module(tau2.CALLS_MODELS)
assert tau2.load("utils.llm_utils") is real and real.__spec__ and "litellm" in sys.modules
assert all(callable(vars(real)[name]) for name in taken)
assert tau2.load("utils").llm_utils is real
if tau2.VINTAGE.name == "pypi":
    assert "eval_protocol" not in sys.modules
get_cost = tau2.load("orchestrator.orchestrator").get_cost
assert get_cost([]) == (0, 0)
if tau2.VINTAGE.name != "v1":
    with mock.patch(f"{tau2.CALLS_MODELS}.get_cost", lambda messages: "patched"):
        assert get_cost([]) == "patched"
    assert get_cost([]) == (0, 0)
""")
