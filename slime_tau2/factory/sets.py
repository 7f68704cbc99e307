"""Task sets of the factory: made, told in other words if a model is named, and written with what they cover."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import JsonValue

from slime_tau2.factory import build, factories
from slime_tau2.factory.build import Coverage, Made
from slime_tau2.factory.rules import Rule
from slime_tau2.tasksets import writing
from slime_tau2.tasksets.stored import StoredSet

COVERAGE = "coverage.json"
LICENSE = "MIT (made from tau2-bench's databases and policies)"
BY_CONSTRUCTION = (
    "gold calls succeed, or fail on purpose, in the order that the task has them",
    "each rule that a wish touches was evaluated on the database: all hold if and only if the wish is done",
    "no two tasks have the same facts",
    "no owner of a test or val task; held-out shares no owner with train",
)
"""What is known of a set before anything is verified."""

Rewrite: TypeAlias = Callable[[Sequence[Made]], "Rewritten"]


@dataclass(frozen=True)
class Rewritten:
    """Tasks told in other words.

    Attributes:
        made: the tasks, in their order.
        provenance: who wrote the words, and how many stories were kept as they were.
    """

    made: list[Made]
    provenance: Mapping[str, JsonValue]


@dataclass(frozen=True)
class MadeSet:
    """A set that was written, and what it covers."""

    stored: StoredSet
    coverage: Coverage


def make_set(
    directory: Path,
    *,
    name: str,
    factory: str,
    count: int,
    seed: int,
    refused: float = build.REFUSED,
    transferred: float = build.TRANSFERRED,
    rewrite: Rewrite | None = None,
) -> MadeSet:
    """Make tasks and write them as a task set.

    Args:
        directory: where; absent or empty.
        name: what options and records will call the set.
        factory: by whose name the tasks are made.
        refused, transferred: as in `build.make`.
        rewrite: tells the stories in other words.

    Raises:
        ConfigError: no factory for the domain, too many tasks for it, or the directory holds something.
    """
    writing.check_new(directory, name)
    made = build.make(factory, count, seed, refused=refused, transferred=transferred)
    maker = factories.of(factory)
    provenance: dict[str, JsonValue] = {
        "factory": factory,
        "seed": seed,
        "count": count,
        "refused": refused,
        "transferred": transferred,
        "by_construction": list(BY_CONSTRUCTION),
    }
    if rewrite is not None:
        rewritten = rewrite(made)
        made = rewritten.made
        provenance["rewrite"] = dict(rewritten.provenance)
    covered = build.coverage(factory, made)
    stored = writing.write_set(
        directory,
        name=name,
        domain=maker.domain,
        tasks=[m.task for m in made],
        splits=build.splits(factory, made),
        provenance=provenance,
        license=LICENSE,
        extra={COVERAGE: json.dumps(coverage_json(maker.rules, covered), indent=1) + "\n"},
    )
    return MadeSet(stored, covered)


def coverage_json(rules: Mapping[str, Rule], covered: Coverage) -> dict[str, Any]:
    """What `coverage.json` holds."""
    return {
        "rules": {
            name: {"section": rules[name].section, "says": rules[name].says, "holds": holds, "broken": broken}
            for name, (holds, broken) in covered.rules.items()
        },
        "tools": covered.tools,
        "families": covered.families,
        "outcomes": covered.outcomes,
    }
