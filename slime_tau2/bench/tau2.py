"""The only file that imports tau2: everything else takes tau2's names from `slime_tau2.bench`.

Effects of importing `slime_tau2.bench`, all of them:

* TAU2_DATA_DIR is set to the vintage's data, for tau2 reads it once, at its import.
* LITELLM_LOCAL_MODEL_COST_MAP is set unless it is, for litellm must not fetch anything at import.
* tau2's log is switched off, for it formats whole conversations at DEBUG and INFO.
* Its modules take tau2's calls to models without importing them, and litellm with them (`deferred.py`); v1.x imports
  them itself.
* The vendored copy's module of these calls is imported past its wheel's `__init__` (`vendored.py`), whoever imports it.
* `calculator.guard_all` wraps the `calculate` of every toolkit that exists; `evaluation.take_over_judge` puts a
  function of ours in the place of the judge's call to a model. `bench/__init__.py` calls both.

Later effects: `slime_tau2.domains.helpdesk` registers its domain when it is imported, `episode.worlds.load` freezes
what the garbage collector knows when it makes a world and has it collect less often, `EnvironmentSpec.registered`
registers a domain of tau2's for a database of ours, `plugins.load` and `plugins.import_all` put the current folder on
the import path and run the modules that they name.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slime_tau2.bench.deferred import deferred
from slime_tau2.bench.vendored import PastItsWheel
from slime_tau2.errors import BenchDataError
from slime_tau2.vintage import find, locations

VINTAGE = find()
CALLS_MODELS = f"{VINTAGE.root}.utils.llm_utils"
"""The one module of tau2's that imports litellm."""


def _prepare_process() -> None:
    """What must happen before tau2 is imported."""
    os.environ["TAU2_DATA_DIR"] = str(VINTAGE.data_dir)
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from loguru import logger

    logger.disable(VINTAGE.root)
    if VINTAGE.name == "pypi":
        sys.meta_path.insert(0, PastItsWheel(CALLS_MODELS))


def _source() -> str:
    """The text of the module that calls models; empty where it is taken as it is: v1.x imports it with `tau2`."""
    files = (root / "utils" / "llm_utils.py" for root in locations(VINTAGE.root) if VINTAGE.name != "v1")
    return next((file.read_text(encoding="utf-8") for file in files if file.exists()), "")


def load(*paths: str) -> Any:
    """The first of tau2's modules that is there, named without its import root. What it takes of tau2's calls to models
    is imported when it is called.

    Raises:
        BenchDataError: none is there.
    """
    for path in paths:
        name = f"{VINTAGE.root}.{path}"
        try:
            if name in sys.modules or name == CALLS_MODELS or not SOURCE:
                return importlib.import_module(name)
            with deferred(CALLS_MODELS, SOURCE):
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(VINTAGE.root):
                raise
    raise BenchDataError(f"{VINTAGE} has none of the modules {paths}: an unknown vintage")


_prepare_process()
SOURCE = _source()
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
