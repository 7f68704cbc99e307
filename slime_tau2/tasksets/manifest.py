"""`manifest.json` of a task set: what the set is, and the sha256 of every file in it. Knows nothing of tau2."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from slime_tau2 import files
from slime_tau2.errors import ConfigError

FILE = "manifest.json"
TASKS = "tasks.jsonl"
VERIFIED = "verified.jsonl"
FORMAT = 1
NEVER_TRAIN = ("test", "val", "held-out")
"""Splits whose tasks train nothing (`val`: unless `train+val` is asked for)."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
Name = Annotated[str, Field(pattern=NAME)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class DatabaseFiles(_Part):
    """One database of a set: names in `SetManifest.files`."""

    agent: str
    """What the agent's tools reach: JSON or TOML, as the domain's own."""
    user: str | None = None
    """What the user's tools reach; None keeps the domain's own."""

    def by_role(self) -> dict[str, str]:
        """{`agent` or `user`: file}."""
        return {"agent": self.agent} | ({} if self.user is None else {"user": self.user})


class Verification(_Part):
    """What `verify-tasks` found; each task's verdict stands in `verified.jsonl`."""

    of: Sha256
    """`SetManifest.sha256` of the set that was verified."""
    tau2: str
    """The tau2 by which it was verified: vintage and version."""
    made_by: str
    """Who verified it."""
    checks: list[str]
    """The checks that were made."""
    passed: int = Field(ge=0)
    """Tasks that passed all of them."""
    refused: int = Field(ge=0)
    """Tasks that did not."""


class SetManifest(_Part):
    """What a task set is."""

    format: Literal[1] = 1
    """Version of this file's format."""
    name: Name
    """What options, records and tables call the set."""
    domain: str
    """The domain of tau2's whose tools, policy and user the tasks have."""
    tau2: str
    """The tau2 that the set was made with: vintage and version."""
    files: dict[str, Sha256]
    """{path under the set's directory: sha256} of every file but this one."""
    databases: dict[Name, DatabaseFiles] = {}
    """The set's databases by name; with several, each task says which. None: the domain's own."""
    own_database_sha256: Sha256 | None = None
    """Of the domain's own database, where the set brings none: another vintage may have another."""
    splits: dict[Name, list[str]]
    """{split: task ids}."""
    provenance: dict[str, JsonValue]
    """Where the tasks come from: source, revision, seed."""
    license: str
    """Under which license."""
    verified: Verification | None = None
    """What was verified; None: nothing yet."""

    @property
    def sha256(self) -> str:
        """What tells two versions of a set apart: tasks, databases, splits; neither provenance nor verification."""
        content = self.model_dump(mode="json", exclude={"provenance", "license", "verified", "tau2"})
        content["files"] = {name: sha256 for name, sha256 in self.files.items() if name != VERIFIED}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(directory: Path) -> SetManifest:
    """The manifest of a set's directory, which is consistent in itself; the other files are not looked at.

    Raises:
        ConfigError: there is none, or it is none that this version reads; names the field and what is wrong with it.
    """
    path = directory / FILE
    if directory.is_dir() and not path.exists():
        raise ConfigError(f"{directory} holds no task set (no {FILE}); `slime-tau2 import-tasks` makes one")
    content = files.read_object(path)
    number = content.get("format")
    if type(number) is int and number != FORMAT:
        raise ConfigError(
            f"{path}: format {number}, and this slime_tau2 reads format {FORMAT}; use the version that wrote it, or "
            "make the set again"
        )
    try:
        manifest = SetManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {_place(first['loc'])}: {first['msg']}; {files.ANOTHER}") from error
    _check(manifest, path)
    return manifest


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the whole"


def _check(manifest: SetManifest, path: Path) -> None:
    if TASKS not in manifest.files:
        raise ConfigError(f"{path}: files: no {TASKS} among them; {files.ANOTHER}")
    for name in manifest.files:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or not parts.parts:
            raise ConfigError(f"{path}: files: {name!r} leaves the set's directory; a set holds all its files itself")
    for database, both in manifest.databases.items():
        for file in both.by_role().values():
            if file not in manifest.files:
                raise ConfigError(f"{path}: databases: {database} names {file!r}, which is not among `files`")
    if not manifest.databases and manifest.own_database_sha256 is None:
        raise ConfigError(
            f"{path}: neither databases nor own_database_sha256: it must say over which database its tasks are"
        )
    for name in NEVER_TRAIN:
        both_in = set(manifest.splits.get(name, ())) & set(manifest.splits.get("train", ()))
        if both_in:
            raise ConfigError(f"{path}: splits: task {min(both_in)!r} is in train and in {name}; take it out of one")


def file_sha256(path: Path) -> str:
    """sha256 of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise files.unreadable(path, error) from error


def inside(root: Path, name: str, where: str) -> Path:
    """A file under `root`, links followed.

    Raises:
        ConfigError: it leaves the root; begins with `where`.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{where}: {name!r} leaves {root}; a set's files lie within it")
    return path


def as_json(value: Any) -> str:
    """JSON of one line, as every file of a set has it."""
    return json.dumps(value, ensure_ascii=False)
