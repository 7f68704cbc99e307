"""What this package uses of tau2's classes, written down for type checkers.

tau2 is found at run time, in one of three vintages, so mypy cannot see it. `bench/tau2.py` binds each name to tau2's
own class at run time and to the class of the same name here under TYPE_CHECKING: `bench.Task` is tau2's Task, and a
type. Nothing here is ever instantiated. `tests/test_bench.py` compares every shape with the class of the installed
vintage.

A shape names only what all three vintages have; what one of them adds is read with `getattr` by an adapter in `bench`.
Where tau2 says Optional of something that every domain has (an environment's tools), the shape says that it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from pydantic import BaseModel

Requestor: TypeAlias = Literal["user", "assistant"]
"""Who calls a tool: the user or the agent."""


# Messages


class ToolCall(BaseModel):
    """One call of a tool. `id` links it with its ToolMessage."""

    id: str = ""
    name: str
    arguments: dict[str, Any]
    requestor: Requestor = "assistant"


class _Spoken(BaseModel):
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    turn_idx: int | None = None
    timestamp: str | None = None
    cost: float | None = None
    usage: dict[str, Any] | None = None
    raw_data: dict[str, Any] | None = None

    def has_text_content(self) -> bool:
        """Whether there is text other than white space."""
        raise NotImplementedError

    def is_tool_call(self) -> bool:
        """Whether `tool_calls` is not None."""
        raise NotImplementedError


class AssistantMessage(_Spoken):
    """What the agent says or calls."""

    role: Literal["assistant"]


class UserMessage(_Spoken):
    """What the user says or calls."""

    role: Literal["user"]


class ToolMessage(BaseModel):
    """The result of one tool call; `id` is the call's."""

    id: str
    role: Literal["tool"]
    content: str | None = None
    requestor: Requestor = "assistant"
    error: bool = False
    turn_idx: int | None = None
    timestamp: str | None = None


class MultiToolMessage(BaseModel):
    """The results of several calls of one message, as a participant is handed them; a trajectory holds them singly."""

    role: Literal["tool"]
    tool_messages: list[ToolMessage]


Spoken: TypeAlias = AssistantMessage | UserMessage
"""What a participant says."""
Message: TypeAlias = AssistantMessage | UserMessage | ToolMessage
"""What a trajectory holds."""
Delivered: TypeAlias = AssistantMessage | UserMessage | ToolMessage | MultiToolMessage
"""What a participant is handed on its turn."""


# Tasks


class RewardType(str, Enum):
    """What a reward can be a product of."""

    DB = "DB"
    ENV_ASSERTION = "ENV_ASSERTION"
    NL_ASSERTION = "NL_ASSERTION"
    ACTION = "ACTION"
    COMMUNICATE = "COMMUNICATE"


class StructuredUserInstructions(BaseModel):
    """What the simulated user is told, in parts."""

    domain: str
    reason_for_call: str
    known_info: str | None = None
    unknown_info: str | None = None
    task_instructions: str


class UserScenario(BaseModel):
    """Who the simulated user is and what it wants; `str()` of it is the user's prompt."""

    persona: str | None = None
    instructions: StructuredUserInstructions | str


class Description(BaseModel):
    """What a task is for; nobody in the conversation sees it."""

    purpose: str | None = None
    relevant_policies: str | None = None
    notes: str | None = None


class Action(BaseModel):
    """One gold call. `compare_args` names the arguments that tau2 compares; None: those that the call has."""

    action_id: str
    requestor: Requestor = "assistant"
    name: str
    arguments: dict[str, Any]
    info: str | None = None
    compare_args: list[str] | None = None

    def compare_with_tool_call(self, tool_call: ToolCall) -> bool:
        """Whether tau2 takes a call for this action; it does not look at the requestor."""
        raise NotImplementedError


class EnvFunctionCall(BaseModel):
    """A call of a toolkit's method, whether it is a tool or not."""

    env_type: Requestor
    func_name: str
    arguments: dict[str, Any]


class EnvAssertion(EnvFunctionCall):
    """A method that must return `assert_value` at the end."""

    assert_value: bool = True
    message: str | None = None


class InitializationData(BaseModel):
    """What is written into the databases before a conversation."""

    agent_data: dict[str, Any] | None = None
    user_data: dict[str, Any] | None = None


class InitialState(BaseModel):
    """What has happened before a task begins."""

    initialization_data: InitializationData | None = None
    initialization_actions: list[EnvFunctionCall] | None = None
    message_history: list[Message] | None = None


class EvaluationCriteria(BaseModel):
    """What a conversation is graded by; `reward_basis` says which parts count."""

    actions: list[Action] | None = None
    env_assertions: list[EnvAssertion] | None = None
    communicate_info: list[str] | None = None
    nl_assertions: list[str] | None = None
    reward_basis: list[RewardType] = [RewardType.DB, RewardType.COMMUNICATE]


