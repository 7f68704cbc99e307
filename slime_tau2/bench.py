"""The only file that imports tau2.

It accepts three vintages and says which one it found: tau2 v1.0.x, the model card's pin (commit 337326e), and the
v0.1 copy that PyPI carries as `vendor.tau2`. Everything else in the package takes tau2's names from here.

Invariant: a caller cannot tell the vintages apart. Where one lacks what v1.0.x has, one adapter function below
supplies it (`load_tasks`, `user_tools`, `check_termination`, `finalize`, `register_domain`, `evaluate`, `action_checks`).
"""

from __future__ import annotations

import contextvars
import functools
import hashlib
import importlib
import json
import os
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slime_tau2 import guards
from slime_tau2.errors import BenchDataError, JudgeError
from slime_tau2.vintage import find, locations

VINTAGE = find()
os.environ["TAU2_DATA_DIR"] = str(VINTAGE.data_dir)  # read once, at tau2's import
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # litellm must not fetch anything at import

from loguru import logger as _loguru  # noqa: E402

_loguru.disable(VINTAGE.root)  # tau2 formats whole conversations at DEBUG and INFO


def _import_vendored() -> None:
    """Import the vendored copy without running its wheel's package `__init__`, which imports an agent framework under pytest."""
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


def _load(*paths: str) -> Any:
    for path in paths:
        try:
            return importlib.import_module(f"{VINTAGE.root}.{path}")
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(VINTAGE.root):
                raise
    raise BenchDataError(f"{VINTAGE} has none of the modules {paths}: an unknown vintage")


_message, _simulation, _tasks = _load("data_model.message"), _load("data_model.simulation"), _load("data_model.tasks")
_orchestrator, _registry_module = _load("orchestrator.orchestrator"), _load("registry")
_toolkit, _environment, _db = _load("environment.toolkit"), _load("environment.environment"), _load("environment.db")
_agent_base, _user_base = _load("agent.base_agent", "agent.base"), _load("user.user_simulator_base", "user.base")
_user_simulator, _llm_agent = _load("user.user_simulator"), _load("agent.llm_agent")
_evaluator, _nl = _load("evaluator.evaluator"), _load("evaluator.evaluator_nl_assertions")
_action, _communicate = _load("evaluator.evaluator_action"), _load("evaluator.evaluator_communicate")

AssistantMessage, UserMessage = _message.AssistantMessage, _message.UserMessage
ToolCall, ToolMessage, MultiToolMessage = _message.ToolCall, _message.ToolMessage, _message.MultiToolMessage
SimulationRun, RewardInfo, DBCheck = _simulation.SimulationRun, _simulation.RewardInfo, _simulation.DBCheck
Results, ResultsInfo, AgentInfo, UserInfo = _simulation.Results, _simulation.Info, _simulation.AgentInfo, _simulation.UserInfo
EnvAssertionCheck, TerminationReason = _simulation.EnvAssertionCheck, _simulation.TerminationReason
Task, RewardType = _tasks.Task, _tasks.RewardType
Orchestrator, Role = _orchestrator.Orchestrator, _orchestrator.Role
Environment, DB, ToolKitBase = _environment.Environment, _db.DB, _toolkit.ToolKitBase
ToolType, is_tool, get_tool_types = _toolkit.ToolType, _toolkit.is_tool, _toolkit.get_tool_types
CommunicateEvaluator, NLAssertionsEvaluator = _communicate.CommunicateEvaluator, _nl.NLAssertionsEvaluator
registry = _registry_module.registry
GREETING: str = _orchestrator.DEFAULT_FIRST_AGENT_MESSAGE.content
STOP, TRANSFER = _user_base.STOP, _user_base.TRANSFER
HAS_V1_RUNNER = hasattr(Orchestrator, "_check_termination")
_splits: dict[str, Callable[[], dict[str, list[str]]]] = {}


# --- tasks -----------------------------------------------------------------------------------------------------


def task_splits(domain: str) -> dict[str, list[str]]:
    """{split: task ids} of a domain; from the domain's registration, else from its split file."""
    if domain in _splits:
        return _splits[domain]()
    path = domain_dir(domain) / "split_tasks.json"
    return json.loads(path.read_text()) if path.exists() else {}


def domain_dir(domain: str) -> Path:
    """The folder of a tau2 domain's data files."""
    base = VINTAGE.data_dir / "domains" if VINTAGE.name == "pypi" else VINTAGE.data_dir / "tau2" / "domains"
    return base / domain.split("-")[0].split("_")[0]


def load_tasks(domain: str) -> dict[str, Any]:
    """All tasks of a domain by id (adapter: loaders differ in whether they take a split)."""
    if domain not in registry.get_task_sets():
        known = ", ".join(sorted(set(registry.get_domains()) & set(registry.get_task_sets())))
        raise BenchDataError(f"unknown domain {domain!r}; known domains: {known}")
    loader = registry.get_tasks_loader(domain)
    try:
        tasks = loader(None)
    except TypeError:
        tasks = loader()
    return {task.id: task for task in tasks}


