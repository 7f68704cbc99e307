"""The only file that imports tau2: everything else takes tau2's names from `slime_tau2.bench`."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
_orchestrator, _registry = load("orchestrator.orchestrator"), load("registry")
_toolkit, _environment, _db = load("environment.toolkit"), load("environment.environment"), load("environment.db")
_user_base = load("user.user_simulator_base", "user.base")

if TYPE_CHECKING:
    from slime_tau2.bench.shapes import (
        DB,
        Action,
        ActionCheck,
        AgentInfo,
        AssistantMessage,
        CommunicateCheck,
        DBCheck,
        Delivered,
        EnvAssertion,
        EnvAssertionCheck,
        EnvFunctionCall,
        Environment,
        EnvironmentInfo,
        EvaluationCriteria,
        GetToolTypes,
        InitializationData,
        InitialState,
        IsTool,
        Message,
        MultiToolMessage,
        NLAssertionCheck,
        Orchestrator,
        Registry,
        Requestor,
        Results,
        ResultsInfo,
        RewardInfo,
        RewardType,
        Role,
        SimulationRun,
        Spoken,
        StructuredUserInstructions,
        Task,
        TerminationReason,
        Tool,
        ToolCall,
        ToolKitBase,
        ToolMessage,
        ToolType,
        UserInfo,
        UserMessage,
        UserScenario,
    )
else:
    AssistantMessage = _message.AssistantMessage
    UserMessage = _message.UserMessage
    ToolCall = _message.ToolCall
    ToolMessage = _message.ToolMessage
    MultiToolMessage = _message.MultiToolMessage
    Task = _tasks.Task
    UserScenario = _tasks.UserScenario
    StructuredUserInstructions = _tasks.StructuredUserInstructions
    Action = _tasks.Action
    EnvFunctionCall = _tasks.EnvFunctionCall
    EnvAssertion = _tasks.EnvAssertion
    InitializationData = _tasks.InitializationData
    InitialState = _tasks.InitialState
    EvaluationCriteria = _tasks.EvaluationCriteria
    RewardType = _tasks.RewardType
    SimulationRun = _simulation.SimulationRun
    RewardInfo = _simulation.RewardInfo
    DBCheck = _simulation.DBCheck
    ActionCheck = _simulation.ActionCheck
    EnvAssertionCheck = _simulation.EnvAssertionCheck
    CommunicateCheck = _simulation.CommunicateCheck
    NLAssertionCheck = _simulation.NLAssertionCheck
    TerminationReason = _simulation.TerminationReason
    Results = _simulation.Results
    AgentInfo = _simulation.AgentInfo
    UserInfo = _simulation.UserInfo
    Orchestrator = _orchestrator.Orchestrator
    Role = _orchestrator.Role
    Environment = _environment.Environment
    EnvironmentInfo = _environment.EnvironmentInfo
    DB = _db.DB
    ToolKitBase = _toolkit.ToolKitBase
    ToolType = _toolkit.ToolType
    ResultsInfo = _simulation.Info
    Tool = load("environment.tool").Tool
    Requestor = _tasks.ToolRequestor
    Spoken = AssistantMessage | UserMessage
    Message = AssistantMessage | UserMessage | ToolMessage
    Delivered = AssistantMessage | UserMessage | ToolMessage | MultiToolMessage

is_tool: IsTool = _toolkit.is_tool
get_tool_types: GetToolTypes = _toolkit.get_tool_types
registry: Registry = _registry.registry
GREETING: str = _orchestrator.DEFAULT_FIRST_AGENT_MESSAGE.content
STOP: str = _user_base.STOP
TRANSFER: str = _user_base.TRANSFER
HAS_V1_RUNNER = hasattr(_orchestrator.Orchestrator, "_check_termination")


def writing_tools(toolkit: ToolKitBase) -> set[str]:
    """Names of a toolkit's tools that change its state.

    Adapter: v1.0.x says so of each tool, banking_knowledge's generic ones too; older copies by the tool's type alone.
    """
    mutates: Callable[[str], bool] | None = getattr(toolkit, "tool_mutates_state", None)
    types = get_tool_types(toolkit)
    if mutates is None:
        return {name for name, kind in types.items() if kind == ToolType.WRITE}
    return {name for name in types if mutates(name)}
