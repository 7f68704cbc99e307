"""What the servers of one episode report beside their words: tokens, by role, and thoughts.

`run_episode` opens a collection; the clients add to the one that is open where they are called, so that nothing is
handed through agents and users, a user's own included. A collection belongs to its task (a ContextVar): episodes that
run side by side never mix.

Every answer counts, also one that a retry replaced: its tokens were sampled too. An answer that says nothing of its
tokens, and a request that was cut off before it was answered, count as `unreported`, so that no total is too low
without saying so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from slime_tau2.errors import Role
from slime_tau2.record import ThoughtRecord, TokenCounts

Tokens: TypeAlias = tuple[int, int, int]
"""What one answer cost: prompt tokens, those of them that the server had in its prefix cache, completion tokens with
thoughts.
"""


def _nowhere() -> int:
    return 0


@dataclass
class Collection:
    """What the servers of one episode have reported so far.

    Attributes:
        tokens: by role (policy, user or judge); `requests` includes `unreported`.
        thoughts: in order.
        position: how many messages there are: the index of the one that a thought leads to.
    """

    tokens: dict[str, TokenCounts] = field(default_factory=dict)
    thoughts: list[ThoughtRecord] = field(default_factory=list)
    position: Callable[[], int] = _nowhere


_open: ContextVar[Collection | None] = ContextVar("slime_tau2_usage", default=None)


@contextmanager
def collecting() -> Iterator[Collection]:
    """Collect what the clients are told from here on, in this task and those that it starts."""
    collection = Collection()
    token = _open.set(collection)
    try:
        yield collection
    finally:
        _open.reset(token)
        collection.position = _nowhere  # a timer called off keeps this context until the loop clears it away


def add(role: Role, tokens: Tokens | None) -> None:
    """Count one answer; None where its tokens are not known. Outside an episode (a probe) nothing is kept."""
    collection = _open.get()
    if collection is None:
        return
    if role not in collection.tokens:
        collection.tokens[role] = TokenCounts(requests=0, unreported=0, prompt=0, cached=0, completion=0)
    counts = collection.tokens[role]
    counts["requests"] += 1
    if tokens is None:
        counts["unreported"] += 1
        return
    prompt, cached, completion = tokens
    counts["prompt"] += prompt
    counts["cached"] += cached
    counts["completion"] += completion


def think(role: Role, text: str) -> None:
    """Keep what a model thought before the answer that was taken."""
    collection = _open.get()
    if collection is not None and text:
        collection.thoughts.append({"role": role, "message": collection.position(), "text": text})


def of_openai(answer: Any) -> Tokens | None:
    """From the `usage` of an OpenAI-compatible answer; None where there is no usable one."""
    try:
        reported = answer["usage"]
        details = reported.get("prompt_tokens_details") or {}
        return _tokens(reported["prompt_tokens"], details.get("cached_tokens"), reported["completion_tokens"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def of_sglang(answer: Any) -> Tokens | None:
    """From the `meta_info` of SGLang's `/generate`. None where it does not say."""
    try:
        reported = answer["meta_info"]
        return _tokens(reported["prompt_tokens"], reported.get("cached_tokens"), reported["completion_tokens"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _tokens(prompt: Any, cached: Any, completion: Any) -> Tokens:
    counts = prompt, cached or 0, completion
    if not all(isinstance(n, int) and n >= 0 for n in counts):
        raise ValueError("counts of tokens are whole numbers")
    return counts
