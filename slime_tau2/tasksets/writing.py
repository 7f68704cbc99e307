"""Write a task set, whole or not at all, and what its verification found."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

import slime_tau2
from slime_tau2 import bench, files, traits
from slime_tau2.errors import ConfigError
from slime_tau2.tasksets import manifest, openings, stored
from slime_tau2.tasksets.manifest import FILE, TASKS, VERIFIED, DatabaseFiles, SetManifest, Verification
from slime_tau2.tasksets.stored import StoredSet

MADE_BY = f"slime_tau2 {slime_tau2.__version__}"
TAU2 = f"{bench.VINTAGE.name} {bench.VINTAGE.version}"


@dataclass(frozen=True, kw_only=True)
class SourceDatabase:
    """Files to copy into a set as one of its databases.

    Attributes:
        agent: what the agent's tools reach.
        user: what the user's tools reach; None keeps the domain's own.
    """

    agent: Path
    user: Path | None = None


def write_set(
    directory: Path,
    *,
    name: str,
    domain: str,
    tasks: Iterable[bench.Task | Mapping[str, Any]],
    databases: Mapping[str, SourceDatabase | Path] | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
    provenance: Mapping[str, JsonValue] | None = None,
    license: str = "unknown",
    extra: Mapping[str, str] | None = None,
) -> StoredSet:
    """Write a set into a directory that is not there, or that is empty; read it back, and return it.

    Args:
        name: what options and records will call the set.
        domain: tau2's domain whose tools, policy and user the tasks have.
        tasks: tau2 Tasks, or their JSON; with several databases the JSON has the key `database`.
        databases: {name: files}, which are copied; None: the tasks are over the domain's own.
        splits: {split: task ids}; None: all tasks in `train`.
        provenance: where the tasks come from.
        extra: {file name: text} of further files, which nothing here reads.

    Raises:
        ConfigError: the directory holds something, or the set would be broken; nothing is left there then.
        BenchDataError: tau2 has no such domain.
    """
    check_new(directory, name)
    staging = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        rows = [_row(task) for task in tasks]
        files.write_whole(staging / TASKS, (manifest.as_json(row) + "\n" for row in rows))
        for file, text in (extra or {}).items():
            files.write_whole(staging / file, text)
        kept = {key: _copied(staging, key, source) for key, source in (databases or {}).items()}
        ids = [str(row.get("id")) for row in rows]
        made: dict[str, Any] = {
            "format": manifest.FORMAT,
            "name": name,
            "domain": domain,
            "tau2": TAU2,
            "files": _hashes(staging),
            "databases": {key: both.model_dump(mode="json") for key, both in kept.items()},
            "own_database_sha256": None if kept else _own_database(domain),
            "splits": {"train": ids} if splits is None else {split: list(part) for split, part in splits.items()},
            "provenance": {"made_by": MADE_BY, **(provenance or {})},
            "license": license,
            "verified": None,
        }
        files.write_whole(staging / FILE, manifest.as_json(made))
        stored.read(staging)
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists():
            directory.rmdir()
        os.replace(staging, directory)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(staging), str(directory))) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return stored.read(directory)


def check_new(directory: Path, name: str) -> None:
    """See that a set of a name can be written into a directory, before anything is made.

    Raises:
        ConfigError: the name is none, or a domain's; the directory is a file, holds something, or lies within a set.
    """
    if not re.fullmatch(manifest.NAME, name):
        raise ConfigError(
            f"{name!r} is no name of a task set: letters, digits and . _ - only, the first no sign, 80 at most; name "
            "it with --name"
        )
    if traits.known(name) and openings.opened(name) is None:
        raise ConfigError(f"{name!r} is a domain's name; give the set another with --name")
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory} is a file, and a task set is a directory; use another --output")
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty; use another directory, or remove it first")
    for parent in directory.absolute().parents:
        if (parent / FILE).is_file() and (parent / TASKS).is_file():
            raise ConfigError(f"{directory} lies within the task set {parent}; use a directory beside it")


def _own_database(domain: str) -> str:
    import slime_tau2.domains.helpdesk  # noqa: F401  registers the bundled domain

    return bench.own_database_sha256(domain)


def _row(task: bench.Task | Mapping[str, Any]) -> dict[str, Any]:
    return dict(task) if isinstance(task, Mapping) else task.model_dump(mode="json")


def _copied(root: Path, name: str, source: SourceDatabase | Path) -> DatabaseFiles:
    both = SourceDatabase(agent=source) if isinstance(source, Path) else source
    (root / "databases").mkdir(exist_ok=True)
    agent = f"databases/{name}{both.agent.suffix}"
    _copy(both.agent, root / agent)
    user = None
    if both.user is not None:
        user = f"databases/{name}.user{both.user.suffix}"
        _copy(both.user, root / user)
    return DatabaseFiles(agent=agent, user=user)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise files.unreadable(source, error) from error


def _hashes(root: Path) -> dict[str, str]:
    found = sorted(path for path in root.rglob("*") if path.is_file() and path.name != FILE)
    return {path.relative_to(root).as_posix(): manifest.file_sha256(path) for path in found}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verification found of one task.

    Attributes:
        task: the id.
        passed: whether it passed every check.
        why: what is wrong with it, in a line; "" where it passed.
        details: more, as JSON; kept as it is.
    """

    task: str
    passed: bool
    why: str = ""
    details: Mapping[str, JsonValue] | None = None

    def row(self) -> dict[str, Any]:
        """The verdict's line of `verified.jsonl`."""
        line = {"task": self.task, "passed": self.passed, "why": self.why}
        return line if self.details is None else {**line, "details": dict(self.details)}


def write_verified(directory: Path, verdicts: Iterable[Verdict], *, checks: Sequence[str]) -> StoredSet:
    """Write `verified.jsonl`, and into the manifest that the set was verified; the set's sha256 stays.

    Args:
        checks: names of the checks that were made.

    Raises:
        ConfigError: no set is there, or a verdict is of none of its tasks.
    """
    before = stored.read(directory, verdicts=False)
    all_verdicts = list(verdicts)
    for verdict in all_verdicts:
        if verdict.task not in before.tasks:
            raise ConfigError(f"{directory}: a verdict on task {verdict.task!r}, which the set does not have")
    passed = sum(verdict.passed for verdict in all_verdicts)
    hashes = {name: sha256 for name, sha256 in before.manifest.files.items() if name != VERIFIED}
    unverified: SetManifest = before.manifest.model_copy(update={"files": hashes, "verified": None})
    files.write_whole(directory / FILE, unverified.model_dump_json())  # what a kill from here on leaves
    files.write_whole(directory / VERIFIED, (manifest.as_json(verdict.row()) + "\n" for verdict in all_verdicts))
    verified = Verification(
        of=before.manifest.sha256,
        tau2=TAU2,
        made_by=MADE_BY,
        checks=list(checks),
        passed=passed,
        refused=len(before.tasks) - passed,
    )
    hashes[VERIFIED] = manifest.file_sha256(directory / VERIFIED)
    after: SetManifest = before.manifest.model_copy(update={"files": hashes, "verified": verified})
    files.write_whole(directory / FILE, after.model_dump_json())
    return stored.read(directory)
