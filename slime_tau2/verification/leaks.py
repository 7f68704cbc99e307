"""Check 6: does a task hold a record of a test task, or a sentence of its scenario?

Records are users, orders, reservations, customers, lines: rows that belong to somebody. What a shop or an airline
offers to all is none. Vintages of tau2 tell test tasks in other words: those of the vintages that are not installed are
known by the hashes in `test_tasks.json`, which `tests/verification/test_other_vintages.py` writes and compares.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.verification.valueflow import told

CATALOGS = frozenset({"products", "flights", "plans"})
"""Tables of what everybody can have."""
OWNERS = ("user_id", "customer_id", "line_ids", "line_id")
"""Fields of a record that name another which belongs to it."""
SHORTEST = 25
"""Characters of the shortest sentence that is compared: those below say nothing of their task."""
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


VINTAGES = {"pypi": "pypi", "pin": "pypi", "v1": "v1"}
"""{vintage: under which name `test_tasks.json` has its test tasks}; PyPI's and the card's have the same."""


@dataclass(frozen=True)
class Held:
    """What the test tasks of a domain hold, in all vintages, by `digest`.

    Attributes:
        records: {digest of a record: id of a test task that it is in}.
        sentences: {digest of a sentence, in its normal form: id of a test task that it is in}.
    """

    records: Mapping[str, str]
    sentences: Mapping[str, str]

    def records_of(self, names: Iterable[str]) -> dict[str, str]:
        """{record: id of a test task that it is in} of those among names that are in one."""
        return _found(names, self.records)

    def sentences_of(self, sentences: Iterable[str]) -> dict[str, str]:
        """The same of sentences in normal form."""
        return _found(sentences, self.sentences)


def _found(texts: Iterable[str], held: Mapping[str, str]) -> dict[str, str]:
    by_text = {text: digest(text) for text in sorted(texts)}
    return {text: held[key] for text, key in by_text.items() if key in held}


def digest(text: str) -> str:
    """By what a record or a sentence is known: the beginning of its sha256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
    """What the test tasks of a domain hold in any vintage; nothing where it has no test split.

    Args:
        own: the domain's own world, as the installed vintage has it.
        common: whether sentences of its test tasks count that its other tasks have too: what every user of a domain is
            told is no mark of a test task. A sentence of another vintage never does.
    """
    found, shared = in_test_tasks(own, records)
    others = [kept for name, kept in _kept(own.domain).items() if name != VINTAGES[bench.VINTAGE.name]]
    by_record: dict[str, str] = {}
    by_sentence: dict[str, str] = {}
    for kept in others:
        by_record |= kept.records
        by_sentence |= kept.sentences
    for sentence in shared:
        by_sentence.pop(sentence, None)
    by_sentence |= {key: where for key, where in found.sentences.items() if common or key not in shared}
    return Held({**by_record, **found.records}, by_sentence)


def in_test_tasks(own: World, records: Records) -> tuple[Held, set[str]]:
    """(what the test tasks of the installed vintage hold, the sentences that other tasks of the domain have too)."""
    by_record: dict[str, str] = {}
    by_sentence: dict[str, str] = {}
    for task_id in own.splits.get("test", ()):
        task = own.task(task_id)
        by_record |= {digest(record): task_id for record in records.of(task)}
        by_sentence |= {digest(sentence): task_id for sentence in sentences(task)}
    others = [own.task(task_id) for task_id in own.splits.get("train+val", own.splits.get("train", ()))]
    return Held(by_record, by_sentence), {digest(sentence) for task in others for sentence in sentences(task)}


@cache
def _kept(domain: str) -> dict[str, Held]:
    """{vintage: what its test tasks hold}, of a domain of tau2."""
    kept = json.loads(files(__package__).joinpath("test_tasks.json").read_text(encoding="utf-8"))
    return {name: Held(**domains[domain]) for name, domains in kept.items() if domain in domains}


def sentences(task: bench.Task) -> set[str]:
    """A scenario's sentences in normal form: lower case, single spaces, none that is short."""
    parts = (" ".join(part.lower().split()) for part in SENTENCE.split(told(task)))
    return {part for part in parts if len(part) >= SHORTEST}
