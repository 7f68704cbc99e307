"""Finds and makes worlds, those of tau2's domains and those of task sets.

For tau2's own domains a world's name is the domain's and it has one stage; a task set (`tasksets`) brings its name, and
may bring several databases. `load` makes each world once; `build` makes one from tasks and a database of your own.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from slime_tau2 import bench, traits
from slime_tau2.episode import environments, splits
from slime_tau2.episode.world import JUDGE, Stage, TaskSetInfo, World
from slime_tau2.errors import BenchDataError
from slime_tau2.tasksets import manifest as set_manifest
from slime_tau2.tasksets import openings, stored
from slime_tau2.tasksets.openings import Opened
from slime_tau2.tasksets.stored import StoredSet

COLLECT_AFTER = 100_000
"""New objects before the garbage collector looks at them."""


def load(
    domain: str, *, retail_basis: str = JUDGE, retrieval: str = bench.DEFAULT_RETRIEVAL, verdicts: bool = True
) -> World:
    """The world of one of tau2's domains, or of a task set, made once per process.

    Args:
        domain: a domain's name, the path of a task set, or the name of one that is open.
        retail_basis: how tasks that need a judge are scored (`Tau2Config.retail_basis`); ignored by domains whose
            traits have no other way.
        retrieval: how banking_knowledge's documents are searched (`Tau2Config.retrieval`); ignored by other domains.
        verdicts: whether a task set's verdicts must be on it as it is; not for who verifies it anew.

    Raises:
        BenchDataError: tau2 has no such domain, and no task set of that name is open.
        ConfigError: the task set is broken.
    """
    opened = openings.find(domain)
    of = domain if opened is None else opened.manifest.domain
    basis = retail_basis if retail_basis in traits.of(of).without_judge else JUDGE
    spec = bench.EnvironmentSpec(domain=of, retrieval=retrieval)
    if opened is None:
        return _load(spec, basis)
    return _load_set(*_version(opened), spec.retrieval, basis, verdicts=verdicts)


def name_of(domain: str) -> str:
    """The name of a domain, or of the task set that a path or a name says."""
    return openings.names([domain])[0]


def task_splits(domain: str) -> dict[str, list[str]]:
    """{split: task ids} of a domain or a task set, as its world has them, without a world's databases.

    Raises:
        BenchDataError, ConfigError: as `load`.
    """
    opened = openings.find(domain)
    return _domain_splits(domain) if opened is None else _set_splits(*_version(opened))


def split(domain: str, name: str) -> list[str]:
    """The ids of a split of a domain or a task set, without a world's databases.

    Raises:
        BenchDataError, ConfigError: as `load`, or there is no such split; names those that there are.
    """
    return splits.task_ids(task_splits(domain), name, name_of(domain))


def task_set(domain: str) -> StoredSet | None:
    """The task set of a path or of an open set's name; None where it is a domain.

    Raises:
        ConfigError: the set is broken.
    """
    opened = openings.find(domain)
    return None if opened is None else _stored(*_version(opened))


def _version(opened: Opened) -> tuple[Path, str]:
    """What tells one reading of a set from another."""
    return opened.directory, opened.version


@cache
def _stored(directory: Path, version: str, verdicts: bool = True) -> StoredSet:
    found = stored.read(directory, verdicts=verdicts)
    if not traits.of(found.manifest.domain).retrieval:  # the tools of one that has it go by the kind
        found.check_tools(environments.shared(found.spec(_databases(found)[0])).tool_types)
    return found


@cache
def _domain_splits(domain: str) -> dict[str, list[str]]:
    import slime_tau2.domains.helpdesk  # noqa: F401  registers the bundled domain

    tasks = bench.load_tasks(domain)
    return splits.complete(domain, bench.task_splits(domain), tasks)


@cache
def _set_splits(directory: Path, version: str) -> dict[str, list[str]]:
    found = _stored(directory, version)
    return splits.complete(found.manifest.name, _all_splits(found), found.tasks)


def _all_splits(found: StoredSet) -> dict[str, list[str]]:
    return {**found.manifest.splits, splits.BASE: list(found.tasks)}


@cache
def _load(spec: bench.EnvironmentSpec, retail_basis: str) -> World:
    with _for_good():
        return build(spec, retail_basis=retail_basis)


@cache
def _load_set(directory: Path, version: str, retrieval: str, retail_basis: str, *, verdicts: bool) -> World:
    with _for_good():
        return _build_set(_stored(directory, version, verdicts), retrieval, retail_basis)


def _build_set(found: StoredSet, retrieval: str, retail_basis: str) -> World:
    domain = found.manifest.domain
    stages = {name: Stage(environments.shared(found.spec(name, retrieval))) for name in _databases(found)}
    found.check_tools(next(iter(stages.values())).environments.tool_types)
    return World(
        name=found.manifest.name,
        tasks={task_id: with_basis(task, domain, retail_basis) for task_id, task in found.tasks.items()},
        task_splits=_all_splits(found),
        tasks_sha256=found.manifest.files[set_manifest.TASKS],
        stages=stages,
        database_of=found.database_of,
        task_set=TaskSetInfo(
            name=found.manifest.name,
            sha256=found.manifest.sha256,
            directory=found.directory,
            database_sha256={t: found.database_sha256(name) for t, name in found.database_of.items()},
        ),
        retail_basis=retail_basis,
    )


def _databases(found: StoredSet) -> list[str]:
    """The databases that tasks are over, in the manifest's order."""
    used = set(found.database_of.values())
    return [name for name in (stored.OWN, *found.manifest.databases) if name in used]


