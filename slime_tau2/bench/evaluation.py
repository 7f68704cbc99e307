"""tau2's own evaluators, without their judge's call to a model: a caller asks the judge first and brings its answer."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from slime_tau2.bench.environments import EnvironmentSpec
from slime_tau2.bench.knowledge import environment_options
from slime_tau2.bench.tau2 import (
    VINTAGE,
    AssistantMessage,
    Message,
    RewardInfo,
    RewardType,
    SimulationRun,
    Task,
    ToolType,
    load,
)
from slime_tau2.errors import BenchDataError, JudgeError

if TYPE_CHECKING:
    from slime_tau2.bench.shapes import Evaluator, NLEvaluator

_evaluator, _action = load("evaluator.evaluator"), load("evaluator.evaluator_action")
_nl = load("evaluator.evaluator_nl_assertions")
CommunicateEvaluator: Evaluator = load("evaluator.evaluator_communicate").CommunicateEvaluator
NLAssertionsEvaluator: NLEvaluator = _nl.NLAssertionsEvaluator
_Result = TypeVar("_Result")

_judge_answer: contextvars.ContextVar[str | None] = contextvars.ContextVar("tau2_judge_answer", default=None)


@dataclass(frozen=True)
class JudgeRequest:
    """What tau2 asks its judge: chat messages (role, content), and on how many assertions."""

    messages: tuple[dict[str, str], ...]
    assertions: int


class _JudgeAsked(Exception):
    def __init__(self, messages: Sequence[Any]):
        super().__init__("tau2 asked its judge")
        self.messages = tuple({"role": m.role, "content": m.content or ""} for m in messages)


def _generate(*args: Any, **options: Any) -> Any:
    """In place of the blocking call to a model in tau2's judge: hands over the answer, or the question."""
    answer = _judge_answer.get()
    if answer is None:
        raise _JudgeAsked(options["messages"] if "messages" in options else args[1])
    return AssistantMessage(role="assistant", content=answer, cost=0.0)


def take_over_judge() -> None:
    """Put `_generate` in the place of the judge's call to a model.

    Raises:
        BenchDataError: the call is not where every known vintage has it.
    """
    if not hasattr(_nl, "generate"):
        raise BenchDataError(
            f"{VINTAGE}: the judge of natural-language assertions is not where it was: an unknown vintage"
        )
    _nl.generate = _generate


def judge_request(task: Task, messages: Sequence[Message]) -> JudgeRequest | None:
    """What tau2's judge must answer before a conversation can be scored; None where nothing needs a judge."""
    criteria = unjudged(task).evaluation_criteria
    if criteria is None or not criteria.nl_assertions:
        return None
    try:
        NLAssertionsEvaluator.evaluate_nl_assertions(messages, criteria.nl_assertions)
    except _JudgeAsked as asked:
        return JudgeRequest(asked.messages, len(criteria.nl_assertions))
    raise BenchDataError(f"{VINTAGE}: tau2 judged without asking: an unknown vintage")


def with_answer(answer: str | None, call: Callable[[], _Result]) -> _Result:
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


def unjudged(task: Task) -> Task:
    """The task without natural-language assertions where the reward basis has none (the PyPI copy always judges)."""
    criteria = task.evaluation_criteria
    if criteria is None or not criteria.nl_assertions or RewardType.NL_ASSERTION in criteria.reward_basis:
        return task
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"nl_assertions": None})})


_TAKES_TYPES = "tool_types" in inspect.signature(_action.ActionEvaluator.calculate_reward).parameters


def action_checks(task: Task, messages: Sequence[Message], tool_types: dict[str, ToolType]) -> RewardInfo:
    """tau2's ActionEvaluator (adapter: v1.0.x takes the tool types)."""
    calculate: Callable[..., RewardInfo] = _action.ActionEvaluator.calculate_reward
    types = {"tool_types": tool_types} if _TAKES_TYPES else {}
    return calculate(task=task, full_trajectory=messages, **types)


def evaluate(simulation: SimulationRun, task: Task, spec: EnvironmentSpec, answer: str | None = None) -> RewardInfo:
    """tau2's own `evaluate_simulation`, which rebuilds and replays the environment.

    It is what `episode.grading.Grader.score` must equal.

    Args:
        answer: the judge's, to what `judge_request` asks.

    Raises:
        JudgeError: tau2 asks its judge and there is no answer.
    """
    grade: Callable[..., RewardInfo] = functools.partial(
        _evaluator.evaluate_simulation,
        evaluation_type=_evaluator.EvaluationType.ALL,
        solo_mode=False,
        domain=spec.registered(),
    )
    options = environment_options(spec, task)
    if options:
        grade = functools.partial(grade, env_kwargs=options)
    return with_answer(answer, lambda: grade(simulation=simulation, task=unjudged(task)))
