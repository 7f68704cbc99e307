"""Check 6: does a task hold a record of a test task, or a sentence of its scenario?

Records are users, orders, reservations, customers, lines: rows that belong to somebody. What a shop or an airline
offers to all is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.worlds import World
from slime_tau2.verification.valueflow import told

CATALOGS = frozenset({"products", "flights", "plans"})
"""Tables of what everybody can have."""
OWNERS = ("user_id", "customer_id", "line_ids", "line_id")
"""Fields of a record that name another which belongs to it."""
SHORTEST = 25
"""Characters of the shortest sentence that is compared: those below say nothing of their task."""
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Held:
    """What the test tasks of a domain hold.

    Attributes:
        records: {record: id of a test task that it is in}.
        sentences: {sentence, in its normal form: id of a test task that it is in}.
    """

    records: Mapping[str, str]
    sentences: Mapping[str, str]


class Records:
    """The records in databases that belong to somebody: {id: what they belong to}."""

    def __init__(self, databases: Iterable[bench.DB | None]):
        self.owners: dict[str, tuple[str, ...]] = {}
        for database in databases:
            for field in type(database).model_fields if database is not None else ():
                table = getattr(database, field)
                if field in CATALOGS:
                    continue
                for key, row in table.items() if isinstance(table, dict) else _keyed(table):
                    self.owners[key] = (*self.owners.get(key, ()), *_owners(row))

    def of(self, task: bench.Task) -> set[str]:
        """The records that a task names anywhere, and those that they belong to."""
        names = set(re.findall(r"#?\w[\w.-]*\w", task.model_dump_json(exclude={"description"})))
        found = {name for name in names if name in self.owners}
        return found.union(*(self.owners[name] for name in found))


def _keyed(table: Any) -> Iterable[tuple[str, Any]]:
    """(id, row) of a list of rows: the id is the field that ends in `_id` and comes first."""
    for row in table if isinstance(table, list) else ():
        for name in getattr(type(row), "model_fields", ()):
            if name.endswith("_id"):
                yield str(getattr(row, name)), row
                break


def _owners(row: Any) -> tuple[str, ...]:
    found: list[str] = []
    for name in OWNERS:
        value = getattr(row, name, None)
        found += [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(found)


def held(own: World, records: Records, *, common: bool) -> Held:
    """What the test tasks of a domain's own world hold; nothing where it has no test split.

    Args:
        common: whether sentences count that other tasks of the domain have too: what every user of a domain is told
            is no mark of a test task.
    """
    by_record: dict[str, str] = {}
    by_sentence: dict[str, str] = {}
    tests = list(own.splits.get("test", ()))
    for task_id in tests:
        task = own.task(task_id)
        by_record |= dict.fromkeys(records.of(task), task_id)
        by_sentence |= dict.fromkeys(sentences(task), task_id)
    if not common:
        others = [own.task(task_id) for task_id in own.splits.get("train+val", own.splits.get("train", ()))]
        for sentence in set[str]().union(*map(sentences, others)):
            by_sentence.pop(sentence, None)
    return Held(by_record, by_sentence)


def sentences(task: bench.Task) -> set[str]:
    """A scenario's sentences in normal form: lower case, single spaces, none that is short."""
    parts = (" ".join(part.lower().split()) for part in SENTENCE.split(told(task)))
    return {part for part in parts if len(part) >= SHORTEST}
