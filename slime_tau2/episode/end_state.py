"""How the databases at the end of a conversation differ from those that the task's solution leaves, place by place.

For whoever reads a record: a score says that they differ, not where. Bounded, so that a record stays small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from slime_tau2.episode.environments import Changes
from slime_tau2.record import DatabaseDifference, PlaceRecord

MOST, LONGEST = 40, 200
"""Places that are told of, and characters of a value."""


def difference(agents: Changes, users: Changes) -> DatabaseDifference:
    """The places that differ, the first `MOST` of them in order.

    Args:
        agents, users: {(table, key): the row's normal form as the solution leaves it, and as it is} of the rows that
            differ in the agent's and in the user's database.
    """
    places: list[PlaceRecord] = []
    total = 0
    for whose, changes in (("agent", agents), ("user", users)):
        for (table, key), (wanted, found) in sorted(changes.items()):
            for path, one, other in _places(_row(wanted), _row(found), ""):
                total += 1
                if len(places) < MOST:
                    places.append(
                        PlaceRecord(
                            whose=whose, table=table, key=key, path=path, wanted=_shown(one), found=_shown(other)
                        )
                    )
    return DatabaseDifference(total=total, places=places)


class _Nothing:
    """What is not there; null is a value."""


def _row(form: str | None) -> Any:
    return _Nothing if form is None else json.loads(form)


def _places(wanted: Any, found: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """(path, value in one, value in the other) wherever two values differ, as deep as both have something there."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*wanted, *found)):
            deeper = f"{path}.{key}" if path else str(key)
            yield from _places(wanted.get(key, _Nothing), found.get(key, _Nothing), deeper)
    elif isinstance(wanted, list) and isinstance(found, list):
        for n in range(max(len(wanted), len(found))):
            one, other = (of[n] if n < len(of) else _Nothing for of in (wanted, found))
            yield from _places(one, other, f"{path}[{n}]")
    elif wanted is _Nothing or found is _Nothing or json.dumps(wanted) != json.dumps(found):
        yield path, wanted, found


def _shown(value: Any) -> str | None:
    """A value as JSON, cut to `LONGEST` characters; None for what is not there."""
    if value is _Nothing:
        return None
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
