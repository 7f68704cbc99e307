"""Tasks from outside become task sets: those of AReaL's published set, and those of tau2's own files.

Every set is written whole, read back, and loaded, so that an import that ends without an error can be played.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from slime_tau2 import bench, files, traits
from slime_tau2.episode import worlds
from slime_tau2.errors import ConfigError, UserError
from slime_tau2.tasksets import manifest, stored, writing
from slime_tau2.tasksets.stored import StoredSet
from slime_tau2.tasksets.writing import SourceDatabase

AREAL_TASKS = "tau2_rl_train.jsonl"
AREAL_LICENSE = "Apache-2.0"
SPLITS = ("split_tasks.json", "splits.json")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an import.

    Attributes:
        sets: the sets, one for each domain.
        renamed: how many tasks had an id that an earlier one of their domain has, and got another.
    """

    sets: list[StoredSet]
    renamed: int = 0


@dataclass
class _Domain:
    """What is collected of one domain."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    databases: dict[str, Path] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)


def import_areal(path: Path, output: Path, prefix: str = "areal", license: str = AREAL_LICENSE) -> Imported:
    """Make a set of each domain of inclusionAI/AReaL-tau2-data: `output`/areal-airline and so on.

    A row is a tau2 Task whose `evaluation_criteria` may be JSON in a string, with a `db_path` relative to the folder.
    Tasks are told apart by row: of an id that is there twice, the second gets `@row` and its number.

    Args:
        path: the folder, or the file of tasks in it.
        prefix: of the sets' names.

    Raises:
        ConfigError: a row that cannot be used, a database that is not there or lies outside the folder; names the row.
    """
    tasks_file = path / AREAL_TASKS if path.is_dir() else path
    root = tasks_file.parent
    parts: dict[str, _Domain] = {}
    renamed = 0
    for number, row in files.read_jsonl(tasks_file, ("id", "db_path", "evaluation_criteria")):
        where = f"{tasks_file}, line {number}"
        part = parts.setdefault(_domain(row, where), _Domain())
        task_id = str(row["id"])
        unique = task_id if task_id not in part.ids else f"{task_id}@row{number}"
        renamed += unique != task_id
        part.ids.add(unique)
        content = {key: value for key, value in row.items() if key != "db_path"} | {"id": unique}
        if isinstance(row["evaluation_criteria"], str):
            content["evaluation_criteria"] = files.parsed(row["evaluation_criteria"], f"{where}: evaluation_criteria")
        task = stored.parse_task(content, where)
        part.rows.append(
            task.model_dump(mode="json")
            | {
                stored.DATABASE: _database(part, root, row["db_path"], where),
                stored.SOURCE: {"id": task_id, "row": number},
            }
        )
    if not parts:
        raise ConfigError(f"{tasks_file} holds no task")
    provenance: dict[str, JsonValue] = {
        "source": "inclusionAI/AReaL-tau2-data",
        "file": tasks_file.name,
        "file_sha256": manifest.file_sha256(tasks_file),
    }
    existing = [output / f"{prefix}-{domain}" for domain in parts if (output / f"{prefix}-{domain}").exists()]
    if existing:
        raise ConfigError(f"{existing[0]} exists; use another --output, or remove it first")
    sets: list[StoredSet] = []
    try:
        for domain, part in sorted(parts.items()):
            made = _written(
                output / f"{prefix}-{domain}",
                name=f"{prefix}-{domain}",
                domain=domain,
                tasks=part.rows,
                databases=part.databases,
                splits=None,
                provenance=provenance,
                license=license,
            )
            sets.append(made)
    except UserError:  # all of them, or none
        for made in sets:
            shutil.rmtree(made.directory)
        raise
    return Imported(sets=sets, renamed=renamed)


def _domain(row: Mapping[str, Any], where: str) -> str:
    """By the id's prefix, else as the scenario says."""
    scenario = row.get("user_scenario")
    instructions = scenario.get("instructions") if isinstance(scenario, dict) else None
    said = [part.get("domain") for part in (instructions, scenario) if isinstance(part, dict)]
    for name in traits.BENCHMARKS:
        if str(row["id"]).lower().startswith(name):
            return name
    for value in said:
        if isinstance(value, str) and value.lower() in traits.BENCHMARKS:
            return value.lower()
    raise ConfigError(
        f"{where}: task {row['id']!r}: neither its id nor user_scenario.instructions.domain names one of "
        f"{', '.join(traits.BENCHMARKS)}"
    )


