"""Worlds: everything immutable of a domain, loaded once a process, and the environments that episodes act on.

Building a tau2 environment parses its database (25 MB in airline) and its evaluator builds two more and replays the
conversation. Here an environment is copy-on-write over one shared database, and the score is read from the live
environment, which is the one that a replay would rebuild. Invariant 4: `World.score` equals tau2's
`evaluate_simulation`, field by field. Invariant 5: `World.check_base` fails if any episode reached the shared database.
"""

from __future__ import annotations

import copy
import gc
import json
import pickle
from functools import cache
from typing import Any

from slime_tau2 import bench
from slime_tau2.errors import BenchDataError
from slime_tau2.rewards.partial import GoldAction, StrictScorer

COPY_ON_WRITE = ("airline", "retail")  # domains whose database is plain tables that tools only read while iterating


class CowDict(dict):
    """A table over shared rows. A row is copied when it is first taken out by key; iteration hands out shared rows.

    It is a real dict, so that pydantic serialises it as usual. `owned` holds the keys this episode may have changed. `pickled`
    is shared by all episodes and remembers the rows as bytes: loading those takes half the time of a deep copy.
    """

    __slots__ = ("owned", "pickled")

    def __init__(self, base: dict, pickled: dict):
        super().__init__(base)
        self.owned: set = set()
        self.pickled = pickled

    def __getitem__(self, key):
        row = dict.__getitem__(self, key)
        if key not in self.owned:
            if key not in self.pickled:  # never owned by anyone before, so this is the shared row as it was loaded
                self.pickled[key] = pickle.dumps(row, pickle.HIGHEST_PROTOCOL)
            row = pickle.loads(self.pickled[key])
            dict.__setitem__(self, key, row)
            self.owned.add(key)
        return row

    def get(self, key, default=None):
        return self[key] if key in self else default

    def __setitem__(self, key, row):
        dict.__setitem__(self, key, row)
        self.owned.add(key)

    def __delitem__(self, key):
        self.owned.add(key)
        dict.__delitem__(self, key)

    def pop(self, key, *default):
        self.owned.add(key)
        return dict.pop(self, key, *default)

    def setdefault(self, key, default=None):
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args, **kwargs):
        for key, row in dict(*args, **kwargs).items():
            self[key] = row


def _normal_form(row: Any) -> str | None:
    """What tau2 hashes of a row."""
    return None if row is None else json.dumps(row.model_dump() if hasattr(row, "model_dump") else row, sort_keys=True, default=str)