class Task(BaseModel):
    """One task of a domain."""

    id: str
    description: Description | None = None
    user_scenario: UserScenario
    ticket: str | None = None
    initial_state: InitialState | None = None
    evaluation_criteria: EvaluationCriteria | None = None


# Environments


class ToolType(str, Enum):
    """What a tool does to its database."""

    READ = "read"
    WRITE = "write"
    THINK = "think"
    GENERIC = "generic"


class Tool:
    """A tool as a model is told of it."""

    name: str

    @property
    def openai_schema(self) -> dict[str, Any]:
        """{"type": "function", "function": {name, description, parameters}}."""
        raise NotImplementedError


class DB(BaseModel):
    """Base class of a domain's databases."""

    @classmethod
    def load(cls, path: str) -> Self:
        """An instance of the class from a JSON or TOML file."""
        raise NotImplementedError

    def get_hash(self) -> str:
        """Hash of the whole content."""
        raise NotImplementedError


class ToolKitBase:
    """Base class of toolkits: tools, env assertions and initialisation methods over one database."""

    db: Any  # a subclass of DB, which each toolkit names for itself; None where there is none

    def __init__(self, db: Any = None) -> None: ...

    def use_tool(self, tool_name: str, **kwargs: Any) -> Any:
        """Call a tool by name."""
        raise NotImplementedError

    def get_tools(self) -> dict[str, Tool]:
        """{name: tool}."""
        raise NotImplementedError

    def has_tool(self, tool_name: str) -> bool:
        """Whether there is a tool of that name."""
        raise NotImplementedError

    def update_db(self, update_data: dict[str, Any] | None = None) -> None:
        """Merge data into the database, which is replaced by a new object."""
        raise NotImplementedError

    def get_db_hash(self) -> str:
        """Hash of the database's whole content."""
        raise NotImplementedError


class Environment:
    """A domain's policy, tools and databases. `user_tools` is None where the user has no tools."""

    domain_name: str
    policy: str
    tools: ToolKitBase
    user_tools: ToolKitBase | None
    solo_mode: bool

    def __init__(
        self,
        domain_name: str,
        policy: str,
        tools: ToolKitBase | None = None,
        user_tools: ToolKitBase | None = None,
        solo_mode: bool = False,
    ) -> None: ...

    def get_policy(self) -> str:
        """The agent's policy."""
        raise NotImplementedError

    @classmethod
    def to_json_str(cls, resp: Any) -> str:
        """What a tool returned, as the agent reads it."""
        raise NotImplementedError

    def get_info(self) -> EnvironmentInfo:
        """What a results file says of it."""
        raise NotImplementedError

    def get_tools(self) -> list[Tool]:
        """The agent's tools."""
        raise NotImplementedError

    def get_user_tools(self) -> list[Tool]:
        """The user's tools; raises ValueError where the user has none."""
        raise NotImplementedError

    def make_tool_call(self, tool_name: str, requestor: Requestor = "assistant", **kwargs: Any) -> Any:
        """Call a tool as tau2's evaluator does: no `sync_tools`, and what the tool raises is raised."""
        raise NotImplementedError

    def get_response(self, message: ToolCall) -> ToolMessage:
        """Call a tool as the orchestrator does; what the tool raises comes back as a message with `error`."""
        raise NotImplementedError

    def sync_tools(self) -> None:
        """Bring the two databases in line after a change."""
        raise NotImplementedError

    def run_env_function_call(self, env_function_call: EnvFunctionCall) -> Any:
        """Call any method of a toolkit."""
        raise NotImplementedError

    def run_env_assertion(self, assertion: EnvAssertion, raise_assertion_error: bool = True) -> bool:
        """Whether an assertion holds."""
        raise NotImplementedError

    def get_db_hash(self) -> str | None:
        """Hash of the agent's database."""
        raise NotImplementedError

    def get_user_db_hash(self) -> str | None:
        """Hash of the user's database; None where there is none."""
        raise NotImplementedError

    def set_state(
        self,
        initialization_data: InitializationData | None,
        initialization_actions: Sequence[EnvFunctionCall] | None,
        message_history: Sequence[Message],
        **options: Any,
    ) -> None:
        """Bring the environment to where a task begins; replays the calls of `message_history`.

        `options` are v1.0.x's; older copies have none.
        """
        raise NotImplementedError


_Function = TypeVar("_Function", bound=Callable[..., Any])


class IsTool(Protocol):
    """`is_tool(tool_type)` marks a method as a tool."""

    def __call__(self, tool_type: ToolType = ToolType.READ) -> Callable[[_Function], _Function]: ...


class GetToolTypes(Protocol):
    """`get_tool_types(toolkit)` is {name: type}."""

    def __call__(self, tools: ToolKitBase) -> dict[str, ToolType]: ...


class Registry(Protocol):
    """tau2's registry of domains and task sets."""

    def get_domains(self) -> list[str]: ...

    def get_task_sets(self) -> list[str]: ...

    def get_env_constructor(self, name: str) -> Callable[..., Environment]: ...

    def get_tasks_loader(self, name: str) -> Callable[..., list[Task]]: ...

    def register_domain(self, get_environment: Callable[..., Environment], name: str) -> None: ...

    def register_tasks(self, get_tasks: Callable[..., list[Task]], name: str) -> None: ...


