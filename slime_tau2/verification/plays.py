"""Plays: calls made and words said in a task, and what tau2 gives for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from slime_tau2 import bench
from slime_tau2.episode.world import Stage, World


class Step(Protocol):
    """One call: tau2's Action, and whatever else has a name, arguments and a requestor."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...
    @property
    def requestor(self) -> Literal["user", "assistant"]: ...


@dataclass(frozen=True)
class Made:
    """One call that is made up."""

    name: str
    arguments: Mapping[str, Any]
    requestor: Literal["user", "assistant"] = "assistant"


@dataclass(frozen=True)
class Play:
    """What a play led to.

    Attributes:
        environment: where the calls left it.
        messages: the conversation, results included.
        errs: whether each call's result was an error.
    """

    environment: bench.Environment
    messages: list[bench.Message]
    errs: list[bool]


class Scene:
    """Where one task is played: it begins anew as often as asked."""

    def __init__(self, stage: Stage, task: bench.Task):
        self.stage, self.task = stage, task
        state = task.initial_state
        self.history: list[bench.Message] = list((state.message_history if state else None) or [])
        self._kept: bytes | None = None

    def start(self) -> bench.Environment:
        """An environment where the task begins."""
        if self._kept is not None:
            return self.stage.environments.restore(self._kept)
        environment, state = self.stage.environments.fresh(self.task), self.task.initial_state
        environment.set_state(
            initialization_data=state.initialization_data if state else None,
            initialization_actions=state.initialization_actions if state else None,
            message_history=self.history,
        )
        if state is not None:
            self._kept = self.stage.environments.keep(environment)
        return environment

    def play(self, calls: Iterable[Step], words: Sequence[str] = ()) -> Play:
        """A conversation in which these calls are made and these words are said by the agent.

        A call that fails is an error result, as in any conversation.
        """
        return _play(self.start(), list(self.history), calls, words)

    def grade(self, played: Play) -> bench.RewardInfo:
        """What tau2 gives for a play; nothing where an assertion raises, because what it asks about is not there."""
        criteria = self.task.evaluation_criteria
        try:
            return self.stage.grader.score(self.task, played.environment, played.messages, "user_stop")
        except Exception:
            if criteria is None or not criteria.env_assertions:
                raise
            kind = bench.RewardType.ENV_ASSERTION
            return bench.RewardInfo(reward=0.0, reward_basis=criteria.reward_basis, reward_breakdown={kind: 0.0})

    def reward(self, calls: Iterable[Step], words: Sequence[str] = ()) -> float:
        """What tau2 gives for these calls and words."""
        return float(self.grade(self.play(calls, words)).reward)


def _play(
    environment: bench.Environment, messages: list[bench.Message], calls: Iterable[Step], words: Sequence[str]
) -> Play:
    """A conversation that goes on from these messages, in this environment."""
    errs: list[bool] = []
    for number, call in enumerate(calls, len(messages)):
        made = tool_call(call, number)
        if call.requestor == "user":
            messages.append(bench.UserMessage(role="user", content=None, tool_calls=[made]))
        else:
            messages.append(bench.AssistantMessage(role="assistant", content=None, tool_calls=[made]))
        result = environment.get_response(made)
        messages.append(result)
        errs.append(result.error)
    messages += [bench.AssistantMessage(role="assistant", content=text) for text in words]
    messages.append(bench.UserMessage(role="user", content=bench.STOP))
    return Play(environment, messages, errs)


class Fork:
    """A conversation that goes on in several ways after the same calls."""

    def __init__(self, scene: Scene, calls: Sequence[Step]):
        self.scene, self.calls = scene, calls
        self.trunk = scene.play(calls)
        self._kept = scene.stage.environments.keep(self.trunk.environment)

    def play(self, calls: Sequence[Step], words: Sequence[str] = ()) -> Play:
        """Its calls, then these; its errors are those of these alone."""
        if self._kept is None:
            played = self.scene.play([*self.calls, *calls], words)
            return Play(played.environment, played.messages, played.errs[len(self.calls) :])
        environment = self.scene.stage.environments.restore(self._kept)
        return _play(environment, self.trunk.messages[:-1], calls, words)


def tool_call(call: Step, number: int = 0) -> bench.ToolCall:
    """tau2's call of a step, whose arguments nothing else shares."""
    arguments = json.loads(json.dumps(dict(call.arguments)))
    return bench.ToolCall(id=str(number), name=call.name, arguments=arguments, requestor=call.requestor)


def reward(world: World, task: bench.Task, calls: Iterable[Step], words: Sequence[str] = ()) -> float:
    """What tau2 gives for a conversation of these calls and words in a task of a world."""
    return Scene(world.stage(task), task).reward(calls, words)
