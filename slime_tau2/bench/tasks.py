"""Domains and their tasks, as tau2's registry has them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from slime_tau2 import traits as domain_traits
from slime_tau2.bench.environments import EnvironmentSpec
from slime_tau2.bench.knowledge import LEAST_RETRIEVAL, build_environment
from slime_tau2.bench.tau2 import VINTAGE, Environment, Task, registry
from slime_tau2.errors import BenchDataError

Splits = dict[str, list[str]]

_DATABASES = (".json", ".toml")
_splits: dict[str, Callable[[], Splits]] = {}


def task_splits(domain: str) -> Splits:
    """{split: task ids} of a domain: from its registration, else from its split file, else all of them as `base`."""
    if domain in _splits:
        return _splits[domain]()
    path = domain_dir(domain) / "split_tasks.json"
    if not path.exists():
        return {"base": list(load_tasks(domain))}  # what tau2's loader gives for "base"
    splits: Splits = json.loads(path.read_text())
    return splits


def domain_dir(domain: str) -> Path:
    """The folder of a tau2 domain's data files."""
    base = VINTAGE.data_dir / "domains" if VINTAGE.name == "pypi" else VINTAGE.data_dir / "tau2" / "domains"
    return base / (domain_traits.of(domain).files_of or domain)


def load_tasks(domain: str) -> dict[str, Task]:
    """All tasks of a domain by id (adapter: loaders differ in whether they take a split).

    Raises:
        BenchDataError: tau2 has no such domain.
    """
    check_domain(domain)
    loader = registry.get_tasks_loader(domain)
    try:
        tasks = loader(None)
    except TypeError:
        tasks = loader()
    return {task.id: task for task in tasks}


def check_domain(domain: str) -> None:
    """Raise BenchDataError where tau2 has no such domain; names those that it has."""
    if domain not in registry.get_task_sets():
        known = ", ".join(sorted(set(registry.get_domains()) & set(registry.get_task_sets())))
        only = domain_traits.of(domain).vintage
        where = f" (only tau2 {only} has it; this is {VINTAGE.name})" if only else ""
        raise BenchDataError(
            f"unknown domain {domain!r}{where}; known domains: {known}; a task set is named by its path, or by its "
            "name once tau2_domains or tau2_task_sets has the path"
        )


def tasks_sha256(domain: str) -> str:
    """sha256 of the domain's task file; of the tasks' canonical JSON where they are generated or lie in a file each."""
    path = domain_dir(domain) / "tasks.json"
    if domain not in _splits and path.exists() and not path.with_suffix("").is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return canonical_sha256(load_tasks(domain).values())


def canonical_sha256(tasks: Iterable[Task]) -> str:
    """sha256 of tasks' canonical JSON, in their order."""
    canonical = json.dumps([t.model_dump(mode="json") for t in tasks], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def own_databases(domain: str) -> dict[str, Path]:
    """{`agent` or `user`: file} of a domain's own databases; empty where they lie in no file, as those of domains that
    were registered.
    """
    if domain in _splits or not domain_dir(domain).is_dir():
        return {}
    files = {
        role: next((path for path in sorted(domain_dir(domain).glob(f"{stem}.*")) if path.suffix in _DATABASES), None)
        for role, stem in (("agent", "db"), ("user", "user_db"))
    }
    return {role: path for role, path in files.items() if path is not None}


@functools.cache
def own_database_sha256(domain: str) -> str:
    """sha256 over a domain's own databases: of their files, else of what tau2 hashes of them.

    Raises:
        BenchDataError: tau2 has no such domain.
    """
    check_domain(domain)
    found = [path.read_bytes() for path in own_databases(domain).values()]
    if not found:
        base = build_environment(EnvironmentSpec(domain=domain, retrieval=LEAST_RETRIEVAL))
        found = [f"{base.get_db_hash()} {base.get_user_db_hash()}".encode()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in found)).hexdigest()


def register_domain(
    name: str,
    environment: Callable[..., Environment],
    tasks: Callable[..., list[Task]],
    splits: Callable[[], Splits],
    traits: domain_traits.Traits | None = None,
) -> None:
    """Register a domain with tau2 and read it back (some vintages only log failures). Idempotent.

    Args:
        environment: makes a fresh environment.
        tasks: makes all tasks.
        splits: {split: task ids}.
        traits: what is peculiar to the domain; None keeps what `slime_tau2.traits` has of it.

    Raises:
        BenchDataError: tau2 knows another domain of that name.
    """
    if name not in registry.get_domains():
        registry.register_domain(environment, name)
        registry.register_tasks(tasks, name)
    _splits[name] = splits
    if registry.get_env_constructor(name) is not environment or registry.get_tasks_loader(name) is not tasks:
        raise BenchDataError(f"tau2's registry already holds another domain named {name!r}; rename one of the two")
    if traits is not None:
        domain_traits.register(name, traits)