def _database(part: _Domain, root: Path, db_path: Any, where: str) -> str:
    """The name of a row's database, which is among the domain's from then on."""
    if not isinstance(db_path, str) or not db_path:
        raise ConfigError(f"{where}: db_path is {db_path!r}, and not a path")
    path = manifest.inside(root, db_path, f"{where}: db_path")
    if not path.is_file():
        raise ConfigError(f"{where}: db_path {db_path!r}: no such file under {root}; get the whole set")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.stem)
    if part.databases.setdefault(name, path) != path:
        raise ConfigError(f"{where}: db_path {db_path!r}: another database is called {name}, too; rename one of them")
    return name


def import_tau2(
    path: Path,
    output: Path,
    *,
    name: str,
    domain: str | None = None,
    database: Path | None = None,
    splits: Path | None = None,
    license: str = "unknown",
) -> Imported:
    """Make a set of tasks as tau2 has them in a domain's folder: `tasks.json`, with `db.json` or `db.toml` and
    `split_tasks.json` where these lie beside it.

    Args:
        path: the folder, or the file of tasks.
        domain: the domain of tasks whose scenarios do not say it.
        database: the agent's database; None: the one beside the tasks, else the domain's own.
        splits: {split: task ids}; None: the file beside the tasks, else all tasks train.

    Raises:
        ConfigError: a file or a task that cannot be used; names it.
        BenchDataError: tau2 has no such domain.
    """
    tasks_file = path / "tasks.json" if path.is_dir() else path
    root = tasks_file.parent
    content = files.read_json(tasks_file)
    rows = content.get("tasks") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{tasks_file}: no list of tasks in it; {files.ANOTHER}")
    tasks = [stored.parse_task(row, f"{tasks_file}, task {n}") for n, row in enumerate(rows, 1)]
    of = domain or _said(tasks, tasks_file)
    agent = database or _beside(root, "db")
    user = _beside(root, "user_db") if database is None else None
    splits_file = splits or next((root / file for file in SPLITS if (root / file).exists()), None)
    made = _written(
        output,
        name=name,
        domain=of,
        tasks=[task.model_dump(mode="json") for task in tasks],
        databases={} if agent is None else {"own": SourceDatabase(agent=agent, user=user)},
        splits=None if splits_file is None else _splits(splits_file),
        provenance={"file": tasks_file.name, "file_sha256": manifest.file_sha256(tasks_file)},
        license=license,
    )
    return Imported(sets=[made])


def _said(tasks: list[bench.Task], tasks_file: Path) -> str:
    """The domain that all the tasks' scenarios say."""
    said = {getattr(task.user_scenario.instructions, "domain", None) for task in tasks}
    if len(said) != 1 or None in said:
        named = ", ".join(sorted(str(name) for name in said if name)) or "none"
        raise ConfigError(f"{tasks_file}: the scenarios say {named} as their domain; name it with --domain")
    return str(said.pop())


def _beside(root: Path, stem: str) -> Path | None:
    return next((path for path in (root / f"{stem}.json", root / f"{stem}.toml") if path.exists()), None)


def _splits(path: Path) -> dict[str, list[str]]:
    found = files.read_object(path)
    for split, ids in found.items():
        if not isinstance(ids, list) or not all(isinstance(task_id, str) for task_id in ids):
            raise ConfigError(f"{path}: {split}: no list of task ids; {files.ANOTHER}")
    return found


def _written(directory: Path, **options: Any) -> StoredSet:
    """The set, written and loaded; nothing is left of one that cannot be loaded."""
    made = writing.write_set(directory, **options)
    try:
        worlds.load(str(directory.absolute()))
    except UserError:
        shutil.rmtree(directory)
        raise
    return made


def lines(imported: Imported) -> Iterator[str]:
    """What was made, a line for each set."""
    for one in imported.sets:
        databases = len(one.manifest.databases) or "the domain's own"
        yield f"{one.directory}: {len(one.tasks)} tasks of {one.manifest.domain}, databases: {databases}"
    if imported.renamed:
        yield f"{imported.renamed} tasks had an id that another has, too: they are now ID@rowN"
    yield "nothing is verified yet, so that nothing trains: run `slime-tau2 verify-tasks` on each"
