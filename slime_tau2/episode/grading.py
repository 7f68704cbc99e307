"""Scores of a conversation from its live environment: tau2's RewardInfo, and what the strict scorer needs of a task.

tau2's evaluator builds two or three environments and replays the conversation; the live environment is what the replay
would rebuild. Invariant 4: `Grader.score` equals tau2's `evaluate_simulation`, field by field.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slime_tau2 import bench
from slime_tau2.episode import end_state
from slime_tau2.episode.environments import Changes, Environments, State, TableState
from slime_tau2.record import DatabaseDifference
from slime_tau2.rewards import effects
from slime_tau2.rewards.partial import GoldAction, StrictScorer
from slime_tau2.terminations import GRADED_REASONS


@dataclass(frozen=True)
class Gold:
    """What the gold actions of a task lead to: which of them err, and the end state of the databases, to compare and
    row by row, the agent's and the user's.
    """

    errs: list[bool]
    state: State
    rows: TableState
    user_rows: TableState


class Grader:
    """Grades the conversations of one world. Remembers the gold end states by task id."""

    def __init__(self, environments: Environments):
        self.environments = environments
        self.tool_types = environments.tool_types
        self._gold: dict[str, Gold] = {}
        self._gold_rows: dict[str, list[TableState]] = {}
        self._gold_actions: dict[str, tuple[bench.Task, list[GoldAction]]] = {}

    def gold(self, task: bench.Task) -> Gold:
        """Play a task's gold actions, once per task. The task has evaluation criteria."""
        if task.id not in self._gold:
            self._gold[task.id] = self._play_gold(task)
        return self._gold[task.id]

    def _play_gold(self, task: bench.Task) -> Gold:
        environment, errs = self._play(task)
        if environment.user_tools is not None:  # a call may need what one of the other side has done
            errs = self._play(task, sync=True)[1]
        rows, user_rows = self.environments.rows(environment), self.environments.user_rows(environment)
        return Gold(errs, self.environments.state(environment), rows, user_rows)

    def counts_database(self, task: bench.Task) -> bool:
        """Whether the reward asks that the databases are in the gold end state."""
        criteria = task.evaluation_criteria
        if criteria is None or (criteria.actions is None and criteria.env_assertions is None):
            return False  # tau2 then compares nothing, whatever the basis
        return bench.RewardType.DB in criteria.reward_basis

    def strange(self, task: bench.Task, changes: Changes) -> bool:
        """Whether a call changed the agent's database as no state of the task's solution does (`rewards.effects`).

        The first time that a task is asked about, its gold actions are played once more.
        """
        if task.id not in self._gold_rows:
            states: list[TableState] = []
            self._play(task, sync=True, seen=lambda environment: states.append(self.environments.rows(environment)))
            first, *later = states
            # what no gold action touches need not be kept once per gold action
            self._gold_rows[task.id] = [
                first,
                *({key: new for key, (_, new) in self.environments.changes(first, state).items()} for state in later),
            ]
        first, *later = self._gold_rows[task.id]
        for key, (before, after) in changes.items():
            gold = {self.environments.row(first, key), *(state[key] for state in later if key in state)}
            if effects.strange(before, after, gold):
                return True
        return False

    def _play(
        self, task: bench.Task, *, sync: bool = False, seen: Callable[[bench.Environment], None] = lambda _: None
    ) -> tuple[bench.Environment, list[bool]]:
        """An environment in which a task's gold actions were played, and which of them err.

        Args:
            sync: whether the two sides are brought together after each call. A conversation does so, tau2's evaluator
                does not.
            seen: shown the environment before the first action and after each.
        """
        environment = self.environments.fresh(task)
        state = task.initial_state
        environment.set_state(
            initialization_data=state.initialization_data if state else None,
            initialization_actions=state.initialization_actions if state else None,
            message_history=(state.message_history or []) if state else [],
        )
        seen(environment)
        errs = []
        for action in _gold_actions(task):
            try:
                environment.make_tool_call(
                    tool_name=action.name, requestor=action.requestor, **copy.deepcopy(action.arguments)
                )
                if sync:
                    environment.sync_tools()
                errs.append(False)
            except Exception:  # tau2's evaluator swallows a gold call's error too
                errs.append(True)
            seen(environment)
        return environment, errs

    def db_match(self, environment: bench.Environment, task: bench.Task) -> bool:
        """Whether an environment's databases are in the gold end state."""
        return self.environments.same(self.gold(task).state, self.environments.state(environment))

    def database_difference(self, task: bench.Task, environment: bench.Environment) -> DatabaseDifference:
        """Where an environment's databases are not in the gold end state."""
        gold, environments = self.gold(task), self.environments
        return end_state.difference(
            environments.changes(gold.rows, environments.rows(environment)),
            environments.changes(gold.user_rows, environments.user_rows(environment)),
        )

    def score(
        self,
        task: bench.Task,
        environment: bench.Environment,
        messages: list[bench.Message],
        termination: str,
        answer: str | None = None,
    ) -> bench.RewardInfo:
        """tau2's RewardInfo of a finished conversation, from its live environment.

        Args:
            termination: tau2's termination reason by value. Only what `terminations.GRADED_REASONS` holds is scored on
                its merits.
            answer: the judge's, to what `bench.judge_request` asks.

        Raises:
            JudgeError: a natural-language assertion is in the basis and there is no answer.
        """
        criteria = task.evaluation_criteria
        if termination not in GRADED_REASONS or criteria is None:
            return bench.evaluate(bare_simulation(task, termination, messages), task, self.environments.spec, answer)
        task = bench.unjudged(task)
        kind = bench.RewardType
        basis = set(criteria.reward_basis)
        env = self._score_environment(task, criteria, environment)
        action = bench.action_checks(task, messages, self.tool_types)
        communicate = bench.CommunicateEvaluator.calculate_reward(task=task, full_trajectory=messages)
        nl = None
        if kind.NL_ASSERTION in basis or bench.VINTAGE.name == "pypi":
            nl = bench.with_answer(
                answer, lambda: bench.NLAssertionsEvaluator.calculate_reward(task=task, full_trajectory=messages)
            )
        reward = 1.0
        breakdown: dict[bench.RewardType, float] = {}
        parts = (
            ({kind.DB, kind.ENV_ASSERTION}, env),
            ({kind.ACTION}, action),
            ({kind.NL_ASSERTION}, nl),
            ({kind.COMMUNICATE}, communicate),
        )
        for kinds, part in parts:
            if basis & kinds and part is not None:
                breakdown.update(part.reward_breakdown or {})
                reward *= part.reward
        return bench.RewardInfo(
            reward=reward,
            db_check=env.db_check,
            env_assertions=env.env_assertions,
            action_checks=action.action_checks,
            nl_assertions=nl.nl_assertions if nl else None,
            communicate_checks=communicate.communicate_checks,
            reward_basis=criteria.reward_basis,
            reward_breakdown=breakdown,
            info={
                "env": env.info,
                "nl": nl.info if nl else None,
                "communicate": communicate.info,
                "action": action.info,
            },
        )

    def _score_environment(
        self, task: bench.Task, criteria: bench.EvaluationCriteria, environment: bench.Environment
    ) -> bench.RewardInfo:
        kind = bench.RewardType
        basis = set(criteria.reward_basis)
        if criteria.actions is None and criteria.env_assertions is None:
            check = bench.DBCheck(db_match=True, db_reward=1.0)
            return bench.RewardInfo(reward=1.0, db_check=check, info={"note": "No expected actions or env assertions"})
        match = self.db_match(environment, task)
        checks = []
        met_all = 1.0
        for assertion in criteria.env_assertions or []:
            met = environment.run_env_assertion(assertion, raise_assertion_error=False)
            checks.append(bench.EnvAssertionCheck(env_assertion=assertion, met=met, reward=float(met)))
            met_all *= float(met)
        breakdown: dict[bench.RewardType, float] = {}
        if kind.DB in basis:
            breakdown[kind.DB] = float(match)
        if kind.ENV_ASSERTION in basis:
            breakdown[kind.ENV_ASSERTION] = met_all
        reward = 1.0
        for value in breakdown.values():
            reward *= value
        return bench.RewardInfo(
            reward=reward,
            db_check=bench.DBCheck(db_match=match, db_reward=float(match)),
            env_assertions=checks,
            reward_basis=criteria.reward_basis,
            reward_breakdown=breakdown,
        )

    def scorer(self, task: bench.Task) -> StrictScorer:
        """A fresh strict scorer for one episode of a task."""
        criteria = task.evaluation_criteria
        if criteria is None:
            return StrictScorer([], [], 0)
        known, gold = self._gold_actions.get(task.id, (None, []))
        if known is not task:
            gold = self._strict(task)
            self._gold_actions[task.id] = task, gold
        return StrictScorer(gold, criteria.communicate_info or [], len(criteria.env_assertions or []))

    def _strict(self, task: bench.Task) -> list[GoldAction]:
        """A task's gold actions, as the strict scorer takes them."""
        return [
            GoldAction(
                name=action.name,
                requestor=action.requestor,
                arguments=action.arguments,
                compare=None if action.compare_args is None else tuple(action.compare_args),
                # by tau2's type, not `Environments.writes`: to unlock a tool changes a database, but no record of the
                # customer's, and would weigh as much as the writes it is for in 78 of banking_knowledge's 97 tasks
                is_write=self.tool_types.get(action.name) == bench.ToolType.WRITE,
                errs=errs,
            )
            for action, errs in zip(_gold_actions(task), self.gold(task).errs, strict=True)
        ]

    def assertions_met(self, task: bench.Task, environment: bench.Environment) -> int:
        """How many env assertions hold now; one that raises (its object does not exist yet) does not hold."""
        criteria = task.evaluation_criteria
        met = 0
        for assertion in (criteria.env_assertions if criteria else None) or []:
            try:
                met += bool(environment.run_env_assertion(assertion, raise_assertion_error=False))
            except Exception:
                continue
        return met


def _gold_actions(task: bench.Task) -> Sequence[bench.Action]:
    criteria = task.evaluation_criteria
    return (criteria.actions if criteria else None) or []


def bare_simulation(task: bench.Task, termination: str, messages: list[bench.Message]) -> bench.SimulationRun:
    """The simulation that tau2's evaluator needs of a conversation, without times and costs.

    Args:
        termination: tau2's termination reason by value.
    """
    return bench.SimulationRun(
        id="0",
        task_id=task.id,
        start_time="",
        end_time="",
        duration=0.0,
        termination_reason=bench.termination_reason(termination),
        messages=messages,
    )
