"""A task set as it lies in its directory: read and checked, every file against its sha256, every task against tau2."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slime_tau2 import bench, files, options
from slime_tau2.errors import ConfigError
from slime_tau2.tasksets import manifest
from slime_tau2.tasksets.manifest import TASKS, VERIFIED, SetManifest

DATABASE = "database"
"""Key of a row of `tasks.jsonl` that tau2's Task does not have: over which of the set's databases the task is."""
SOURCE = "source"
"""Another such key: what the task was imported from; nothing reads it."""
OWN = ""
"""Name of the domain's own database, where a set brings none."""


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """A set that was read.

    Attributes:
        directory: where it lies.
        manifest: what it is.
        tasks: {id: task}, in the file's order.
        database_of: {id: name of the task's database}; `OWN` for the domain's own.
        unverified: {id: why it did not pass verification}; None: the set was never verified, or its verdicts were not
            asked for.
    """

    directory: Path
    manifest: SetManifest
    tasks: Mapping[str, bench.Task]
    database_of: Mapping[str, str]
    unverified: Mapping[str, str] | None

    def spec(self, database: str, retrieval: str = "") -> bench.EnvironmentSpec:
        """What environments over one of the set's databases are built from. A copy of the domain's own is its own."""
        domain = self.manifest.domain
        own = bench.EnvironmentSpec(domain=domain, retrieval=retrieval)
        if database == OWN:
            return own
        both = self.manifest.databases[database]
        content = {role: self.manifest.files[name] for role, name in both.by_role().items()}
        theirs = {role: manifest.file_sha256(path) for role, path in bench.own_databases(domain).items()}
        if all(theirs.get(role) == sha256 for role, sha256 in content.items()):
            return own
        user = None if both.user is None else self.directory / both.user
        stored = bench.Database(agent=self.directory / both.agent, user=user)
        return bench.EnvironmentSpec(domain=domain, retrieval=retrieval, database=stored)

    def database_sha256(self, database: str) -> str:
        """What names a database in records: the sha256 of its file, of both with a `+` between."""
        if database == OWN:
            return self.manifest.own_database_sha256 or ""
        return "+".join(self.manifest.files[name] for name in self.manifest.databases[database].by_role().values())

    def check_tools(self, known: Collection[str]) -> None:
        """See that every gold action names a tool.

        Raises:
            ConfigError: one does not; names task, action and the nearest tool.
        """
        for task in self.tasks.values():
            for action in (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []:
                if action.name not in known:
                    raise ConfigError(
                        f"{self.directory / TASKS}: task {task.id!r}: its action {action.name!r} is no tool of "
                        f"{self.manifest.domain}; {options.unknown(action.name, sorted(known))}"
                    )


def read(directory: Path, *, verdicts: bool = True) -> StoredSet:
    """Read a set and check it: files, databases' hashes, tasks, ids, splits, and last its verdicts.

    Args:
        verdicts: read them; else the set is read as if it had none, so that it can be verified again whatever they are.

    Raises:
        ConfigError: it is broken; one line that names the file, the task and the fix.
        BenchDataError: tau2 has no such domain.
    """
    import slime_tau2.domains.helpdesk  # noqa: F401  registers the bundled domain

    found = manifest.read(directory)
    where = directory / manifest.FILE
    bench.check_domain(found.domain)
    if found.name in bench.registry.get_domains():
        raise ConfigError(f"{where}: name: {found.name!r} is a domain of tau2's; give the set a name of its own")
    _check_files(directory, found)
    if not found.databases and found.own_database_sha256 != bench.own_database_sha256(found.domain):
        raise ConfigError(
            f"{where}: own_database_sha256: the tasks are over another database of {found.domain} than the installed "
            f"tau2 has ({bench.VINTAGE.name} {bench.VINTAGE.version}); the set was made with {found.tau2}: install "
            "that, or make the set again"
        )
    tasks, database_of = _tasks(directory, found)
    for split, ids in found.splits.items():
        _check_split(split, ids, tasks, where)
    return StoredSet(
        directory=directory,
        manifest=found,
        tasks=tasks,
        database_of=database_of,
        unverified=_verdicts(directory, found, tasks) if verdicts else None,
    )


def _verdicts(directory: Path, found: SetManifest, tasks: Collection[str]) -> dict[str, str] | None:
    """As `StoredSet.unverified`."""
    if found.verified is None:
        return None
    where, path = directory / manifest.FILE, directory / VERIFIED
    again = f"run `slime-tau2 verify-tasks {directory}` again"
    if VERIFIED not in found.files:
        raise ConfigError(f"{where}: verified: no {VERIFIED} among `files`; {again}")
    if found.verified.of != found.sha256:
        raise ConfigError(f"{where}: verified: another version of the set was; {again}")
    sha256, expected = manifest.file_sha256(path), found.files[VERIFIED]
    if sha256 != expected:
        raise ConfigError(
            f"{path} is not the file that {manifest.FILE} names (sha256 {sha256[:8]}…, not {expected[:8]}…): {again}"
        )
    return _refused(path, tasks)


def _check_files(directory: Path, found: SetManifest) -> None:
    where = directory / manifest.FILE
    for name, expected in found.files.items():
        path = manifest.inside(directory, name, f"{where}: files")
        if name == VERIFIED:
            continue
        sha256 = manifest.file_sha256(path)
        if sha256 != expected:
            raise ConfigError(
                f"{path} is not the file that {manifest.FILE} names (sha256 {sha256[:8]}…, not {expected[:8]}…): get "
                "the set anew, or make it again"
            )


def _tasks(directory: Path, found: SetManifest) -> tuple[dict[str, bench.Task], dict[str, str]]:
    tasks: dict[str, bench.Task] = {}
    database_of: dict[str, str] = {}
    for number, row in files.read_jsonl(directory / TASKS):
        where = f"{directory / TASKS}, line {number}"
        task = parse_task(row, where)
        if task.id in tasks:
            raise ConfigError(f"{where}: a second task {task.id!r}; ids must differ within a set")
        tasks[task.id] = task
        database_of[task.id] = _database(row.get(DATABASE), found, f"{where}: task {task.id!r}")
    if not tasks:
        raise ConfigError(f"{directory / TASKS} holds no task; a set has one at least")
    return tasks, database_of


def parse_task(row: Mapping[str, Any], where: str) -> bench.Task:
    """tau2's Task of a row, whose other keys are the set's.

    Raises:
        ConfigError: it is none; names the field and what is wrong with it.
    """
    try:
        task = bench.Task.model_validate({key: value for key, value in row.items() if key not in (DATABASE, SOURCE)})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{where}: no task of tau2's: {'.'.join(map(str, first['loc']))}: {first['msg']}; {files.ANOTHER}"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # tau2's own validators
        raise ConfigError(f"{where}: no task of tau2's: {files.one_line(error)}; {files.ANOTHER}") from error
    if not task.id:
        raise ConfigError(f"{where}: a task without an id")
    return task


def _database(named: Any, found: SetManifest, where: str) -> str:
    if named is None and len(found.databases) <= 1:
        return next(iter(found.databases), OWN)
    if not isinstance(named, str) or named not in found.databases:
        known = ", ".join(found.databases) or "none: leave it out"
        raise ConfigError(f"{where}: {DATABASE} {named!r} is none of the set's databases; there are {known}")
    return named


def _check_split(split: str, ids: list[str], tasks: Collection[str], where: Path) -> None:
    if len(set(ids)) < len(ids):
        twice = next(task_id for n, task_id in enumerate(ids) if task_id in ids[:n])
        raise ConfigError(f"{where}: splits: {split} names task {twice!r} twice")
    for task_id in ids:
        if task_id not in tasks:
            raise ConfigError(
                f"{where}: splits: {split} names task {task_id!r}, and {TASKS} has none; take it out, or bring the task"
            )


def _refused(path: Path, tasks: Collection[str]) -> dict[str, str]:
    """{task id: why}, of the tasks that did not pass, or that verification left out."""
    passed: set[str] = set()
    refused: dict[str, str] = {}
    for number, row in files.read_jsonl(path, ("task", "passed")):
        task_id, verdict, why = row["task"], row["passed"], row.get("why", "")
        if not isinstance(task_id, str) or not isinstance(verdict, bool) or not isinstance(why, str):
            raise ConfigError(f"{path}, line {number}: no verdict: task, passed and why are text, true or false, text")
        if verdict:
            passed.add(task_id)
        else:
            refused[task_id] = why
    return {t: refused.get(t, "it was not verified") for t in tasks if t not in passed or t in refused}
