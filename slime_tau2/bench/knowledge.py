"""banking_knowledge: how an agent may search the bank's documents, which tau2 v1.0.x calls the retrieval kind.

It decides the agent's tools and policy. tau2's own default, `alltools`, needs a key of OpenAI's and a sandbox; ours is
`bm25`, which needs neither. Two things hang on the task besides: which of the agent's reads the database remembers,
and, with `golden_retrieval`, the policy. What a kind needs (a key, a package, programs) is looked for before the first
conversation: found missing within one, it would be the tool's error, and the agent's fault.
"""

from __future__ import annotations

import os
import weakref
from functools import cache
from types import SimpleNamespace
from typing import Any

from slime_tau2.bench.tau2 import VINTAGE, Environment, Task, load, registry
from slime_tau2.errors import BenchDataError, ConfigError

KNOWLEDGE = "banking_knowledge"
DEFAULT_RETRIEVAL = "bm25"
LEAST_RETRIEVAL = "no_knowledge"
"""The kind that needs nothing: for who asks about tasks and splits, not for a conversation."""
_KEYS = {"openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY"}
_PACKAGES = {"rank_bm25": "rank-bm25"}


def kind_of(domain: str, retrieval: str) -> str:
    """The retrieval kind that matters to a domain; "" in all domains but one."""
    return retrieval if domain == KNOWLEDGE else ""


def build_environment(domain: str, retrieval: str = "", task: Task | None = None) -> Environment:
    """An environment from tau2's own constructor, for a task where one is given.

    Raises:
        ConfigError: no such retrieval kind, or it needs a key, a package or programs that are not here; says which, and
            the fix.
    """
    constructor = registry.get_env_constructor(domain)
    if not kind_of(domain, retrieval):
        return constructor()
    _check(retrieval)
    try:
        environment = constructor(**environment_options(domain, retrieval, task))
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


def environment_options(domain: str, retrieval: str, task: Task | None = None) -> dict[str, Any]:
    """What tau2's own runner gives its environment constructor; {} in all domains but one."""
    if not kind_of(domain, retrieval):
        return {}
    if task is None:
        return {"retrieval_variant": retrieval}
    request = SimpleNamespace(domain=domain, retrieval_config=retrieval, retrieval_config_kwargs=None)
    options: dict[str, Any] = load("runner.build")._build_env_kwargs(request, task)
    return options


def suit(environment: Environment, domain: str, retrieval: str, task: Task) -> None:
    """Make an environment that was built for no task one for `task`."""
    if kind_of(domain, retrieval):
        tools: Any = environment.tools
        tools.set_read_log_allowlist(environment_options(domain, retrieval, task)["read_log_allowlist"])


def task_policy(domain: str, retrieval: str, task: Task) -> str | None:
    """The policy for one task, where the retrieval kind writes one for each; else None."""
    if not policy_by_task(domain, retrieval):
        return None
    return build_environment(domain, retrieval, task).get_policy()


def policy_by_task(domain: str, retrieval: str) -> bool:
    """Whether the policy differs by task: with `golden_retrieval` it holds the documents that the task needs."""
    return kind_of(domain, retrieval) == "golden_retrieval"


def shared(thing: Any) -> bool:
    """Whether episodes may share an object: an index that is only read. It is most of an environment's size."""
    return type(thing).__name__ == "RetrievalPipeline" or (
        type(thing).__name__ == "SandboxManager" and not thing.allow_writes
    )


def own_sandbox(environment: Environment) -> bool:
    """Whether an environment holds files that its episode may change: such a one is built anew for each."""
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
    searches = [s for s in (kind.kb_search, kind.kb_search_bm25, kind.kb_search_dense) if s is not None]
    keys = {_KEYS.get(s.embedder_type, f"the key of {s.embedder_type}") for s in searches if s.type == "embedding"}
    return sorted(keys | {_KEYS["openai"] for s in searches if s.reranker})


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