# Conversations


class Role(str, Enum):
    """Who speaks, or is spoken to."""

    AGENT = "agent"
    USER = "user"
    ENV = "env"


class TerminationReason(str, Enum):
    """How a conversation ended. v1.0.x has more (`termination_reason`)."""

    USER_STOP = "user_stop"
    AGENT_STOP = "agent_stop"
    MAX_STEPS = "max_steps"
    TOO_MANY_ERRORS = "too_many_errors"


class UserState(BaseModel):
    """What a user has said and heard."""

    messages: list[Message]


_Agent = TypeVar("_Agent")
_User = TypeVar("_User")


class Orchestrator(Generic[_Agent, _User]):
    """Passes messages between agent, user and environment, one per `step()`."""

    domain: str
    agent: _Agent
    user: _User
    environment: Environment
    task: Task
    seed: int | None
    user_state: UserState
    trajectory: list[Message]
    max_steps: int
    max_errors: int
    step_count: int
    num_errors: int
    done: bool
    termination_reason: TerminationReason
    to_role: Role
    message: Delivered

    def __init__(
        self,
        domain: str,
        agent: _Agent,
        user: _User,
        environment: Environment,
        task: Task,
        max_steps: int = 100,
        max_errors: int = 10,
        seed: int | None = None,
        solo_mode: bool = False,
    ) -> None: ...

    def initialize(self) -> None:
        """Bring environment and participants to where the task begins; the agent greets."""
        raise NotImplementedError

    def step(self) -> None:
        """Hand the pending message to whom it is for, and take the answer."""
        raise NotImplementedError

    def get_trajectory(self) -> list[Message]:
        """All messages by time, numbered."""
        raise NotImplementedError


# Results


class DBCheck(BaseModel):
    """Whether the databases are in the gold end state."""

    db_match: bool
    db_reward: float


class ActionCheck(BaseModel):
    """Whether a gold call was made."""

    action: Action
    action_match: bool
    action_reward: float


class EnvAssertionCheck(BaseModel):
    """Whether an env assertion holds at the end."""

    env_assertion: EnvAssertion
    met: bool
    reward: float


class CommunicateCheck(BaseModel):
    """Whether the user was told something."""

    info: str
    met: bool
    justification: str


class NLAssertionCheck(BaseModel):
    """What the judge says of a natural-language assertion."""

    nl_assertion: str
    met: bool
    justification: str


class RewardInfo(BaseModel):
    """tau2's score of a conversation and all that it is made from."""

    reward: float
    db_check: DBCheck | None = None
    env_assertions: list[EnvAssertionCheck] | None = None
    action_checks: list[ActionCheck] | None = None
    nl_assertions: list[NLAssertionCheck] | None = None
    communicate_checks: list[CommunicateCheck] | None = None
    reward_basis: list[RewardType] | None = None
    reward_breakdown: dict[RewardType, float] | None = None
    info: dict[str, Any] | None = None


class SimulationRun(BaseModel):
    """A conversation that has ended. Times are ISO 8601, `duration` is in seconds."""

    id: str
    task_id: str
    timestamp: str = ""
    start_time: str
    end_time: str
    duration: float
    termination_reason: TerminationReason
    agent_cost: float | None = None
    user_cost: float | None = None
    reward_info: RewardInfo | None = None
    messages: list[Message]
    trial: int | None = None
    seed: int | None = None


class AgentInfo(BaseModel):
    """Which agent a run had."""

    implementation: str
    llm: str | None = None
    llm_args: dict[str, Any] | None = None


class UserInfo(BaseModel):
    """Which user a run had."""

    implementation: str
    llm: str | None = None
    llm_args: dict[str, Any] | None = None
    global_simulation_guidelines: str | None = None


class EnvironmentInfo(BaseModel):
    """Which domain a run is of."""

    domain_name: str
    policy: str


class ResultsInfo(BaseModel):
    """What a results file says of its run (tau2 calls the class Info)."""

    git_commit: str
    num_trials: int
    max_steps: int
    max_errors: int
    user_info: UserInfo
    agent_info: AgentInfo
    environment_info: EnvironmentInfo
    seed: int | None = None


class Results(BaseModel):
    """tau2's results file: a run, its tasks and its conversations."""

    timestamp: str | None = None
    info: ResultsInfo
    tasks: list[Task]
    simulations: list[SimulationRun]


class Evaluator(Protocol):
    """One of tau2's evaluators, called as a class: a RewardInfo with that part alone."""

    def calculate_reward(self, task: Task, full_trajectory: Sequence[Message]) -> RewardInfo: ...


class NLEvaluator(Evaluator, Protocol):
    """The evaluator that asks a judge."""

    def evaluate_nl_assertions(
        self, trajectory: Sequence[Message], nl_assertions: Sequence[str]
    ) -> list[NLAssertionCheck]: ...