@contextmanager
def _for_good() -> Iterator[None]:
    """Around the making of what lives as long as the process: some 10^6 objects, which no collection should walk.

    Neither while they are made, which takes a third of the time, nor afterwards. From then on the collector waits for
    more than Python's 700 new objects, of which one answer of a server has as many: with 512 live episodes a tenth of
    all CPU went into collections. A host that has the collector wait for longer, or off, is left alone.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    if 0 < young < COLLECT_AFTER:
        gc.set_threshold(COLLECT_AFTER, *older)


def build(
    spec: bench.EnvironmentSpec,
    *,
    name: str = "",
    tasks: Iterable[bench.Task] | None = None,
    task_splits: Mapping[str, list[str]] | None = None,
    retail_basis: str = JUDGE,
) -> World:
    """A world that is not remembered; its environments are shared with every other world of the same `spec`.

    Args:
        spec: domain, retrieval kind and database.
        name: what records and options call the world; the domain's name if empty.
        tasks: the world's tasks; None takes the domain's own, with its splits.
        task_splits: {split: task ids} of `tasks`; None makes one split of all, `base`.

    Raises:
        BenchDataError: tau2 has no such domain, two tasks have one id, or the database is none of the domain's.
    """
    import slime_tau2.domains.helpdesk  # noqa: F401  registers the bundled domain

    domain = spec.domain
    if tasks is None:
        chosen = bench.load_tasks(domain)
        sha256 = bench.tasks_sha256(domain)
        task_splits = bench.task_splits(domain)
    else:
        bench.check_domain(domain)
        chosen = _by_id(tasks, name or domain)
        sha256 = bench.canonical_sha256(chosen.values())
        task_splits = {splits.BASE: list(chosen)} if task_splits is None else task_splits
    return World(
        name=name or domain,
        tasks={task_id: with_basis(task, domain, retail_basis) for task_id, task in chosen.items()},
        task_splits=task_splits,
        tasks_sha256=sha256,
        stages={stored.OWN: Stage(environments.shared(spec))},
        retail_basis=retail_basis,
    )


def _by_id(tasks: Iterable[bench.Task], name: str) -> dict[str, bench.Task]:
    by_id: dict[str, bench.Task] = {}
    for task in tasks:
        if task.id in by_id:
            raise BenchDataError(f"{name} has two tasks {task.id!r}; ids must differ")
        by_id[task.id] = task
    if not by_id:
        raise BenchDataError(f"{name} has no tasks")
    return by_id


def with_basis(task: bench.Task, domain: str, retail_basis: str) -> bench.Task:
    """The task, scored without a judge where it has one and the domain's traits say how.

    v1.0.x needs a judge for 40 of retail's 114 tasks and for one of banking_knowledge's.
    """
    instead = traits.of(domain).without_judge.get(retail_basis)
    criteria = task.evaluation_criteria
    if instead is None or criteria is None or bench.RewardType.NL_ASSERTION not in criteria.reward_basis:
        return task
    kinds: list[bench.RewardType] = [kind for kind in criteria.reward_basis if kind != bench.RewardType.NL_ASSERTION]
    kinds += [bench.RewardType(kind) for kind in instead if kind not in kinds]
    return task.model_copy(update={"evaluation_criteria": criteria.model_copy(update={"reward_basis": kinds})})