def tasks_sha256(domain: str) -> str:
    """sha256 of the domain's task file (of the tasks' canonical JSON where tasks are generated)."""
    path = domain_dir(domain) / "tasks.json"
    if domain not in _splits and path.exists():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    canonical = json.dumps([t.model_dump(mode="json") for t in load_tasks(domain).values()], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def register_domain(name: str, environment: Callable[..., Any], tasks: Callable[..., list], splits: Callable[[], dict]) -> None:
    """Register a domain with tau2 and read it back (some vintages only log failures). Idempotent."""
    if name not in registry.get_domains():
        registry.register_domain(environment, name)
        registry.register_tasks(tasks, name)
    _splits[name] = splits
    if registry.get_env_constructor(name) is not environment or registry.get_tasks_loader(name) is not tasks:
        raise BenchDataError(f"tau2's registry already holds another domain named {name!r}; rename one of the two")


# --- participants and the end of a conversation ------------------------------------------------------------------


class _Mailbox:
    """Hands tau2 the message that the driver awaited beforehand."""

    box: Any = None

    def generate_next_message(self, message, state):
        out, self.box = self.box, None
        if out is None:
            raise RuntimeError("tau2 asked a participant whose mailbox the driver had not filled")
        return out, state

    def set_seed(self, seed: int) -> None:  # seeds live with the clients
        pass


class MailboxAgent(_Mailbox, getattr(_agent_base, "HalfDuplexAgent", None) or _agent_base.LocalAgent):  # type: ignore[misc]
    """tau2's agent. Only the user can end a conversation, as with tau2's own LLMAgent, unless the driver names a last word."""

    last_word: Any = None

    def __init__(self, domain_policy: str):
        super().__init__(tools=[], domain_policy=domain_policy)

    def get_init_state(self, message_history: list | None = None):
        return list(message_history or [])

    def is_stop(self, message) -> bool:  # type: ignore[override]
        return message is self.last_word


class MailboxUser(_Mailbox, getattr(_user_base, "HalfDuplexUser", None) or _user_base.BaseUser):  # type: ignore[misc]
    """tau2's user; stops on ###STOP###, ###TRANSFER### and ###OUT-OF-SCOPE### as tau2's simulator does."""

    def __init__(self, instructions: str):
        super().__init__(instructions=instructions)

    def get_init_state(self, message_history: list | None = None):
        return _user_base.UserState(system_messages=[], messages=list(message_history or []))

    is_stop = _user_simulator.UserSimulator.is_stop


_MESSAGES = {"assistant": AssistantMessage, "user": UserMessage, "tool": ToolMessage}


def parse_message(message: dict) -> Any:
    """A tau2 message from its JSON."""
    return _MESSAGES[message["role"]].model_validate(message)


def user_tools(environment: Any, task: Any) -> list:
    """The user's tools for a task (adapter: v1.0.x filters by `task.user_tools`); [] where the domain has none."""
    if environment.user_tools is None:
        return []
    include = getattr(task, "user_tools", None)
    tools = environment.get_user_tools()
    return [t for t in tools if include is None or t.name in include]


def user_prompt(instructions: str, with_tools: bool) -> str:
    """tau2's own system prompt for its user simulator."""
    return _user_simulator.UserSimulator(instructions=instructions, llm="none", tools=[] if with_tools else None).system_prompt


def agent_prompt(policy: str) -> str:
    """tau2's own system prompt for its agent."""
    return _llm_agent.SYSTEM_PROMPT.format(agent_instruction=_llm_agent.AGENT_INSTRUCTION, domain_policy=policy)


def check_termination(orchestrator: Any) -> None:
    """End the conversation at max_steps or max_errors, as v1.0.x does (adapter: older copies do it inside `run`).

    max_steps is checked only when nobody waits for a tool result and never overwrites a user's stop; max_errors
    counts all error results, the user's too (the PyPI copy never counts any).
    """
    if HAS_V1_RUNNER:
        orchestrator._check_termination()
        return
    orchestrator.num_errors = sum(1 for m in orchestrator.trajectory if isinstance(m, ToolMessage) and m.error)
    if orchestrator.done or orchestrator.to_role == Role.ENV:
        return
    if orchestrator.step_count >= orchestrator.max_steps:
        orchestrator.done, orchestrator.termination_reason = True, TerminationReason.MAX_STEPS
    if orchestrator.num_errors >= orchestrator.max_errors:
        orchestrator.done, orchestrator.termination_reason = True, TerminationReason.TOO_MANY_ERRORS


def termination_reason(name: str) -> Any:
    """tau2's TerminationReason by value; MAX_STEPS for those a vintage lacks (it scores 0 everywhere)."""
    try:
        return TerminationReason(name)
    except ValueError:
        return TerminationReason.MAX_STEPS


def finalize(orchestrator: Any, started: float) -> Any:
    """The SimulationRun of a finished conversation (adapter: `_finalize` is v1.0.x's)."""
    if HAS_V1_RUNNER:
        return orchestrator._finalize()
    now = _user_base_now()
    return SimulationRun(
        id=str(uuid.uuid4()), task_id=orchestrator.task.id, start_time=now, end_time=now, duration=time.perf_counter() - started,
        termination_reason=orchestrator.termination_reason, messages=orchestrator.get_trajectory(), seed=orchestrator.seed,
        agent_cost=0.0, user_cost=0.0,
    )  # fmt: skip


_user_base_now = _load("utils.utils").get_now

# --- evaluation --------------------------------------------------------------------------------------------------

_judge_answer: contextvars.ContextVar[str | None] = contextvars.ContextVar("tau2_judge_answer", default=None)


@dataclass(frozen=True)
class JudgeRequest:
    """What tau2 asks its judge: chat messages (role, content), and on how many assertions."""

    messages: tuple[dict[str, str], ...]
    assertions: int


class _JudgeAsked(Exception):
    def __init__(self, messages: list):
        super().__init__("tau2 asked its judge")
        self.messages = tuple({"role": m.role, "content": m.content or ""} for m in messages)


def _generate(*args: Any, **options: Any) -> Any:
    """In place of the blocking call to a model in tau2's judge: hands over the answer, or the question."""
    answer = _judge_answer.get()
    if answer is None:
        raise _JudgeAsked(options["messages"] if "messages" in options else args[1])
    return AssistantMessage(role="assistant", content=answer, cost=0.0)


if not hasattr(_nl, "generate"):
    raise BenchDataError(f"{VINTAGE}: the judge of natural-language assertions is not where it was: an unknown vintage")
_nl.generate = _generate


def judge_request(task: Any, messages: list) -> JudgeRequest | None:
    """What tau2's judge must answer before a conversation can be scored; None where the reward basis has nothing to judge."""
    criteria = unjudged(task).evaluation_criteria
    if criteria is None or not criteria.nl_assertions:
        return None
    try:
        NLAssertionsEvaluator.evaluate_nl_assertions(messages, criteria.nl_assertions)
    except _JudgeAsked as asked:
        return JudgeRequest(asked.messages, len(criteria.nl_assertions))
    raise BenchDataError(f"{VINTAGE}: tau2 judged without asking: an unknown vintage")


def with_answer(answer: str | None, call: Callable[[], Any]) -> Any:
    """Run `call`, in which tau2's judge gives `answer`.

    Raises:
        JudgeError: tau2 asks its judge and there is no answer.
    """
    token = _judge_answer.set(answer)
    try:
        return call()
    except _JudgeAsked as asked:
        raise JudgeError("natural-language assertions need a judge and none answered") from asked
    finally:
        _judge_answer.reset(token)


def unjudged(task: Any) -> Any:
    """The task without natural-language assertions where they are not in the reward basis (the PyPI copy always judges)."""
    criteria = task.evaluation_criteria
    if criteria is None or not criteria.nl_assertions or RewardType.NL_ASSERTION in criteria.reward_basis:
        return task
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"nl_assertions": None})})


