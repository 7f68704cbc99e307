"""Environments that share one database, and what they did to it.

Building a tau2 environment parses its database (25 MB in airline). Here airline's and retail's are copy-on-write over
one database per process; others are unpickled, except for what is only read (banking_knowledge's index). Invariant 5:
`check` fails if any episode reached the shared one.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
from collections.abc import Callable
from typing import Any

from slime_tau2 import bench, traits
from slime_tau2.errors import BenchDataError

Row = Any  # a pydantic model of the domain's, or a plain value
TableState = dict[tuple[str, str], str | None]
"""{(table, key): the row's normal form, None where the row is absent} of the rows that an episode may have changed."""
Changes = dict[tuple[str, str], tuple[str | None, str | None]]
"""{(table, key): the row's normal form before and after}, of rows that differ."""
HashState = tuple[str | None, str | None]
"""Hashes of the agent's and the user's whole database."""
State = TableState | HashState
ANSWERS = 4096
"""How many answers of tools that only read are remembered per database."""


class CowDict(dict[str, Row]):
    """A table over shared rows. A row is copied when it is first taken out by key; iteration hands out shared rows.

    It is a real dict, so that pydantic serialises it as usual. `owned` holds the keys that this episode may have
    changed. `pickled` is shared by all episodes and keeps rows as bytes: loading those takes half the time of a deep
    copy. While `lends`, what is taken out by key is the shared row, too: whoever asks changes nothing.
    """

    __slots__ = ("lends", "owned", "pickled")

    def __init__(self, base: dict[str, Row], pickled: dict[str, bytes]):
        super().__init__(base)
        self.owned: set[str] = set()
        self.pickled = pickled
        self.lends = False

    def __getitem__(self, key: str) -> Row:
        row = dict.__getitem__(self, key)
        if key not in self.owned and not self.lends:
            if key not in self.pickled:  # never owned by anyone before, so this is the shared row as it was loaded
                self.pickled[key] = pickle.dumps(row, pickle.HIGHEST_PROTOCOL)
            row = pickle.loads(self.pickled[key])
            dict.__setitem__(self, key, row)
            self.owned.add(key)
        return row

    def get(self, key: str, default: Row = None) -> Row:
        return self[key] if key in self else default

    def __setitem__(self, key: str, row: Row) -> None:
        dict.__setitem__(self, key, row)
        self.owned.add(key)

    def __delitem__(self, key: str) -> None:
        self.owned.add(key)
        dict.__delitem__(self, key)

    def pop(self, key: str, *default: Row) -> Row:
        self.owned.add(key)
        return dict.pop(self, key, *default)

    def setdefault(self, key: str, default: Row = None) -> Row:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Row) -> None:
        for key, row in dict(*args, **kwargs).items():
            self[key] = row


def normal_form(row: Row) -> str | None:
    """What tau2 hashes of a row; None for none."""
    if row is None:
        return None
    return json.dumps(row.model_dump() if hasattr(row, "model_dump") else row, sort_keys=True, default=str)


def _as_it_is(row: str | None) -> str | None:
    return row


@functools.cache
def shared(spec: bench.EnvironmentSpec) -> Environments:
    """The environments of a spec, built once per process: all worlds over one database share its one copy."""
    return Environments(spec)


