"""How much of its plan a run has: scored, ended by the infrastructure, not run. Every number stands beside this one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation.plan import RunPlan, TaskKey
from slime_tau2.record import AttemptRecord


@dataclass(frozen=True)
class Coverage:
    """Attempts of a plan."""

    planned: int
    scored: int
    causes: dict[str, int] = field(default_factory=dict)
    """{termination: how many} of the attempts that the infrastructure ended."""

    @property
    def excluded(self) -> int:
        """Attempts that infrastructure ended: no score of theirs is known."""
        return sum(self.causes.values())

    @property
    def not_run(self) -> int:
        return self.planned - self.scored - self.excluded

    @property
    def whole(self) -> bool:
        return self.scored == self.planned

    def __str__(self) -> str:
        parts = [f"{self.scored} of {self.planned} attempts scored"]
        if self.causes:
            causes = ", ".join(f"{kind} {n}" for kind, n in sorted(self.causes.items()))
            parts.append(f"{self.excluded} ended by the infrastructure ({causes})")
        if self.not_run:
            parts.append(f"{self.not_run} not run")
        return ", ".join(parts)


def of(plan: RunPlan, records: Sequence[AttemptRecord]) -> Coverage:
    """How much of a plan its records are.

    Raises:
        ConfigError: a record is of an attempt that is not in the plan, or of another run.
    """
    keys: set[TaskKey] = set(plan.keys)
    for r in records:
        if (r["domain"], r["task_id"]) not in keys or r["attempt"] >= plan.attempts:
            raise ConfigError(
                f"a record of {r['domain']} {r['task_id']!r}, attempt {r['attempt']}, is not in the run's plan of "
                f"{plan.attempts} attempts "
                f"at {len(keys)} tasks; attempts.jsonl and plan.json are not of one run"
            )
        if r.get("run") != plan.run:
            raise ConfigError(
                f"the record of {r['domain']} {r['task_id']!r}, attempt {r['attempt']}, was made by another run; "
                "attempts.jsonl and plan.json are not of one run"
            )
    causes = Counter(r["termination"] for r in records if r["reward"] is None)
    return Coverage(plan.attempts * len(keys), sum(r["reward"] is not None for r in records), dict(causes))
