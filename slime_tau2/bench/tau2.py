"""The only file that imports tau2: everything else takes tau2's names from `slime_tau2.bench`."""

from __future__ import annotations

import importlib
import os
import sys
import types
from typing import Any

from slime_tau2.errors import BenchDataError
from slime_tau2.vintage import find, locations

VINTAGE = find()
os.environ["TAU2_DATA_DIR"] = str(VINTAGE.data_dir)  # read once, at tau2's import
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm must not fetch anything at import

from loguru import logger as _loguru  # noqa: E402

_loguru.disable(VINTAGE.root)  # tau2 formats whole conversations at DEBUG and INFO


def _import_vendored() -> None:
    """Import the vendored copy without running its wheel's package `__init__`, which imports an agent framework under
    pytest.
    """
    if "eval_protocol" in sys.modules:
        return
    bare = types.ModuleType("eval_protocol")
    bare.__path__ = [str(p) for p in locations("eval_protocol")]
    sys.modules["eval_protocol"] = bare
    try:
        importlib.import_module("vendor.tau2.utils.llm_utils")
    finally:
        for name in [m for m in sys.modules if m.split(".")[0] == "eval_protocol"]:
            del sys.modules[name]  # whoever wants the real package still gets it


if VINTAGE.name == "pypi":
    _import_vendored()


def load(*paths: str) -> Any:
    """The first of tau2's modules that is there, named without its import root."""
    for path in paths:
        try:
            return importlib.import_module(f"{VINTAGE.root}.{path}")
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(VINTAGE.root):
                raise
    raise BenchDataError(f"{VINTAGE} has none of the modules {paths}: an unknown vintage")


_message, _simulation, _tasks = load("data_model.message"), load("data_model.simulation"), load("data_model.tasks")
_orchestrator, _registry_module = load("orchestrator.orchestrator"), load("registry")
_toolkit, _environment, _db = load("environment.toolkit"), load("environment.environment"), load("environment.db")
_user_base = load("user.user_simulator_base", "user.base")

AssistantMessage, UserMessage = _message.AssistantMessage, _message.UserMessage
ToolCall, ToolMessage, MultiToolMessage = _message.ToolCall, _message.ToolMessage, _message.MultiToolMessage
SimulationRun, RewardInfo, DBCheck = _simulation.SimulationRun, _simulation.RewardInfo, _simulation.DBCheck
Results, ResultsInfo, AgentInfo, UserInfo = (
    _simulation.Results,
    _simulation.Info,
    _simulation.AgentInfo,
    _simulation.UserInfo,
)
EnvAssertionCheck, TerminationReason = _simulation.EnvAssertionCheck, _simulation.TerminationReason
Task, RewardType = _tasks.Task, _tasks.RewardType
Orchestrator, Role = _orchestrator.Orchestrator, _orchestrator.Role
Environment, DB, ToolKitBase = _environment.Environment, _db.DB, _toolkit.ToolKitBase
ToolType, is_tool, get_tool_types = _toolkit.ToolType, _toolkit.is_tool, _toolkit.get_tool_types
registry = _registry_module.registry
GREETING: str = _orchestrator.DEFAULT_FIRST_AGENT_MESSAGE.content
STOP, TRANSFER = _user_base.STOP, _user_base.TRANSFER
HAS_V1_RUNNER = hasattr(Orchestrator, "_check_termination")


def writing_tools(toolkit: Any) -> set[str]:
    """Names of a toolkit's tools that change its state (adapter: v1.0.x says so of each, banking_knowledge's generic
    ones too).
    """
    changes = getattr(toolkit, "tool_mutates_state", None)
    return {
        name for name, kind in get_tool_types(toolkit).items() if (changes(name) if changes else kind == ToolType.WRITE)
    }
