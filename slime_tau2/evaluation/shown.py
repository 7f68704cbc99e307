"""A run as a page shows it, and what is found in each of its conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from slime_tau2.evaluation import costs, failures, page_tasks, runs, scores
from slime_tau2.evaluation.costs import Price
from slime_tau2.evaluation.failures import Failure
from slime_tau2.evaluation.fault.judge import Judge, Judged, Key
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.scores import Scores
from slime_tau2.record import AttemptRecord


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """One run of `eval` on a page."""

    name: str
    """What the page calls it."""
    records: list[AttemptRecord]
    tasks: list[TaskKey]
    """The tasks of its plan."""
    attempts: int
    """The plan's attempts at each task."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of its plan, which name its models."""

    @classmethod
    def of(cls, run: EvaluatedRun) -> ShownRun:
        return cls(
            name=run.title,
            records=run.records,
            tasks=run.plan.keys,
            attempts=run.plan.attempts,
            settings=run.plan.settings,
        )

    @property
    def successes(self) -> dict[TaskKey, list[bool]]:
        """{task: success of each scored attempt}."""
        return runs.successes(self.tasks, self.records)

    @cached_property
    def scores(self) -> Scores:
        return scores.scores(self.successes, scores.ks(self.attempts))

    @cached_property
    def judged(self) -> list[Judged]:
        """What is proven of each failed conversation."""
        return _judge().judge_all(self.records)

    @cached_property
    def failures(self) -> list[Failure]:
        """What went wrong in each failed attempt."""
        found = (failures.classify(record, writes(record["domain"])) for record in self.records)
        return [failure for failure in found if failure is not None]

    @cached_property
    def failure_of(self) -> dict[Key, Failure]:
        """{attempt: what went wrong}."""
        return {(failure.domain, failure.task_id, failure.attempt): failure for failure in self.failures}

    @cached_property
    def judged_of(self) -> dict[Key, Judged]:
        """{attempt: what is proven of whose fault it was}."""
        return {judged.key: judged for judged in self.judged}

    def cost(self, record: AttemptRecord, prices: Mapping[str, Price] | None) -> float | None:
        """What an attempt cost; None without prices, or where its tokens are not known."""
        spent = costs.used([record])
        if prices is None or not spent:
            return None
        return sum(prices[costs.model_of(role, self.settings)].of(tokens) for role, tokens in spent.items())


@cache
def _judge() -> Judge:
    return Judge()


def writes(domain: str) -> frozenset[str]:
    """The tools of a domain that write; none where the domain is not here."""
    here = page_tasks.world(domain)
    return frozenset(here.writes) if here else frozenset()
