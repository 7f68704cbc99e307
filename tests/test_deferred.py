"""tau2's calls to models are imported when one of them is called, and not before."""

import subprocess
import sys
import types

import pytest

from slime_tau2 import bench
from slime_tau2.bench.deferred import Deferred

SOURCE = "async def ask(a, *, b): ...\ndef cost(): ...\nLIMIT = 3\n"


@pytest.fixture
def deferred():
    """The stand-in, what it stands for, and how often that was loaded."""
    real, loads = types.ModuleType("calls"), []
    real.LIMIT, real.cost, real.ask = 3, lambda: 7, lambda a, *, b: (a, b)

    def load():
        loads.append(1)
        return real

    return Deferred("calls", SOURCE, load), loads


def test_a_function_is_there_at_once_and_loads_when_it_is_called(deferred):
    module, loads = deferred
    ask, cost = module.ask, module.cost
    assert not loads and (ask.__module__, ask.__name__) == ("calls", "ask")
    assert ask(1, b=2) == (1, 2) and cost() == 7 and loads


def test_any_other_name_is_the_real_modules(deferred):
    module, loads = deferred
    assert not hasattr(module, "__path__") and not loads, "what the import system asks loads nothing"
    assert module.LIMIT == 3 and loads
    with pytest.raises(AttributeError, match="'calls' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_the_command_plays_and_scores_without_litellm_and_tau2s_own_calls_are_still_there(tmp_path):
    script = f"""
import sys
from slime_tau2 import cli
sys.argv = ["slime-tau2", "eval", "--domain", "airline", "--policy", "gold", "--task", "1", "--output", {str(tmp_path / "e")!r}]
try:
    cli.main()
except SystemExit as ended:
    assert ended.code == 0
assert "litellm" not in sys.modules and "openai" not in sys.modules
from slime_tau2.bench import tau2
generate = tau2.load("agent.llm_agent").generate
assert generate.__module__ == tau2.CALLS_MODELS and "litellm" not in sys.modules
assert tau2.load("utils.llm_utils").get_cost([]) == (0, 0)
assert "litellm" in sys.modules and "eval_protocol" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr


def test_each_function_that_tau2s_modules_take_from_it_is_one_of_its_own():
    from slime_tau2.bench import tau2

    calls = tau2.load("utils.llm_utils")
    for path in ("agent.llm_agent", "user.user_simulator", "orchestrator.orchestrator"):
        taken = [v for v in vars(tau2.load(path)).values() if getattr(v, "__module__", "") == tau2.CALLS_MODELS]
        assert taken and all(hasattr(calls, v.__name__) for v in taken), path
    assert bench.VINTAGE.root in tau2.CALLS_MODELS
