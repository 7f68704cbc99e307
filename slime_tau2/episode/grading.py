"""Scores of a conversation from its live environment: tau2's RewardInfo, and what the strict scorer needs to know of a
task.

tau2's evaluator builds two or three environments and replays the conversation; the live environment is the one that the
replay would rebuild. Invariant 4: `Grader.score` equals tau2's `evaluate_simulation`, field by field.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.environments import Environments
from slime_tau2.rewards.partial import GoldAction, StrictScorer


@dataclass(frozen=True)
class Gold:
    """What the gold actions of a task lead to: which of them err, and the end state of the databases."""

    errs: list[bool]
    state: Any


class Grader:
    """Grades the conversations of one domain. Remembers the gold end states."""

    def __init__(self, environments: Environments, tool_types: dict[str, Any]):
        self.environments, self.tool_types = environments, tool_types
        self._gold: dict[str, Gold] = {}

    def gold(self, task: Any) -> Gold:
        """Plays a task's gold actions; once a task."""
        if task.id not in self._gold:
            environment, state = self.environments.fresh(task), task.initial_state
            environment.set_state(
                initialization_data=state.initialization_data if state else None,
                initialization_actions=state.initialization_actions if state else None,
                message_history=(state.message_history or []) if state else [],
            )
            errs = []
            for action in task.evaluation_criteria.actions or []:
                try:
                    environment.make_tool_call(
                        tool_name=action.name, requestor=action.requestor, **copy.deepcopy(action.arguments)
                    )
                    errs.append(False)
                except Exception:  # tau2's evaluator swallows a gold call's error too
                    errs.append(True)
            self._gold[task.id] = Gold(errs, self.environments.state(environment))
        return self._gold[task.id]

    def db_match(self, environment: Any, task: Any) -> bool:
        """Whether an environment's databases are in the gold end state."""
        return self.environments.same(self.gold(task).state, self.environments.state(environment))

    def score(self, task: Any, environment: Any, messages: list, termination: str, answer: str | None = None) -> Any:
        """tau2's RewardInfo of a finished conversation, from its live environment.

        Args:
            termination: tau2's termination reason by value. Only `user_stop` and `agent_stop` are scored on their
                merits.
            answer: the judge's, to what `bench.judge_request` asks.

        Raises:
            JudgeError: a natural-language assertion is in the basis and there is no answer.
        """
        criteria = task.evaluation_criteria
        if termination not in ("user_stop", "agent_stop") or criteria is None:
            bare, environments = bare_simulation(task, termination, messages), self.environments
            return bench.evaluate(bare, task, environments.domain, answer, environments.retrieval)
        task = bench.unjudged(task)
        basis, kind = set(criteria.reward_basis), bench.RewardType
        env = self._score_environment(task, environment, basis)
        action = bench.action_checks(task, messages, self.tool_types)
        communicate = bench.CommunicateEvaluator.calculate_reward(task=task, full_trajectory=messages)
        nl = None
        if kind.NL_ASSERTION in basis or bench.VINTAGE.name == "pypi":
            nl = bench.with_answer(
                answer, lambda: bench.NLAssertionsEvaluator.calculate_reward(task=task, full_trajectory=messages)
            )
        reward, breakdown = 1.0, dict[Any, float]()
        for kinds, part in (
            ({kind.DB, kind.ENV_ASSERTION}, env),
            ({kind.ACTION}, action),
            ({kind.NL_ASSERTION}, nl),
            ({kind.COMMUNICATE}, communicate),
        ):
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

    def _score_environment(self, task: Any, environment: Any, basis: set) -> Any:
        criteria, kind = task.evaluation_criteria, bench.RewardType
        if criteria.actions is None and criteria.env_assertions is None:
            check = bench.DBCheck(db_match=True, db_reward=1.0)
            return bench.RewardInfo(reward=1.0, db_check=check, info={"note": "No expected actions or env assertions"})
        match = self.db_match(environment, task)
        checks, met_all = [], 1.0
        for assertion in criteria.env_assertions or []:
            met = environment.run_env_assertion(assertion, raise_assertion_error=False)
            checks.append(bench.EnvAssertionCheck(env_assertion=assertion, met=met, reward=float(met)))
            met_all *= float(met)
        breakdown = {kind.DB: float(match)} if kind.DB in basis else {}
        breakdown |= {kind.ENV_ASSERTION: met_all} if kind.ENV_ASSERTION in basis else {}
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

    def scorer(self, task: Any) -> StrictScorer:
        """A fresh strict scorer for one episode of a task."""
        criteria = task.evaluation_criteria
        if criteria is None:
            return StrictScorer([], [], 0)
        gold = [
            GoldAction(
                a.name,
                a.requestor,
                a.arguments,
                None if a.compare_args is None else tuple(a.compare_args),
                self._is_write(a.name),
                e,
            )
            for a, e in zip(criteria.actions or [], self.gold(task).errs, strict=True)
        ]
        return StrictScorer(gold, criteria.communicate_info or [], len(criteria.env_assertions or []))

    def _is_write(self, tool: str) -> bool:
        return self.tool_types.get(tool) == bench.ToolType.WRITE

    def assertions_met(self, task: Any, environment: Any) -> int:
        """How many env assertions hold now; one that raises (its object does not exist yet) does not hold."""
        met = 0
        for assertion in (task.evaluation_criteria.env_assertions if task.evaluation_criteria else None) or []:
            try:
                met += bool(environment.run_env_assertion(assertion, raise_assertion_error=False))
            except Exception:
                continue
        return met


def bare_simulation(task: Any, termination: str, messages: list) -> Any:
    reason = bench.termination_reason(termination)
    return bench.SimulationRun(
        id="0", task_id=task.id, start_time="", end_time="", duration=0.0, termination_reason=reason, messages=messages
    )
