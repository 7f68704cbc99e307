"""A world: the tasks that an episode can play, over one domain and its databases.

A world is a name, a domain of tau2's (tools, policy, user), tasks with their splits, and for each database that they
are over a `Stage`. Everything in it is immutable, so that all episodes of a process share it. `worlds` finds and makes
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slime_tau2 import bench
from slime_tau2.episode import splits
from slime_tau2.episode.environments import Environments
from slime_tau2.episode.grading import Grader
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.record import Provenance

JUDGE = "judge"
"""The value of `retail_basis` that keeps each task's own reward basis."""


class Stage:
    """Where tasks over one database are played. `environments` makes what episodes act on, `grader` scores what they
    did.
    """

    def __init__(self, shared: Environments):
        self.environments = shared
        self.spec = shared.spec
        self.grader = Grader(shared)


@dataclass(frozen=True, kw_only=True)
class TaskSetInfo:
    """The task set that a world's tasks are from.

    Attributes:
        name: the set's, and the world's.
        sha256: what tells its versions apart.
        directory: where it lies.
        database_sha256: {task id: sha256 of the database that the task is over}.
    """

    name: str
    sha256: str
    directory: Path
    database_sha256: Mapping[str, str]


class World:
    """One set of tasks.

    Args:
        name: what records and options call it.
        tasks: {id: task}, each with the reward basis that it is scored on.
        task_splits: {split: task ids}, as tau2 has them; `splits.complete` adds ours.
        tasks_sha256: names the task file in every record.
        stages: {database: stage}, all of one domain and retrieval kind.
        database_of: {id: the task's database}; None where there is one stage.
        task_set: where the tasks are from; None: tau2's own, or a caller's.
        retail_basis: how `tasks` came to their basis.
    """

    def __init__(
        self,
        *,
        name: str,
        tasks: Mapping[str, bench.Task],
        task_splits: Mapping[str, list[str]],
        tasks_sha256: str,
        stages: Mapping[str, Stage],
        database_of: Mapping[str, str] | None = None,
        task_set: TaskSetInfo | None = None,
        retail_basis: str = JUDGE,
    ):
        self.name = name
        self.tasks = dict(tasks)
        self.tasks_sha256 = tasks_sha256
        self.task_set = task_set
        self.retail_basis = retail_basis
        self.stages = dict(stages)
        self._database_of = database_of
        first = next(iter(self.stages.values()))
        self.domain = first.spec.domain
        self.splits = splits.complete(name, task_splits, self.tasks, self.domain)
        self.retrieval = first.spec.retrieval
        self.policy = first.environments.policy
        self.tool_schemas = first.environments.tool_schemas
        self.writes = first.environments.writes
        self._policies: dict[str, str] = {}
        self._scenarios: dict[str, tuple[bench.Task, str]] = {}
        self._user_schemas: dict[tuple[str, ...] | None, bytes | None] = {}

    def stage(self, task: bench.Task) -> Stage:
        """Where a task of this world is played."""
        return self._only if self._database_of is None else self.stages[self._database_of[task.id]]

    @property
    def _only(self) -> Stage:
        stages = list(self.stages.values())
        if len(stages) > 1:
            raise AssertionError(f"{self.name} has {len(stages)} databases: ask `stage` for a task's")
        return stages[0]

    @property
    def environments(self) -> Environments:
        """Those of a world with one database."""
        return self._only.environments

    @property
    def grader(self) -> Grader:
        """That of a world with one database."""
        return self._only.grader

    @property
    def spec(self) -> bench.EnvironmentSpec:
        """What the environments of a world with one database are built from."""
        return self._only.spec

    def scenario(self, task: bench.Task) -> str:
        """What the user of a task is told, as text."""
        known, text = self._scenarios.get(task.id, (None, ""))
        if known is not task:
            text = str(task.user_scenario)
            self._scenarios[task.id] = task, text
        return text

    def check(self) -> None:
        """Raise if any episode changed a shared database (invariant 5)."""
        for stage in self.stages.values():
            stage.environments.check()

    def task(self, task_id: str) -> bench.Task:
        """A task by its id.

        Raises:
            BenchDataError: there is no such task.
        """
        if task_id not in self.tasks:
            raise BenchDataError(f"unknown task {task_id!r} in {self.name}; ids look like {next(iter(self.tasks))!r}")
        return self.tasks[task_id]

    def task_ids(self, split: str) -> list[str]:
        """Ids of a split, in tau2's order.

        Raises:
            BenchDataError: there is no such split; names those that there are.
        """
        return splits.task_ids(self.splits, split, self.name)

    def user_tool_schemas(self, task: bench.Task, environment: bench.Environment) -> bytes | None:
        """JSON of the user's tools for a task; None where the user has none. Made once, for it is costly."""
        include = getattr(task, "user_tools", None)
        key = None if include is None else tuple(include)
        if key not in self._user_schemas:
            schemas = [t.openai_schema for t in bench.user_tools(environment, task)]
            self._user_schemas[key] = json.dumps(schemas, ensure_ascii=False).encode() if schemas else None
        return self._user_schemas[key]

    def policy_for(self, task_id: str | None) -> str:
        """The agent's policy in a task: the domain's, except with the retrieval kind `golden_retrieval`.

        Raises:
            ConfigError: the policy differs by task, and no task is named.
        """
        spec = next(iter(self.stages.values())).spec
        if not bench.policy_by_task(spec):
            return self.policy
        if task_id is None:
            raise ConfigError(
                f"with retrieval {self.retrieval}, {self.name} has a policy for each task and none for all; "
                "choose another"
            )
        if task_id not in self._policies:
            task = self.task(task_id)
            self._policies[task_id] = bench.task_policy(self.stage(task).spec, task)
        return self._policies[task_id]

    def provenance(self, task: bench.Task) -> Provenance:
        """What a score of the task depends on beside the conversation."""
        criteria = task.evaluation_criteria
        basis = [kind.value for kind in criteria.reward_basis] if criteria else []
        provenance: Provenance = {
            "tau2": f"{bench.VINTAGE.name} {bench.VINTAGE.version}",
            "tasks_sha256": self.tasks_sha256,
            "reward_basis": basis,
        }
        if self.task_set is not None:
            provenance["task_set"] = self.task_set.name
            provenance["task_set_sha256"] = self.task_set.sha256
            provenance["database_sha256"] = self.task_set.database_sha256[task.id]
        return provenance