class Environments:
    """Fresh environments of one domain and database, what is known of its tools, and the comparison of end states.

    Attributes:
        base: the environment that all others are made from; nothing may change it.
        policy: the agent's policy.
        tool_schemas: the agent's tools, as OpenAI's schemas.
        tool_types: {tool: what it does} of agent and user.
        agent_tools: names of the agent's tools.
        writes: names of the agent's and the user's tools that change the databases, in v1.0.x those included that tau2
            types as generic: banking_knowledge's that unlock or hand over a tool. A failure's kind goes by these. The
            strict score goes by tau2's type (`Grader.scorer`).
    """

    def __init__(self, spec: bench.EnvironmentSpec):
        self.spec = spec
        self.base = bench.build_environment(spec)
        self.policy = self.base.get_policy()
        self.tool_schemas = [tool.openai_schema for tool in self.base.get_tools()]
        self.agent_tools = frozenset(tool.name for tool in self.base.get_tools())
        self.tool_types: dict[str, bench.ToolType] = {}
        self.writes: set[str] = set()
        for toolkit in (self.base.tools, self.base.user_tools):
            if toolkit is not None:
                bench.guard(type(toolkit))
                self.tool_types.update(bench.get_tool_types(toolkit))
                self.writes |= bench.writing_tools(toolkit)
        self._tables = _tables(self.base.tools.db, spec.domain) if traits.of(spec.domain).copy_on_write else []
        self._rows: dict[str, dict[str, bytes]] = {table: {} for table in self._tables}
        pure = self._tables and traits.of(spec.domain).pure_reads
        self._reads = {name for name, kind in self.tool_types.items() if pure and kind == bench.ToolType.READ}
        self._answers: dict[tuple[str, str], str | None] = {}  # of reads, over tables as they were loaded
        self._loaded: TableState = {}  # rows as they were loaded, of those that were asked for
        self._shared: list[Any] = []
        self._pickled = b"" if self._tables else self._pickle(self.base)
        self._hash = self.base.get_db_hash()

    def fresh(self, task: bench.Task | None = None) -> bench.Environment:
        """An environment that shares nothing mutable with any other. An episode names its task."""
        if self._tables:
            return self._copy_on_write()
        if bench.own_sandbox(self.base):
            return bench.build_environment(self.spec, task)
        environment = self._unpickle(self._pickled)  # a twentieth of telecom's constructor, which parses two files
        if task is not None:
            bench.suit(environment, self.spec, task)
        return environment

    def _copy_on_write(self) -> bench.Environment:
        base = self.base.tools.db
        tables = {table: CowDict(getattr(base, table), self._rows[table]) for table in self._tables}
        database = type(base).model_construct(**tables)
        tools = type(self.base.tools)(database)
        return bench.Environment(domain_name=self.spec.domain, policy=self.policy, tools=tools)

    def answers(self, environment: bench.Environment) -> Callable[[bench.ToolCall], bench.ToolMessage]:
        """What answers an environment's calls as its own `get_response` does."""
        answer = bench.answers(environment)
        if not self._reads or "get_response" in vars(environment):
            return answer

        def answered(call: bench.ToolCall) -> bench.ToolMessage:
            if call.name not in self._reads or call.requestor != "assistant":
                return answer(call)
            tables = self._shared_tables(environment)
            if not tables:
                return answer(call)
            key = call.name, repr(call.arguments)
            loaded = not any(table.owned for table in tables)
            if loaded and key in self._answers:
                return bench.ToolMessage(
                    id=call.id, content=self._answers[key], requestor=call.requestor, role="tool", error=False
                )
            for table in tables:
                table.lends = True
            try:
                result = answer(call)
            finally:
                for table in tables:
                    table.lends = False
            if loaded and not result.error:  # an error may be of the moment
                self._answers[key] = result.content
                if len(self._answers) > ANSWERS:
                    self._answers.pop(next(iter(self._answers)), None)
            return result

        return answered

    def _shared_tables(self, environment: bench.Environment) -> list[CowDict]:
        """An environment's tables; none where a task has given it a database of its own (`initialization_data`)."""
        if not self._tables:
            return []
        held = vars(environment.tools.db)
        tables = [held[table] for table in self._tables]
        return tables if all(isinstance(table, CowDict) for table in tables) else []

    def keep(self, environment: bench.Environment) -> bytes | None:
        """An environment as bytes, for `restore`; None where it cannot be kept: over shared tables, which are quick to
        make anew, or with a sandbox of its own.
        """
        return None if self._tables or bench.own_sandbox(self.base) else self._pickle(environment)

    def restore(self, kept: bytes) -> bench.Environment:
        """An environment as it was kept, which shares nothing mutable with any other."""
        return self._unpickle(kept)

    def _pickle(self, environment: bench.Environment) -> bytes:
        """An environment without what episodes share, which is kept beside it."""
        kept = self._shared

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing: Any) -> int | None:
                if not bench.may_share(thing):
                    return None
                if not any(thing is other for other in kept):
                    kept.append(thing)
                return next(n for n, other in enumerate(kept) if other is thing)

        sink = io.BytesIO()
        Pickler(sink).dump(environment)
        return sink.getvalue()

    def _unpickle(self, pickled: bytes) -> bench.Environment:
        unpickler = pickle.Unpickler(io.BytesIO(pickled))
        if self._shared:
            unpickler.persistent_load = self._shared.__getitem__  # type: ignore[method-assign]
        environment: bench.Environment = unpickler.load()
        return environment

    def state(self, environment: bench.Environment) -> State:
        """What an environment's databases hold, as far as it can differ from another's."""
        tables = self._shared_tables(environment)
        return self._owned_rows(tables) if tables else (environment.get_db_hash(), environment.get_user_db_hash())

    def _owned_rows(self, tables: list[CowDict]) -> TableState:
        named = zip(self._tables, tables)
        return {(name, key): normal_form(dict.get(table, key)) for name, table in named for key in table.owned}

    def rows(self, environment: bench.Environment) -> TableState:
        """What the agent's database holds, as far as it can differ from another's: for `changes`."""
        tables = self._shared_tables(environment)
        if tables:
            return self._owned_rows(tables)
        held = _all_rows(environment.tools.db)
        if not self._tables:
            return held
        base = vars(self.base.tools.db)
        gone: TableState = {(table, key): None for table in self._tables for key in base[table]}
        return {key: row for key, row in {**gone, **held}.items() if row != self.row({}, key)}

    def user_rows(self, environment: bench.Environment) -> TableState:
        """What the user's database holds, where there is one: for `changes`."""
        return {} if environment.user_tools is None else _all_rows(environment.user_tools.db)

    def changes(self, before: TableState, after: TableState) -> Changes:
        """The rows that differ between two of an episode's `rows`."""
        both = {key: (self.row(before, key), self.row(after, key)) for key in {*before, *after}}
        return {key: (old, new) for key, (old, new) in both.items() if old != new}

    def same(self, one: State, other: State, form: Callable[[str | None], str | None] = _as_it_is) -> bool:
        """Whether two states are equal, as tau2's hashes of the whole databases would say.

        Args:
            form: what is compared of each row's normal form; hashes are compared as they are.
        """
        if isinstance(one, tuple) or isinstance(other, tuple):
            return one == other
        return all(form(self.row(one, key)) == form(self.row(other, key)) for key in {*one, *other})

    def row(self, state: TableState, key: tuple[str, str]) -> str | None:
        """A row's normal form; what a state over shared tables does not name is as it was loaded."""
        if key in state or not self._tables:
            return state.get(key)
        if key not in self._loaded:
            table, row = key
            self._loaded[key] = normal_form(dict.get(getattr(self.base.tools.db, table), row))
        return self._loaded[key]

    def check(self) -> None:
        """Raise if any episode changed the shared database (invariant 5)."""
        if self.base.get_db_hash() != self._hash:
            raise AssertionError(f"{self.spec.domain}: an episode changed the shared database")


def _all_rows(database: bench.DB | None) -> TableState:
    held: TableState = {}
    for field, value in ({} if database is None else database.model_dump()).items():
        if isinstance(value, dict):
            held.update({(field, str(key)): normal_form(row) for key, row in value.items()})
        else:
            held[field, ""] = normal_form(value)
    return held


def _tables(database: bench.DB, domain: str) -> list[str]:
    """Names of a database's tables.

    Raises:
        BenchDataError: a field is not a table.
    """
    fields = list(type(database).model_fields)
    other = [field for field in fields if not isinstance(getattr(database, field), dict)]
    if other:
        raise BenchDataError(
            f"{domain}: database fields that are no tables: {', '.join(other)}; its traits must not say copy_on_write"
        )
    return fields
