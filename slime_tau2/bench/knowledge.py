"""Environments from tau2's constructors, and the one domain whose constructor needs more than databases.

banking_knowledge lets the agent search the bank's documents, in a way that tau2 v1.0.x calls the retrieval kind. It
decides the agent's tools and policy. tau2's default, `alltools`, needs a key of OpenAI's and a sandbox; ours, `bm25`,
needs neither. Two things depend on the task besides: which of the agent's reads the database remembers, and, with
`golden_retrieval`, the policy. What a kind needs (a key, a package, programs) is checked before the first conversation:
within one, its absence would be a tool's error and count against the agent.
"""

from __future__ import annotations

import os
import weakref
from functools import cache
from types import SimpleNamespace
from typing import Any

from slime_tau2.bench.environments import EnvironmentSpec
from slime_tau2.bench.tau2 import VINTAGE, Environment, Task, load, registry
from slime_tau2.errors import BenchDataError, ConfigError

KNOWLEDGE = "banking_knowledge"
DEFAULT_RETRIEVAL = "bm25"
LEAST_RETRIEVAL = "no_knowledge"
"""The kind that needs nothing: enough to read tasks and splits, not for a conversation."""
_KEYS = {"openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY"}
_PACKAGES = {"rank_bm25": "rank-bm25"}


def build_environment(spec: EnvironmentSpec, task: Task | None = None) -> Environment:
    """An environment from tau2's own constructor, for a task where one is given.

    Raises:
        ConfigError: no such retrieval kind, or it needs a key, a package or programs that are not here; says which, and
            the fix.
        BenchDataError: the database is none of the domain's.
    """
    constructor = registry.get_env_constructor(spec.domain)
    databases = spec.arguments()
    if not spec.retrieval:
        return constructor(**databases)
    domain, retrieval = spec.domain, spec.retrieval
    _check(retrieval)
    try:
        environment = constructor(**databases, **environment_options(spec, task))
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(str(error.name), str(error.name))
        raise ConfigError(
            f"{domain} with retrieval {retrieval} needs the package {error.name}, which is not installed: pip "
            f"install {package}{_or_else()}"
        ) from error
    except Exception as error:  # a key that is refused, a server that is out of reach: tau2 embeds the documents here
        raise ConfigError(f"{domain} with retrieval {retrieval} cannot be built: {_line(error)}{_or_else()}") from error
    sandbox = getattr(environment.tools, "_sandbox", None)
    if sandbox is not None:
        weakref.finalize(environment, sandbox.cleanup)  # 700 files in the temporary directory, which tau2 leaves there
    return environment


def environment_options(spec: EnvironmentSpec, task: Task | None = None) -> dict[str, Any]:
    """What tau2's own runner gives its environment constructor; {} in all domains but one."""
    if not spec.retrieval:
        return {}
    if task is None:
        return {"retrieval_variant": spec.retrieval}
    request = SimpleNamespace(domain=spec.domain, retrieval_config=spec.retrieval, retrieval_config_kwargs=None)
    options: dict[str, Any] = load("runner.build")._build_env_kwargs(request, task)
    return options


def suit(environment: Environment, spec: EnvironmentSpec, task: Task) -> None:
    """Adapt an environment that was built for no task to `task`."""
    if spec.retrieval:
        tools: Any = environment.tools
        tools.set_read_log_allowlist(environment_options(spec, task)["read_log_allowlist"])


def task_policy(spec: EnvironmentSpec, task: Task) -> str:
    """The policy for one task."""
    return build_environment(spec, task).get_policy()


def policy_by_task(spec: EnvironmentSpec) -> bool:
    """Whether the policy differs by task: with `golden_retrieval` it holds the documents that the task needs."""
    return spec.retrieval == "golden_retrieval"


def may_share(thing: Any) -> bool:
    """Whether episodes may share an object: an index that is only read. It is most of an environment's size."""
    return type(thing).__name__ == "RetrievalPipeline" or (
        type(thing).__name__ == "SandboxManager" and not thing.allow_writes
    )


def own_sandbox(environment: Environment) -> bool:
    """Whether an environment holds files that its episode may change; such an environment is built anew for each."""
    return bool(getattr(getattr(environment.tools, "_sandbox", None), "allow_writes", False))


def _check(retrieval: str) -> None:
    kinds = _kinds()
    if retrieval not in kinds:
        raise ConfigError(f"retrieval {retrieval!r}: {VINTAGE.name}'s {KNOWLEDGE} has {', '.join(kinds)}")
    keys = [key for key in needed_keys(kinds[retrieval]) if not os.environ.get(key)]
    if keys:
        raise ConfigError(
            f"{KNOWLEDGE} with retrieval {retrieval} needs {' and '.join(keys)} in the environment: set it{_or_else()}"
        )
    if kinds[retrieval].shell is not None:
        try:
            load("knowledge.sandbox_manager")._check_sandbox_dependencies()
        except RuntimeError as error:
            raise ConfigError(f"{KNOWLEDGE} with retrieval {retrieval}: {_line(error)}{_or_else()}") from error


def needed_keys(kind: Any) -> list[str]:
    """Environment variables with the keys that a retrieval kind (tau2's RetrievalVariant) needs: its embedder's, its
    reranker's.
    """
    keys = set()
    for search in (kind.kb_search, kind.kb_search_bm25, kind.kb_search_dense):
        if search is None:
            continue
        if search.type == "embedding":
            keys.add(_KEYS.get(search.embedder_type, f"the key of {search.embedder_type}"))
        if search.reranker:
            keys.add(_KEYS["openai"])
    return sorted(keys)


@cache
def _kinds() -> dict[str, Any]:
    """{name: tau2's RetrievalVariant}."""
    try:
        kinds: dict[str, Any] = load("domains.banking_knowledge.retrieval").RETRIEVAL_VARIANTS
    except (AttributeError, ImportError) as error:
        raise BenchDataError(
            f"{VINTAGE}: the retrieval kinds of {KNOWLEDGE} are not where they were: an unknown vintage"
        ) from error
    return kinds


def keyless() -> list[str]:
    """The retrieval kinds that need no key."""
    return [name for name, kind in _kinds().items() if not needed_keys(kind)]


def _or_else() -> str:
    return f"; or choose a kind that needs no key, --set retrieval=… (tau2_retrieval) of {', '.join(keyless())}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
