"""What a call did to a database, and whether the solution ever does it. Pure.

A row is read as a bag of facts: each scalar with the path to it, whatever its place within a list. A call has a strange
effect if it leaves more of a fact than any state of the solution has, or less than every one has. So an effect that the
solution reaches in another order, in other steps, or with a list turned round, is not strange.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from typing import Any, TypeAlias

Fact: TypeAlias = tuple[tuple[str, ...], str]
"""(path, JSON of the scalar); a place within a list is `*`, and keys are quoted, so that none is mistaken for it."""


def strange(before: str | None, after: str | None, gold: Collection[str | None]) -> bool:
    """Whether a call changed a row as the solution never does.

    Args:
        before, after: the row's normal form (JSON) before and after the call, None where the row is absent.
        gold: its normal forms in every state of the solution, the first among them.
    """
    had, has = facts(before), facts(after)
    known = [facts(row) for row in gold]
    return any(count > had[fact] and count > max(row[fact] for row in known) for fact, count in has.items()) or any(
        has[fact] < count and has[fact] < min(row[fact] for row in known) for fact, count in had.items()
    )


def facts(row: str | None) -> Counter[Fact]:
    """How often each fact is in a row; that the row is there is one of them."""
    found: Counter[Fact] = Counter()
    if row is not None:
        found[(), "{}"] = 1
        _collect(json.loads(row), (), found)
    return found


def _collect(value: Any, path: tuple[str, ...], found: Counter[Fact]) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _collect(part, (*path, json.dumps(key)), found)
    elif isinstance(value, list):
        for part in value:
            _collect(part, (*path, "*"), found)
    else:
        found[path, json.dumps(value)] += 1