def action_checks(task: Any, messages: list, tool_types: dict) -> Any:
    """tau2's ActionEvaluator (adapter: v1.0.x takes the tool types)."""
    evaluate = _action.ActionEvaluator.calculate_reward
    try:
        return evaluate(task=task, full_trajectory=messages, tool_types=tool_types)
    except TypeError:
        return evaluate(task=task, full_trajectory=messages)


def evaluate(simulation: Any, task: Any, domain: str, answer: str | None = None) -> Any:
    """tau2's own `evaluate_simulation`, which rebuilds and replays the environment: the reference for `worlds.score`."""
    kind = _evaluator.EvaluationType.ALL
    grade = functools.partial(_evaluator.evaluate_simulation, evaluation_type=kind, solo_mode=False, domain=domain)
    return with_answer(answer, lambda: grade(simulation=simulation, task=unjudged(task)))


# --- guard -------------------------------------------------------------------------------------------------------


def _guarded(function: Callable) -> Callable:
    @functools.wraps(function)
    def calculate(self, expression: str) -> str:
        if guards.refuses(expression):
            raise ValueError(guards.REFUSAL)
        return function(self, expression)

    calculate.__guarded__ = True  # type: ignore[attr-defined]
    return calculate


def guard(toolkit: type) -> None:
    """Wrap `calculate` where a toolkit class or one above it defines it. Idempotent; every environment's class passes here."""
    for cls in toolkit.__mro__:
        own = vars(cls).get("calculate")
        if own is not None and not hasattr(own, "__guarded__"):
            cls.calculate = _guarded(own)  # type: ignore[attr-defined]


def _guard_all(classes: Iterable[type]) -> None:
    for cls in classes:
        guard(cls)
        _guard_all(cls.__subclasses__())


_guard_all([ToolKitBase])
