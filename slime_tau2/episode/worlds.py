"""Worlds: everything immutable of a domain, loaded once a process: tasks, splits, policy, tool
schemas, reward basis.
"""

from __future__ import annotations

import gc
import json
from functools import cache
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import splits
from slime_tau2.episode.environments import Environments
from slime_tau2.episode.grading import Grader
from slime_tau2.errors import BenchDataError, ConfigError


class World:
    """One domain. `environments` makes what episodes act on, `grader` scores what they did."""

    def __init__(self, domain: str, retail_basis: str = "judge", retrieval: str = bench.DEFAULT_RETRIEVAL):
        self.domain, self.retail_basis, self.retrieval = domain, retail_basis, bench.kind_of(domain, retrieval)
        self.tasks = {k: _with_basis(t, domain, retail_basis) for k, t in bench.load_tasks(domain).items()}
        self.splits = splits.made(domain, bench.task_splits(domain), self.tasks)
        self.tasks_sha256 = bench.tasks_sha256(domain)
        self.environments = Environments(domain, retrieval)
        base = self.environments.base
        self.policy: str = self.environments.policy
        self.tool_schemas: list[dict] = [t.openai_schema for t in base.get_tools()]
        tool_types: dict[str, Any] = {}
        self.writes: set[str] = set()  # tools of agent and user that change the databases
        for toolkit in filter(None, (base.tools, base.user_tools)):
            bench.guard(type(toolkit))
            tool_types.update(bench.get_tool_types(toolkit))
            self.writes |= bench.writing_tools(toolkit)
        self.grader = Grader(self.environments, tool_types)
        self._policies: dict[str, str] = {}
        self._user_schemas: dict[tuple | None, bytes | None] = {}

    def task(self, task_id: str) -> Any:
        if task_id not in self.tasks:
            raise BenchDataError(f"unknown task {task_id!r} in {self.domain}; ids look like {next(iter(self.tasks))!r}")
        return self.tasks[task_id]

    def task_ids(self, split: str) -> list[str]:
        """Ids of a split, in tau2's order.

        Raises:
            BenchDataError: the domain has no such split; names those that it has.
        """
        if split not in self.splits:
            use = ": use --split base (under slime tau2_split: base)" if set(self.splits) == {"base"} else ""
            raise BenchDataError(f"unknown split {split!r} of {self.domain}; it has: {', '.join(self.splits)}{use}")
        return list(self.splits[split])

    def user_tool_schemas(self, task: Any, environment: Any) -> bytes | None:
        """JSON of the user's tools for a task, serialised once; None where the user has none (they are costly
        to make).
        """
        include = getattr(task, "user_tools", None)
        key = None if include is None else tuple(include)
        if key not in self._user_schemas:
            schemas = [t.openai_schema for t in bench.user_tools(environment, task)]
            self._user_schemas[key] = json.dumps(schemas, ensure_ascii=False).encode() if schemas else None
        return self._user_schemas[key]

    def policy_for(self, task_id: str | None) -> str:
        """The agent's policy in a task. It is the domain's, but for one retrieval kind of banking_knowledge's
        (`golden_retrieval`).

        Raises:
            ConfigError: it differs by task, and no task is named.
        """
        if not bench.policy_by_task(self.domain, self.retrieval):
            return self.policy
        if task_id is None:
            raise ConfigError(
                f"with retrieval {self.retrieval}, {self.domain} has a policy for each task and none for all; "
                "choose another"
            )
        if task_id not in self._policies:
            self._policies[task_id] = bench.task_policy(self.domain, self.retrieval, self.task(task_id)) or self.policy
        return self._policies[task_id]

    def provenance(self, task: Any) -> dict[str, Any]:
        """What a score depends on beside the conversation: tau2's version, its task file, the reward basis."""
        criteria = task.evaluation_criteria
        basis = [kind.value for kind in criteria.reward_basis] if criteria else []
        return {
            "tau2": f"{bench.VINTAGE.name} {bench.VINTAGE.version}",
            "tasks_sha256": self.tasks_sha256,
            "reward_basis": basis,
        }


def _with_basis(task: Any, domain: str, retail_basis: str) -> Any:
    """v1.0.x needs a judge for 40 of retail's 114 tasks and one of banking_knowledge's; `communicate` and `no_judge`
    score without one.
    """
    criteria, judged = task.evaluation_criteria, bench.RewardType.NL_ASSERTION
    if (
        domain not in ("retail", bench.KNOWLEDGE)
        or retail_basis == "judge"
        or criteria is None
        or judged not in criteria.reward_basis
    ):
        return task
    kinds = [k for k in criteria.reward_basis if k != bench.RewardType.NL_ASSERTION]
    told = retail_basis == "communicate" and domain == "retail" and bench.RewardType.COMMUNICATE not in kinds
    kinds += [bench.RewardType.COMMUNICATE] if told else []
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"reward_basis": kinds})})


def load(domain: str, retail_basis: str = "judge", retrieval: str = bench.DEFAULT_RETRIEVAL) -> World:
    """The world of a domain, loaded once a process. The bundled domain registers itself on first use.

    Args:
        retail_basis: how retail is scored on v1.0.x (`Tau2Config.retail_basis`).
        retrieval: how banking_knowledge's documents are searched (`Tau2Config.retrieval`); no other domain has any.
    """
    return _load(domain, retail_basis, bench.kind_of(domain, retrieval))


@cache
def _load(domain: str, retail_basis: str, retrieval: str) -> World:
    import slime_tau2.domains.helpdesk  # noqa: F401

    world = World(domain, retail_basis, retrieval)
    gc.collect()
    # databases and tasks are some 10^6 objects that live as long as the process: no collection should walk them
    gc.freeze()
    return world
