"""Worlds: the tasks that an episode can play, over one domain and one database.

A world is a name, a domain of tau2's (tools, policy, user), a database (the domain's own or another) and tasks with
their splits. Everything in it is immutable, so that all episodes of a process share it. For tau2's own domains the name
is the domain's, and `load` makes each world once; `build` makes one from tasks and a database of your own.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Mapping
from functools import cache

from slime_tau2 import bench, traits
from slime_tau2.episode import environments, splits
from slime_tau2.episode.grading import Grader
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.record import Provenance

JUDGE = "judge"
"""The value of `retail_basis` that keeps each task's own reward basis."""


class World:
    """One set of tasks. `environments` makes what episodes act on, `grader` scores what they did.

    Args:
        name: what records and options call it.
        tasks: {id: task}, each with the reward basis that it is scored on.
        task_splits: {split: task ids}, as tau2 has them; `splits.complete` adds ours.
        tasks_sha256: names the task file in every record.
        shared: environments of the world's domain and database.
        retail_basis: how `tasks` came to their basis.
    """

    def __init__(
        self,
        *,
        name: str,
        tasks: Mapping[str, bench.Task],
        task_splits: Mapping[str, list[str]],
        tasks_sha256: str,
        shared: environments.Environments,
        retail_basis: str = JUDGE,
    ):
        self.name = name
        self.tasks = dict(tasks)
        self.splits = splits.complete(name, task_splits, self.tasks, shared.spec.domain)
        self.tasks_sha256 = tasks_sha256
        self.retail_basis = retail_basis
        self.environments = shared
        self.spec = shared.spec
        self.domain = shared.spec.domain
        self.retrieval = shared.spec.retrieval
        self.policy = shared.policy
        self.tool_schemas = shared.tool_schemas
        self.writes = shared.writes
        self.grader = Grader(shared)
        self._policies: dict[str, str] = {}
        self._user_schemas: dict[tuple[str, ...] | None, bytes | None] = {}

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
        if split not in self.splits:
            use = ": use --split base (under slime tau2_split: base)" if set(self.splits) == {"base"} else ""
            raise BenchDataError(f"unknown split {split!r} of {self.name}; it has: {', '.join(self.splits)}{use}")
        return list(self.splits[split])

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
        if not bench.policy_by_task(self.spec):
            return self.policy
        if task_id is None:
            raise ConfigError(
                f"with retrieval {self.retrieval}, {self.name} has a policy for each task and none for all; "
                "choose another"
            )
        if task_id not in self._policies:
            self._policies[task_id] = bench.task_policy(self.spec, self.task(task_id))
        return self._policies[task_id]

    def provenance(self, task: bench.Task) -> Provenance:
        """What a score of the task depends on beside the conversation."""
        criteria = task.evaluation_criteria
        basis = [kind.value for kind in criteria.reward_basis] if criteria else []
        return {
            "tau2": f"{bench.VINTAGE.name} {bench.VINTAGE.version}",
            "tasks_sha256": self.tasks_sha256,
            "reward_basis": basis,
        }


def load(domain: str, *, retail_basis: str = JUDGE, retrieval: str = bench.DEFAULT_RETRIEVAL) -> World:
    """The world of one of tau2's domains, made once per process.

    Args:
        retail_basis: how tasks that need a judge are scored (`Tau2Config.retail_basis`); ignored by domains whose
            traits have no other way.
        retrieval: how banking_knowledge's documents are searched (`Tau2Config.retrieval`); ignored by other domains.

    Raises:
        BenchDataError: tau2 has no such domain.
    """
    spec = bench.EnvironmentSpec(domain=domain, retrieval=retrieval)
    return _load(spec, retail_basis if retail_basis in traits.of(domain).without_judge else JUDGE)


@cache
def _load(spec: bench.EnvironmentSpec, retail_basis: str) -> World:
    world = build(spec, retail_basis=retail_basis)
    gc.collect()
    # databases and tasks are some 10^6 objects that live as long as the process: no collection should walk them
    gc.freeze()
    return world


def build(
    spec: bench.EnvironmentSpec,
    *,
    name: str = "",
    tasks: Iterable[bench.Task] | None = None,
    task_splits: Mapping[str, list[str]] | None = None,
    retail_basis: str = JUDGE,
) -> World:
    """A world that is not remembered; its environments are shared with every other world of the same `spec`.

    Args:
        spec: domain, retrieval kind and database.
        name: what records and options call the world; the domain's name if empty.
        tasks: the world's tasks; None takes the domain's own, with its splits.
        task_splits: {split: task ids} of `tasks`; None makes one split of all, `base`.

    Raises:
        BenchDataError: tau2 has no such domain, two tasks have one id, or the database is none of the domain's.
    """
    import slime_tau2.domains.helpdesk  # noqa: F401  registers the bundled domain

    domain = spec.domain
    if tasks is None:
        chosen = bench.load_tasks(domain)
        sha256 = bench.tasks_sha256(domain)
        task_splits = bench.task_splits(domain)
    else:
        bench.check_domain(domain)
        chosen = _by_id(tasks, name or domain)
        sha256 = bench.canonical_sha256(chosen.values())
        task_splits = {"base": list(chosen)} if task_splits is None else task_splits
    return World(
        name=name or domain,
        tasks={task_id: with_basis(task, domain, retail_basis) for task_id, task in chosen.items()},
        task_splits=task_splits,
        tasks_sha256=sha256,
        shared=environments.shared(spec),
        retail_basis=retail_basis,
    )


def _by_id(tasks: Iterable[bench.Task], name: str) -> dict[str, bench.Task]:
    by_id: dict[str, bench.Task] = {}
    for task in tasks:
        if task.id in by_id:
            raise BenchDataError(f"{name} has two tasks {task.id!r}; ids must differ")
        by_id[task.id] = task
    if not by_id:
        raise BenchDataError(f"{name} has no tasks")
    return by_id


def with_basis(task: bench.Task, domain: str, retail_basis: str) -> bench.Task:
    """The task, scored without a judge where it has one and the domain's traits say how.

    v1.0.x needs a judge for 40 of retail's 114 tasks and for one of banking_knowledge's.
    """
    instead = traits.of(domain).without_judge.get(retail_basis)
    criteria = task.evaluation_criteria
    if instead is None or criteria is None or bench.RewardType.NL_ASSERTION not in criteria.reward_basis:
        return task
    kinds: list[bench.RewardType] = [kind for kind in criteria.reward_basis if kind != bench.RewardType.NL_ASSERTION]
    kinds += [bench.RewardType(kind) for kind in instead if kind not in kinds]
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"reward_basis": kinds})})
