"""Which environment: a domain, the retrieval kind of the one domain that has any, and a database.

tau2's constructors take databases as arguments and load their own where none is given. A `Database` gives them others.
"""

from __future__ import annotations

import functools
import hashlib
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slime_tau2 import traits
from slime_tau2.bench.tau2 import DB, Environment, registry
from slime_tau2.errors import BenchDataError


@dataclass(frozen=True, kw_only=True)
class Database:
    """Files, JSON or TOML, that take the place of a domain's own database.

    Two are equal if their contents are, wherever the files lie: worlds over copies of one file share it in memory.

    Attributes:
        agent: what the agent's tools reach.
        user: what the user's tools reach; None keeps the domain's own.
        sha256: of both files, "" for the one that is None; computed here.

    Raises:
        BenchDataError: a file cannot be read.
    """

    agent: Path = field(compare=False)
    user: Path | None = field(default=None, compare=False)
    sha256: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", self._hashes())

    def _hashes(self) -> tuple[str, str]:
        return _sha256(self.agent), "" if self.user is None else _sha256(self.user)

    def arguments(self, domain: str) -> dict[str, DB]:
        """What the domain's environment constructor takes as its databases, loaded anew.

        Raises:
            BenchDataError: a file has changed, is none of the domain's databases, or the domain takes none.
        """
        if self._hashes() != self.sha256:
            raise BenchDataError(f"the database {self.agent} has changed since it was first read; start again")
        files = {"db": self.agent} | ({} if self.user is None else {"user_db": self.user})
        return {name: _load(domain, name, path) for name, path in files.items()}


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What an environment is built from. Two worlds with equal specs share one base environment.

    Attributes:
        domain: as tau2's registry names it.
        retrieval: retrieval kind; "" in all domains but banking_knowledge, whatever is given.
        database: None for the domain's own.
    """

    domain: str
    retrieval: str = ""
    database: Database | None = None

    def __post_init__(self) -> None:
        if not traits.of(self.domain).retrieval:
            object.__setattr__(self, "retrieval", "")

    def arguments(self) -> dict[str, DB]:
        """The databases for the domain's environment constructor; {} for its own."""
        return {} if self.database is None else self.database.arguments(self.domain)

    def registered(self) -> str:
        """A domain of tau2's registry that builds environments over this database: the domain itself, or one of ours
        that is registered for the purpose.
        """
        if self.database is None:
            return self.domain
        name = "{} over {}".format(self.domain, "+".join(filter(None, self.database.sha256)))
        if name not in registry.get_domains():
            registry.register_domain(self._construct, name)
        return name

    def _construct(self, **options: Any) -> Environment:
        return registry.get_env_constructor(self.domain)(**self.arguments(), **options)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise BenchDataError(f"the database {path} cannot be read: {error.strerror}") from error


def _load(domain: str, argument: str, path: Path) -> DB:
    kind = _database_types(domain).get(argument)
    if kind is None:
        raise BenchDataError(f"{domain} takes no database {argument!r}, for which {path} was given")
    try:
        return kind.load(str(path))
    except Exception as error:  # a parser's, pydantic's
        said = " ".join(str(error).split())
        raise BenchDataError(f"{path} is no {kind.__name__} of {domain}: {said[:300]}") from error


@functools.cache
def _database_types(domain: str) -> dict[str, type[DB]]:
    """{parameter of the domain's environment constructor: the class of database that it takes}."""
    constructor: Callable[..., Environment] = registry.get_env_constructor(domain)
    function = constructor.func if isinstance(constructor, functools.partial) else constructor
    found: dict[str, type[DB]] = {}
    for name, hint in typing.get_type_hints(function).items():
        for kind in (hint, *typing.get_args(hint)):
            if isinstance(kind, type) and issubclass(kind, DB) and name != "return":
                found[name] = kind
    return found