class World:
    """One domain: tasks, policy, tool schemas, environments, gold end states."""

    def __init__(self, domain: str, retail_basis: str = "judge"):
        self.domain, self.retail_basis = domain, retail_basis
        self.tasks = {k: _with_basis(t, domain, retail_basis) for k, t in bench.load_tasks(domain).items()}
        self.splits = _with_extra(bench.task_splits(domain), self.tasks)
        self.tasks_sha256 = bench.tasks_sha256(domain)
        self._base = bench.registry.get_env_constructor(domain)()
        self.policy: str = self._base.get_policy()
        self.tool_schemas: list[dict] = [t.openai_schema for t in self._base.get_tools()]
        self.tool_types: dict[str, Any] = {}
        for toolkit in filter(None, (self._base.tools, self._base.user_tools)):
            bench.guard(type(toolkit))
            self.tool_types.update(bench.get_tool_types(toolkit))
        database = self._base.tools.db
        self._tables = list(type(database).model_fields) if domain in COPY_ON_WRITE else []
        if not all(isinstance(getattr(database, f), dict) for f in self._tables):
            raise BenchDataError(f"{domain}: a database field is not a table; remove {domain!r} from worlds.COPY_ON_WRITE")
        self._base_hash = self._base.get_db_hash()
        self._rows: dict[str, dict] = {f: {} for f in self._tables}
        self._pickled = b"" if self._tables else pickle.dumps(self._base)
        self._gold: dict[str, dict] = {}
        self._user_schemas: dict[tuple | None, bytes | None] = {}

    def task(self, task_id: str) -> Any:
        if task_id not in self.tasks:
            raise BenchDataError(f"unknown task {task_id!r} in {self.domain}; ids look like {next(iter(self.tasks))!r}")
        return self.tasks[task_id]

    def task_ids(self, split: str) -> list[str]:
        """Ids of a split, in tau2's order.

        Raises:
            BenchDataError: the domain has no such split.
        """
        if split not in self.splits:
            raise BenchDataError(f"unknown split {split!r} of {self.domain}; it has: {', '.join(self.splits) or 'none'}")
        return [t for t in self.splits[split] if t in self.tasks]

    def environment(self) -> Any:
        """A fresh environment that shares nothing mutable with any other."""
        if not self._tables:
            return pickle.loads(self._pickled)  # a twentieth of telecom's constructor, which parses two files
        base = self._base.tools.db
        database = type(base).model_construct(**{f: CowDict(getattr(base, f), self._rows[f]) for f in self._tables})
        return bench.Environment(domain_name=self.domain, policy=self.policy, tools=type(self._base.tools)(database))

    def user_tool_schemas(self, task: Any, environment: Any) -> bytes | None:
        """JSON of the user's tools for a task, serialised once; None where the user has none (they are costly to make)."""
        include = getattr(task, "user_tools", None)
        key = None if include is None else tuple(include)
        if key not in self._user_schemas:
            schemas = [t.openai_schema for t in bench.user_tools(environment, task)]
            self._user_schemas[key] = json.dumps(schemas, ensure_ascii=False).encode() if schemas else None
        return self._user_schemas[key]

    def provenance(self, task: Any) -> dict[str, Any]:
        """What a score depends on beside the conversation: tau2's version, its task file, the reward basis."""
        criteria = task.evaluation_criteria
        basis = [kind.value for kind in criteria.reward_basis] if criteria else []
        return {"tau2": f"{bench.VINTAGE.name} {bench.VINTAGE.version}", "tasks_sha256": self.tasks_sha256, "reward_basis": basis}

    def check_base(self) -> None:
        """Raise if any episode changed the shared database (invariant 5)."""
        if self._base.get_db_hash() != self._base_hash:
            raise AssertionError(f"{self.domain}: an episode changed the shared database")

    # --- scoring -------------------------------------------------------------------------------------------------

    def gold(self, task: Any) -> dict:
        """The gold end state of a task and which gold calls err; once a task."""
        if task.id not in self._gold:
            environment, state = self.environment(), task.initial_state
            environment.set_state(
                initialization_data=state.initialization_data if state else None,
                initialization_actions=state.initialization_actions if state else None,
                message_history=(state.message_history or []) if state else [],
            )
            errs = []
            for action in task.evaluation_criteria.actions or []:
                try:
                    environment.make_tool_call(tool_name=action.name, requestor=action.requestor, **copy.deepcopy(action.arguments))
                    errs.append(False)
                except Exception:  # tau2's evaluator swallows a gold call's error too
                    errs.append(True)
            self._gold[task.id] = {"errs": errs, "state": self._state(environment)}
        return self._gold[task.id]

    def _state(self, environment: Any) -> Any:
        if not self._tables:
            return environment.get_db_hash(), environment.get_user_db_hash()
        tables = {f: getattr(environment.tools.db, f) for f in self._tables}
        return {(f, k): _normal_form(dict.get(table, k)) for f, table in tables.items() for k in table.owned}

    def _db_match(self, environment: Any, task: Any) -> bool:
        gold, found = self.gold(task)["state"], self._state(environment)
        if not self._tables:
            return gold == found
        base = self._base.tools.db
        return all(
            (gold[key] if key in gold else _normal_form(dict.get(getattr(base, key[0]), key[1])))
            == (found[key] if key in found else _normal_form(dict.get(getattr(base, key[0]), key[1])))
            for key in {*gold, *found}
        )

    def score(self, task: Any, environment: Any, messages: list, termination: str, answer: str | None = None) -> Any:
        """tau2's RewardInfo of a finished conversation, from its live environment.

        Args:
            termination: tau2's termination reason by value. Only `user_stop` and `agent_stop` are scored on their merits.
            answer: the judge's, to what `bench.judge_request` asks.

        Raises:
            JudgeError: a natural-language assertion is in the basis and there is no answer.
        """
        criteria = task.evaluation_criteria
        if termination not in ("user_stop", "agent_stop") or criteria is None:
            return bench.evaluate(bare_simulation(task, termination, messages), task, self.domain, answer)
        task = bench.unjudged(task)
        basis, kind = set(criteria.reward_basis), bench.RewardType
        env = self._score_environment(task, environment, basis)
        action = bench.action_checks(task, messages, self.tool_types)
        communicate = bench.CommunicateEvaluator.calculate_reward(task=task, full_trajectory=messages)
        nl = None
        if kind.NL_ASSERTION in basis or bench.VINTAGE.name == "pypi":
            nl = bench.with_answer(answer, lambda: bench.NLAssertionsEvaluator.calculate_reward(task=task, full_trajectory=messages))
        reward, breakdown = 1.0, dict[Any, float]()
        for kinds, part in (
            ({kind.DB, kind.ENV_ASSERTION}, env), ({kind.ACTION}, action), ({kind.NL_ASSERTION}, nl), ({kind.COMMUNICATE}, communicate),
        ):  # fmt: skip
            if basis & kinds and part is not None:
                breakdown.update(part.reward_breakdown or {})
                reward *= part.reward
        return bench.RewardInfo(
            reward=reward, db_check=env.db_check, env_assertions=env.env_assertions, action_checks=action.action_checks,
            nl_assertions=nl.nl_assertions if nl else None, communicate_checks=communicate.communicate_checks,
            reward_basis=criteria.reward_basis, reward_breakdown=breakdown,
            info={"env": env.info, "nl": nl.info if nl else None, "communicate": communicate.info, "action": action.info},
        )  # fmt: skip

    def _score_environment(self, task: Any, environment: Any, basis: set) -> Any:
        criteria, kind = task.evaluation_criteria, bench.RewardType
        if criteria.actions is None and criteria.env_assertions is None:
            check = bench.DBCheck(db_match=True, db_reward=1.0)
            return bench.RewardInfo(reward=1.0, db_check=check, info={"note": "No expected actions or env assertions"})
        match = self._db_match(environment, task)
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
            reward=reward, db_check=bench.DBCheck(db_match=match, db_reward=float(match)), env_assertions=checks,
            reward_basis=criteria.reward_basis, reward_breakdown=breakdown,
        )  # fmt: skip

    def scorer(self, task: Any) -> StrictScorer:
        """A fresh strict scorer for one episode of a task."""
        criteria = task.evaluation_criteria
        if criteria is None:
            return StrictScorer([], [], 0)
        gold = [
            GoldAction(
                a.name, a.requestor, a.arguments, None if a.compare_args is None else tuple(a.compare_args), self._is_write(a.name), e
            )
            for a, e in zip(criteria.actions or [], self.gold(task)["errs"], strict=True)
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


EXTRA = "extra"
"""The split of the tasks outside `base` that do not begin as a test task does: 2,170 of telecom's 2,171.

The one left out breaks the same things as a test task, for a user who complains of something else.
"""


def _with_extra(splits: dict[str, list[str]], tasks: dict[str, Any]) -> dict[str, list[str]]:
    if not splits.get("base"):
        return splits
    outside = [t for t in tasks if t not in set(splits["base"])]
    tested = {fault_set(tasks[t]) for t in splits.get("test", ()) if t in tasks}
    extra = [t for t in outside if fault_set(tasks[t]) not in tested]
    return {**splits, EXTRA: extra} if extra else splits


def fault_set(task: Any) -> frozenset[tuple]:
    """What is done to a task's environment before the conversation, in any order."""
    actions = (task.initial_state.initialization_actions if task.initial_state else None) or []
    return frozenset((str(a.env_type), a.func_name, json.dumps(a.arguments, sort_keys=True)) for a in actions)


def bare_simulation(task: Any, termination: str, messages: list) -> Any:
    reason = bench.termination_reason(termination)
    return bench.SimulationRun(
        id="0", task_id=task.id, start_time="", end_time="", duration=0.0, termination_reason=reason, messages=messages
    )


def _with_basis(task: Any, domain: str, retail_basis: str) -> Any:
    """v1.0.x retail needs a judge for 40 of 114 tasks; `communicate` and `no_judge` score it without one."""
    criteria = task.evaluation_criteria
    if domain != "retail" or retail_basis == "judge" or criteria is None or bench.RewardType.NL_ASSERTION not in criteria.reward_basis:
        return task
    kinds = [k for k in criteria.reward_basis if k != bench.RewardType.NL_ASSERTION]
    kinds += [bench.RewardType.COMMUNICATE] if retail_basis == "communicate" and bench.RewardType.COMMUNICATE not in kinds else []
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"reward_basis": kinds})})


@cache
def load(domain: str, retail_basis: str = "judge") -> World:
    """The world of a domain, loaded once a process. The bundled domain registers itself on first use."""
    import slime_tau2.domains.helpdesk  # noqa: F401

    world = World(domain, retail_basis)
    gc.collect()
    gc.freeze()  # databases and tasks are some 10^6 objects that live as long as the process: no collection should walk them
    return world
