"""One conversation under tau2's own Orchestrator: who speaks next is awaited first, then tau2 takes the step.

Before each `step()` it looks at `to_role`, awaits that participant, and puts the message in a mailbox, from which
`step()` takes it. No threads, no copy of tau2's turn logic, nothing that blocks the loop (invariant 6). Failures are
raised; `driver` makes Terminations of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from slime_tau2 import bench
from slime_tau2.episode.agents import Agent, AgentAction
from slime_tau2.episode.call_watch import CallWatch
from slime_tau2.episode.judge import Judge
from slime_tau2.episode.official import OfficialCheck
from slime_tau2.episode.turnstile import turnstile
from slime_tau2.episode.user_errors import stopped_after_confirming
from slime_tau2.episode.users import User
from slime_tau2.episode.world import World
from slime_tau2.errors import JudgeError
from slime_tau2.limits import Limits
from slime_tau2.record import MessageRecord, RewardInfoRecord
from slime_tau2.terminations import Termination
from slime_tau2.types import CallGain, Episode, Outcome, TaskRef, Turn

_Spoken = TypeVar("_Spoken", bench.AssistantMessage, bench.UserMessage)


def unplayed(world: World, task: bench.Task, seed: int) -> Episode:
    """The episode of a task before anything has happened: ENVIRONMENT_ERROR, until something else ends it."""
    return Episode(
        task=TaskRef(world.name, task.id),
        seed=seed,
        termination=Termination.ENVIRONMENT_ERROR,
        outcome=None,
        provenance=world.provenance(task),
    )


class Conversation:
    """One conversation, in four stages: `begin`, `converse`, `score`, `close`. What each learns goes into `episode`.

    To make one builds tau2's environment and orchestrator and plays the task's gold actions: a task that tau2 cannot
    run raises here.
    """

    def __init__(
        self,
        *,
        world: World,
        task: bench.Task,
        agent: Agent,
        user: User,
        episode: Episode,
        limits: Limits = Limits(),
        aborted: Callable[[], bool] = lambda: False,
        prefix: Sequence[MessageRecord] = (),
    ):
        self.world = world
        self.task = task
        self.agent = agent
        self.user = user
        self.aborted = aborted
        self.prefix = [message for message in prefix if message["role"] != "tool"]
        self.episode = episode
        self.stage = world.stage(task)
        self.scorer = self.stage.grader.scorer(task)
        self.environment = self.stage.environments.fresh(task)
        self.orchestrator = bench.LeanOrchestrator(
            domain=world.domain,
            agent=bench.MailboxAgent(self.environment.get_policy()),
            user=bench.MailboxUser(world.scenario(task)),
            environment=self.environment,
            task=task,
            max_steps=limits.max_steps,
            max_errors=limits.max_errors,
        )
        self.watch = CallWatch(self.stage.grader, task, self.environment, self.scorer)
        self._observed = 0  # messages of the trajectory that were looked at
        self._called = 0  # calls that were given an id
        self._open: AgentAction | None = None  # the agent's last turn, until what follows from it has happened
        self._turn_errors = 0
        self._earned_before = 0.0

    # Stage 1

    def begin(self) -> None:
        """Let tau2 say what comes first, play the prefix, and tell the user who it is and what it has heard."""
        self.orchestrator.initialize()
        self._observed = self.length()  # a task may begin in the middle of a conversation: nothing of it is earned
        self.scorer.start(self.stage.grader.assertions_met(self.task, self.environment))
        self.watch.begin()
        history = [*self.orchestrator.user_state.messages, *self._play_prefix()]
        self.user.start(self.world, self.task, self.environment, history, self.episode.seed)

    def _play_prefix(self) -> list[bench.Message]:
        """Play the prefix; returns what the user has said and heard in it."""
        if not self.prefix:
            return []
        start = self.length()
        for recorded in self.prefix:
            self._step_environment()
            self._play(recorded)
        self._step_environment()
        self._score_assertions()
        self._earned_before = self._partial()
        self.watch.take()
        return [m for m in self.orchestrator.trajectory[start:] if _concerns_user(m)]

    def _play(self, recorded: MessageRecord) -> None:
        """Let agent or user say again what it said."""
        orchestrator = self.orchestrator
        awaited = bench.Role.AGENT if recorded["role"] == "assistant" else bench.Role.USER
        if orchestrator.to_role != awaited or orchestrator.done:
            raise ValueError(f"the prefix has {recorded['role']} speak where tau2 awaits {orchestrator.to_role.value}")
        # tau2 sorts by time, and this is said now
        message = bench.parse_message({k: v for k, v in recorded.items() if k not in ("timestamp", "turn_idx")})
        if isinstance(message, bench.AssistantMessage):
            orchestrator.agent.box = self._identified(message, "assistant")
        elif isinstance(message, bench.UserMessage):
            orchestrator.user.box = self._identified(message, "user")
        self._step()

    def _step_environment(self) -> None:
        while self.orchestrator.to_role == bench.Role.ENV:
            self._step()

    # Stage 2

    async def converse(self) -> None:
        """Turn by turn, until tau2, the agent or a limit ends the conversation."""
        try:
            while not self.orchestrator.done:
                await turnstile()
                if self.orchestrator.to_role == bench.Role.AGENT:
                    self._close_turn()
                    if self.aborted():
                        self._end(Termination.ABORTED, "the rollout was aborted")
                        return
                    action = await self._agent_turn()
                    if action.termination is not None:
                        self._end(action.termination, action.detail)
                        return
                elif self.orchestrator.to_role == bench.Role.USER:
                    await self._user_turn()
                self._step()
                bench.check_termination(self.orchestrator)
            self._end(Termination(self.orchestrator.termination_reason.value), "")
        finally:
            self._close_turn()  # a failure of the user must not lose the turn that it should have answered

    async def _agent_turn(self) -> AgentAction:
        orchestrator, episode = self.orchestrator, self.episode
        clock = time.perf_counter()
        action = await self.agent.act(orchestrator.trajectory, orchestrator.message)
        episode.policy_s += time.perf_counter() - clock
        episode.weight_versions += action.weight_versions
        episode.replies += [replace(reply, turn=len(episode.turns)) for reply in action.replies]
        self._open = action
        if action.termination is None and action.message is not None:
            orchestrator.agent.box = self._identified(action.message, "assistant")
            if action.last:
                orchestrator.agent.last_word = action.message
        return action

    async def _user_turn(self) -> None:
        clock = time.perf_counter()
        message = await self.user.respond(self.orchestrator.message)
        self.episode.user_s += time.perf_counter() - clock
        self.orchestrator.user.box = self._identified(message, "user")

    def _step(self) -> None:
        """Let tau2 take one step, and look at what it added."""
        self.orchestrator.step()
        self._observe()

    def _end(self, termination: Termination, detail: str) -> None:
        self.episode.termination, self.episode.detail = termination, detail

    def _identified(self, message: _Spoken, requestor: bench.Requestor) -> _Spoken:
        """Fix who calls and under which id before tau2 sees it: a policy could name the user as requestor."""
        stem = "call" if requestor == "assistant" else "user"
        for call in message.tool_calls or []:
            call.requestor = requestor
            call.id = f"{stem}_{self._called}"
            self._called += 1
        return message

    def _observe(self) -> None:
        """Count errors in what tau2 has added, and feed its texts to the strict scorer. Calls come by the watch."""
        trajectory = self.orchestrator.trajectory
        for message in trajectory[self._observed :]:
            if isinstance(message, bench.ToolMessage):
                self.episode.tool_errors += bool(message.error)
                self._turn_errors += bool(message.error) and message.requestor == "assistant"
            elif isinstance(message, bench.AssistantMessage) and message.content and not message.tool_calls:
                self.scorer.add_text(message.content)  # text beside a call never reaches the user
        self._observed = len(trajectory)
        self.episode.steps = self.orchestrator.step_count

    def _close_turn(self) -> None:
        """Close the agent turn before this point, once everything that followed from it has happened."""
        action, self._open = self._open, None
        if action is None:
            return
        self._score_assertions()
        turns, partial = self.episode.turns, self._partial()
        before = turns[-1].partial if turns else self._earned_before
        turns.append(
            Turn(
                index=len(turns),
                segment=action.segment,
                start=action.start,
                end=action.end,
                thought=action.thought,
                text=action.text,
                calls=len(action.message.tool_calls or []) if action.message is not None else 0,
                call_errors=self._turn_errors,
                malformed=action.malformed,
                finish_reason=action.finish_reason,
                sent=action.message is not None,
                partial=partial,
                gain=round(partial - before, 6),
                by_call=self._by_call(action),
            )
        )
        self._turn_errors = 0

    def _by_call(self, action: AgentAction) -> tuple[CallGain, ...]:
        """The calls that followed from a turn, each with its tokens."""
        calls = self.watch.take()
        spans = action.spans or [(action.start, action.start)] * len(calls)
        return tuple(replace(call, start=start, end=end) for call, (start, end) in zip(calls, spans))

    # Stage 3

    async def score(self, judge: Judge | None, official: OfficialCheck | None) -> None:
        """Grade what was done: tau2's reward from the live environment, and the strict partial score.

        Raises:
            JudgeError: an assertion in natural language counts, and nobody answers.
            ScoreMismatch, CheckError: the second grading differs, or came to nothing.
        """
        answer, reason = await self._judged(judge), self.episode.termination.tau2_reason
        info = self.stage.grader.score(self.task, self.environment, self.messages(), reason, answer)
        reward_info = cast(RewardInfoRecord, info.model_dump(mode="json", exclude_none=True))
        if info.db_check is not None and not info.db_check.db_match:
            self.episode.database_difference = self.stage.grader.database_difference(self.task, self.environment)
        self._score_assertions()
        if official is not None:
            await official.compare(
                self.world, self.task, messages=self.messages(), reason=reason, answer=answer, live=reward_info
            )
        self.episode.outcome = Outcome(float(info.reward), self._partial(), self.scorer.components(), reward_info)

    async def _judged(self, judge: Judge | None) -> str | None:
        """What the judge answers; None where there is nothing to judge."""
        if not self.episode.termination.graded:
            return None
        request = bench.judge_request(self.task, self.messages())
        if request is None:
            return None
        if judge is None:
            raise JudgeError(
                f"{self.episode.task} has {request.assertions} natural-language assertions in its reward basis "
                "and no judge"
            )
        return await judge.answer(request)

    def _score_assertions(self) -> None:
        self.scorer.set_assertions_met(self.stage.grader.assertions_met(self.task, self.environment))

    def _partial(self) -> float:
        return round(self.scorer.value(), 6)

    # Stage 4

    def close(self) -> None:
        """Put what is left into the episode, however it ended: the messages and the token record."""
        self.watch.end()
        episode = self.episode
        recorded = [message.model_dump(mode="json", exclude_none=True) for message in self.messages()]
        episode.messages = cast(list[MessageRecord], recorded)
        episode.user_stopped_early = stopped_after_confirming(episode.messages)
        episode.segments = list(self.agent.segments)

    def length(self) -> int:
        """Messages so far."""
        return len(self.orchestrator.trajectory)

    def messages(self) -> list[bench.Message]:
        """The trajectory in order, numbered."""
        messages = list(self.orchestrator.trajectory)
        for n, message in enumerate(messages):
            message.turn_idx = n
        return messages


def _concerns_user(message: bench.Message) -> bool:
    """Whether the user has said or heard a message."""
    if isinstance(message, bench.ToolMessage):
        return message.requestor == "user"
    return isinstance(message, bench.UserMessage) or not message.tool_calls
