"""Environments that share one database, and what they did to it.

Building a tau2 environment parses its database (25 MB in airline). Here airline's and retail's are copy-on-write over
one database a process, the others are unpickled, but for what is only read (banking_knowledge's index). Invariant 5:
`check` fails if any episode reached the shared one.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

from slime_tau2 import bench
from slime_tau2.errors import BenchDataError

COPY_ON_WRITE = ("airline", "retail")  # domains whose database is plain tables that tools only read while iterating


class CowDict(dict):
    """A table over shared rows. A row is copied when it is first taken out by key; iteration hands out shared rows.

    It is a real dict, so that pydantic serialises it as usual. `owned` holds the keys this episode may have changed.
    `pickled` is shared by all episodes and remembers the rows as bytes: loading those takes half the time of a deep
    copy.
    """

    __slots__ = ("owned", "pickled")

    def __init__(self, base: dict, pickled: dict):
        super().__init__(base)
        self.owned: set = set()
        self.pickled = pickled

    def __getitem__(self, key):
        row = dict.__getitem__(self, key)
        if key not in self.owned:
            if key not in self.pickled:  # never owned by anyone before, so this is the shared row as it was loaded
                self.pickled[key] = pickle.dumps(row, pickle.HIGHEST_PROTOCOL)
            row = pickle.loads(self.pickled[key])
            dict.__setitem__(self, key, row)
            self.owned.add(key)
        return row

    def get(self, key, default=None):
        return self[key] if key in self else default

    def __setitem__(self, key, row):
        dict.__setitem__(self, key, row)
        self.owned.add(key)

    def __delitem__(self, key):
        self.owned.add(key)
        dict.__delitem__(self, key)

    def pop(self, key, *default):
        self.owned.add(key)
        return dict.pop(self, key, *default)

    def setdefault(self, key, default=None):
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args, **kwargs):
        for key, row in dict(*args, **kwargs).items():
            self[key] = row


def normal_form(row: Any) -> str | None:
    """What tau2 hashes of a row."""
    return (
        None
        if row is None
        else json.dumps(row.model_dump() if hasattr(row, "model_dump") else row, sort_keys=True, default=str)
    )


class Environments:
    """Fresh environments of one domain, and the comparison of their end states."""

    def __init__(self, domain: str, retrieval: str = ""):
        self.domain, self.retrieval = domain, bench.kind_of(domain, retrieval)
        self.base = bench.build_environment(domain, self.retrieval)
        database = self.base.tools.db
        self.policy: str = self.base.get_policy()
        self._tables = list(type(database).model_fields) if domain in COPY_ON_WRITE else []
        if not all(isinstance(getattr(database, f), dict) for f in self._tables):
            raise BenchDataError(
                f"{domain}: a database field is not a table; remove {domain!r} from environments.COPY_ON_WRITE"
            )
        self._rows: dict[str, dict] = {f: {} for f in self._tables}
        self._shared: list[Any] = []
        self._pickled = b"" if self._tables else self._pickle()
        self._hash = self.base.get_db_hash()

    def fresh(self, task: Any = None) -> Any:
        """An environment that shares nothing mutable with any other; an episode's is for its task."""
        if not self._tables:
            if bench.own_sandbox(self.base):
                return bench.build_environment(self.domain, self.retrieval, task)
            environment = self._unpickle()  # a twentieth of telecom's constructor, which parses two files
            if task is not None:
                bench.suit(environment, self.domain, self.retrieval, task)
            return environment
        base = self.base.tools.db
        database = type(base).model_construct(**{f: CowDict(getattr(base, f), self._rows[f]) for f in self._tables})
        return bench.Environment(domain_name=self.domain, policy=self.policy, tools=type(self.base.tools)(database))

    def _pickle(self) -> bytes:
        """The base environment without what episodes share, which is kept beside it."""
        shared = self._shared

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if not bench.shared(thing):
                    return None
                if not any(thing is s for s in shared):
                    shared.append(thing)
                return next(n for n, s in enumerate(shared) if s is thing)

        sink = io.BytesIO()
        Pickler(sink).dump(self.base)
        return sink.getvalue()

    def _unpickle(self) -> Any:
        if not self._shared:
            return pickle.loads(self._pickled)
        unpickler = pickle.Unpickler(io.BytesIO(self._pickled))
        unpickler.persistent_load = self._shared.__getitem__  # type: ignore[method-assign]
        return unpickler.load()

    def state(self, environment: Any) -> Any:
        """What an environment's databases hold, as far as it can differ from another's."""
        if not self._tables:
            return environment.get_db_hash(), environment.get_user_db_hash()
        tables = {f: getattr(environment.tools.db, f) for f in self._tables}
        return {(f, k): normal_form(dict.get(table, k)) for f, table in tables.items() for k in table.owned}

    def same(self, one: Any, other: Any) -> bool:
        """Whether two states are equal, as tau2's hashes of the whole databases would say."""
        if not self._tables:
            return one == other
        return all(self._row(one, key) == self._row(other, key) for key in {*one, *other})

    def _row(self, state: dict, key: tuple) -> str | None:
        return state[key] if key in state else normal_form(dict.get(getattr(self.base.tools.db, key[0]), key[1]))

    def check(self) -> None:
        """Raise if any episode changed the shared database (invariant 5)."""
        if self.base.get_db_hash() != self._hash:
            raise AssertionError(f"{self.domain}: an episode changed the shared database")
