"""Who takes part in tau2's conversations, what they are told, and how a conversation ends."""

from __future__ import annotations

import functools
import time
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from slime_tau2.bench.tau2 import (
    HAS_V1_RUNNER,
    AssistantMessage,
    Delivered,
    Environment,
    Message,
    Orchestrator,
    Role,
    SimulationRun,
    Spoken,
    Task,
    TerminationReason,
    Tool,
    ToolMessage,
    UserMessage,
    load,
)
from slime_tau2.terminations import UNNAMED

_agent_base, _user_base = load("agent.base_agent", "agent.base"), load("user.user_simulator_base", "user.base")
_user_simulator, _llm_agent = load("user.user_simulator"), load("agent.llm_agent")

if TYPE_CHECKING:

    class _Agent:
        def __init__(self, tools: list[Tool], domain_policy: str) -> None: ...

    class _User:
        def __init__(self, instructions: str) -> None: ...
else:
    _Agent = getattr(_agent_base, "HalfDuplexAgent", None) or _agent_base.LocalAgent
    _User = getattr(_user_base, "HalfDuplexUser", None) or _user_base.BaseUser


class _Mailbox:
    """Hands tau2 the message that the driver awaited beforehand."""

    box: Spoken | None = None

    def generate_next_message(self, message: Delivered, state: Any) -> tuple[Spoken, Any]:
        reply = self.box
        self.box = None
        if reply is None:
            raise RuntimeError("tau2 asked a participant whose mailbox the driver had not filled")
        return reply, state

    def set_seed(self, seed: int) -> None:  # seeds live with the clients
        pass


class MailboxAgent(_Mailbox, _Agent):
    """tau2's agent. It ends a conversation only with the message that the driver names as its `last_word`; without one
    only the user can, as with tau2's own LLMAgent.
    """

    last_word: AssistantMessage | None = None

    def __init__(self, domain_policy: str):
        super().__init__(tools=[], domain_policy=domain_policy)

    def get_init_state(self, message_history: list[Message] | None = None) -> list[Message]:
        return list(message_history or [])

    def is_stop(self, message: AssistantMessage) -> bool:
        return message is self.last_word


class MailboxUser(_Mailbox, _User):
    """tau2's user; stops on ###STOP###, ###TRANSFER### and ###OUT-OF-SCOPE### as tau2's simulator does."""

    def __init__(self, instructions: str):
        super().__init__(instructions=instructions)

    def get_init_state(self, message_history: list[Message] | None = None) -> Any:
        return _user_base.UserState(system_messages=[], messages=list(message_history or []))

    is_stop = _user_simulator.UserSimulator.is_stop


_MESSAGES: dict[str, type[Message]] = {"assistant": AssistantMessage, "user": UserMessage, "tool": ToolMessage}


def parse_message(message: dict[str, Any]) -> Message:
    """A tau2 message from its JSON."""
    return _MESSAGES[message["role"]].model_validate(message)


def user_tools(environment: Environment, task: Task) -> list[Tool]:
    """The user's tools for a task (adapter: v1.0.x filters by `task.user_tools`); [] where the domain has none."""
    if environment.user_tools is None:
        return []
    include = getattr(task, "user_tools", None)
    tools = environment.get_user_tools()
    return [t for t in tools if include is None or t.name in include]


@functools.lru_cache(maxsize=1024)
def user_prompt(instructions: str, with_tools: bool) -> str:
    """tau2's own system prompt for its user simulator. Remembered: the samples of a group have one scenario."""
    tools: list[Tool] | None = [] if with_tools else None
    simulator = _user_simulator.UserSimulator(instructions=instructions, llm="none", tools=tools)
    return str(simulator.system_prompt)


def agent_prompt(policy: str) -> str:
    """tau2's own system prompt for its agent."""
    template: str = _llm_agent.SYSTEM_PROMPT
    return template.format(agent_instruction=_llm_agent.AGENT_INSTRUCTION, domain_policy=policy)


def check_termination(orchestrator: Orchestrator[Any, Any]) -> None:
    """End the conversation at max_steps or max_errors, as v1.0.x does (adapter: older copies do it inside `run`).

    max_steps is checked only when nobody waits for a tool result and never overwrites a user's stop; max_errors
    counts all error results, the user's too (the PyPI copy never counts any).
    """
    if HAS_V1_RUNNER:
        orchestrator._check_termination()  # type: ignore[attr-defined]
        return
    if orchestrator.done or orchestrator.to_role == Role.ENV:
        return
    orchestrator.num_errors = sum(1 for m in orchestrator.trajectory if isinstance(m, ToolMessage) and m.error)
    if orchestrator.step_count >= orchestrator.max_steps:
        orchestrator.done = True
        orchestrator.termination_reason = TerminationReason.MAX_STEPS
    if orchestrator.num_errors >= orchestrator.max_errors:
        orchestrator.done = True
        orchestrator.termination_reason = TerminationReason.TOO_MANY_ERRORS


def termination_reason(name: str) -> TerminationReason:
    """tau2's TerminationReason by value; for those that a vintage lacks, what an unnamed ending is exported as."""
    try:
        return TerminationReason(name)
    except ValueError:
        return TerminationReason(UNNAMED)


def finalize(orchestrator: Orchestrator[Any, Any], started: float) -> SimulationRun:
    """The SimulationRun of a finished conversation that began at `started` (`time.perf_counter`).

    Adapter: v1.0.x's `_finalize` counts on a clock that only v1.0.x's `run` starts; here it is set from `started`.
    """
    if HAS_V1_RUNNER:
        return _finalize_v1(orchestrator, started)
    now = load("utils.utils").get_now()
    return SimulationRun(
        id=str(uuid.uuid4()),
        task_id=orchestrator.task.id,
        start_time=now,
        end_time=now,
        duration=time.perf_counter() - started,
        termination_reason=orchestrator.termination_reason,
        messages=orchestrator.get_trajectory(),
        seed=orchestrator.seed,
        agent_cost=0.0,
        user_cost=0.0,
    )


def _finalize_v1(orchestrator: Any, started: float) -> SimulationRun:
    if getattr(orchestrator, "_run_start_perf", None) is None:
        begun = datetime.now() - timedelta(seconds=time.perf_counter() - started)
        orchestrator._run_start_perf = started
        orchestrator._run_start_time = begun.isoformat()
    run: SimulationRun = orchestrator._finalize()
    return run
