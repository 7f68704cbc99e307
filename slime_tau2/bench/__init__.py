"""tau2-bench, as the rest of this package sees it.

Three vintages will do: tau2 v1.0.x, the model card's pin (commit 337326e), and the v0.1 copy that PyPI carries as
`vendor.tau2`; `VINTAGE` says which one was found. `bench.Task` and its like are tau2's classes at run time, and the
types of `shapes.py` for mypy.

Invariant: a caller cannot tell the vintages apart. Where one lacks what v1.0.x has, one adapter function supplies it:
`load_tasks`, `register_domain` (tasks.py), `user_tools`, `check_termination`, `finalize` (orchestration.py),
`evaluate`, `action_checks` (evaluation.py). `build_environment` (knowledge.py) knows the options of the one domain that
has any, lean.py leaves out of tau2's steps what nobody reads. Only tau2.py imports tau2; its docstring lists the
effects of importing this package.
"""

from slime_tau2.bench.calculator import guard, guard_all
from slime_tau2.bench.environments import Database, EnvironmentSpec
from slime_tau2.bench.evaluation import (
    CommunicateEvaluator,
    JudgeRequest,
    NLAssertionsEvaluator,
    action_checks,
    evaluate,
    judge_request,
    take_over_judge,
    unjudged,
    with_answer,
)
from slime_tau2.bench.knowledge import (
    DEFAULT_RETRIEVAL,
    KNOWLEDGE,
    LEAST_RETRIEVAL,
    build_environment,
    environment_options,
    may_share,
    own_sandbox,
    policy_by_task,
    suit,
    task_policy,
)
from slime_tau2.bench.lean import LeanOrchestrator, answers, bind_tools, release_tools
from slime_tau2.bench.orchestration import (
    MailboxAgent,
    MailboxUser,
    agent_prompt,
    check_termination,
    finalize,
    parse_message,
    termination_reason,
    user_prompt,
    user_tools,
)
from slime_tau2.bench.tasks import (
    canonical_sha256,
    check_domain,
    load_tasks,
    own_database_sha256,
    own_databases,
    register_domain,
    task_splits,
    tasks_sha256,
)
from slime_tau2.bench.tau2 import (
    DB,
    GREETING,
    HAS_V1_RUNNER,
    STOP,
    TRANSFER,
    VINTAGE,
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
    InitializationData,
    InitialState,
    Message,
    MultiToolMessage,
    NLAssertionCheck,
    Orchestrator,
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
    get_tool_types,
    is_tool,
    load,
    registry,
    writing_tools,
)

guard_all()
take_over_judge()
