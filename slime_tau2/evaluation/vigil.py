"""Are the servers of a run there: asked before the first attempt, and again whenever one falls silent during the run.

A server that is wrong from the start would cost every attempt its retries; one that dies or hangs in the middle would
let the run go on without it for as long as its time-outs take. Either ends the run, with the cause.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol, runtime_checkable

from slime_tau2.episode import credentials, lookup, users
from slime_tau2.episode.endpoint import Endpoint
from slime_tau2.episode.harness import Harness
from slime_tau2.errors import ConfigError, InfrastructureError, ServerUnavailable, UserError

PATIENCE_S = 10.0
SILENT_S = 30.0
TRIES = 3
"""Tries, a second apart, at a server that answers HTTP 5xx: a router says so while its worker starts."""
OPTIONS = {
    "policy": ("--policy", "--model"),
    "user": ("user_base_url (of the user in evaluation: eval_user_base_url)", "user_model (eval_user_model)"),
    "judge": ("judge_base_url", "judge_model"),
}
"""Which option names a role's server, and which its model."""


class Client(Protocol):
    """A client of a server that can be watched."""

    endpoint: Endpoint

    async def probe(self, timeout_s: float) -> None: ...


@runtime_checkable
class NamedClient(Protocol):
    """A client of an OpenAI-compatible server, which may serve other models than the one that is asked for."""

    @property
    def base_url(self) -> str: ...

    @property
    def model(self) -> str: ...

    async def headers(self) -> dict[str, str]: ...


def clients(harness: Harness, judged: bool) -> dict[str, Client]:
    """The clients of the servers that a run asks, by role.

    Args:
        judged: whether a judge scores one of its tasks.
    """
    out: dict[str, Client] = {}
    if harness.policy is not None:
        out["policy"] = harness.policy
    if isinstance(harness.user(evaluation=True), users.LLMUser):
        out["user"] = harness.eval_user_client
    if judged:
        out["judge"] = harness.judge.client
    return out


async def before(asked: Mapping[str, Client], patience_s: float = PATIENCE_S) -> None:
    """Ask every server for its smallest answer, all at once.

    Raises:
        ConfigError: one line for each that cannot be used: role, URL, cause, fix.
        ServerUnavailable: likewise, where each is right and away.
    """
    answers = await asyncio.gather(*(_wrong(role, client, patience_s) for role, client in asked.items()))
    wrong = [error for error in answers if error is not None]
    if wrong:
        away = all(isinstance(error, ServerUnavailable) for error in wrong)
        kind = ServerUnavailable if away else ConfigError
        raise kind("\n".join(map(str, wrong)))


@asynccontextmanager
async def watching(
    asked: Mapping[str, Client],
    stop: Callable[[str], None],
    silent_s: float = SILENT_S,
    patience_s: float = PATIENCE_S,
    *,
    silences: Callable[[], Awaitable[Mapping[str, float]]] | None = None,
) -> AsyncIterator[None]:
    """Watch the servers while the block lasts; `stop(reason)` is called once, when one of them is gone.

    Args:
        silences: {role: seconds of silence} where others than these clients ask the servers; None: these do.

    A server is gone that has answered nothing for `silent_s` seconds while it was asked, that does not answer a probe
    within `patience_s` either, and whose /health is not 200: one that is only busy says that it is well.
    """

    async def heard() -> Mapping[str, float]:
        if silences is not None:
            return await silences()
        return {role: client.endpoint.silence() for role, client in asked.items()}

    async def gone(role: str, client: Client, silence: float) -> str:
        error = None if silence < silent_s else await _unanswered(client, patience_s)
        if error is None or (await heard()).get(role, 0.0) < silent_s:
            return ""  # it answers, the probe or somebody else
        return f"{role} {client.endpoint.url} has answered nothing for {silence:.0f} s, a probe neither ({error})"

    async def watch() -> None:
        while True:
            await asyncio.sleep(min(2.0, silent_s / 4))
            now = await heard()
            reasons = await asyncio.gather(*(gone(role, c, now.get(role, 0.0)) for role, c in asked.items()))
            if any(reasons):
                stop("\n".join(filter(None, reasons)))
                return

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _unanswered(client: Client, patience_s: float) -> InfrastructureError | None:
    """How a probe failed that nobody answered; None where the server answers, or says that it is well."""
    try:
        await client.probe(patience_s)
        return None
    except InfrastructureError as error:
        if error.kind not in ("connection", "timeout"):
            return None
        health = f"{lookup.root(client.endpoint.url)}/health"
        if error.kind == "timeout" and await lookup.status(health, patience_s) == 200:
            return None
        return error


async def _wrong(role: str, client: Client, patience_s: float) -> UserError | None:
    """None where a server can be used, else what is wrong and what mends it."""
    for attempt in range(TRIES):
        await asyncio.sleep(1.0 if attempt else 0.0)
        try:
            await client.probe(patience_s)
        except InfrastructureError as error:
            trouble = error
            if not error.kind.startswith("http_5"):
                break
        else:
            other = await _other_model(role, client, patience_s) if credentials.is_ours(client.endpoint.url) else ""
            return ConfigError(other) if other else None
    if trouble.kind in ("http_408", "http_425", "http_429"):
        return None  # it is there, and has too much to do
    if trouble.kind in ("http_400", "http_404", "http_422"):
        other = await _other_model(role, client, patience_s)
        if other:
            return ConfigError(other)
    kind = ServerUnavailable if trouble.unavailable else ConfigError
    return kind(f"{role} {client.endpoint.url}: {_cause(role, trouble.kind, patience_s)} ({trouble})")


def _cause(role: str, kind: str, patience_s: float) -> str:
    url, _ = OPTIONS[role]
    if kind == "connection":
        return f"nothing listens there: start the server, wait until it is ready, or mend {url}"
    if kind == "timeout":
        return f"it takes the connection and does not answer within {patience_s:g} s: look into its log, start it again"
    if kind in ("http_401", "http_403"):
        return "it refuses the key"
    if kind in ("http_404", "http_405"):
        return (
            f"no such path: {url} is an SGLang server's URL without a path, or an OpenAI-compatible one's that "
            "ends with /v1"
        )
    if kind.startswith("http_5"):
        return f"it failed {TRIES} times: look into its log"
    return f"its answer cannot be used: is {url} the right server's?"


async def _other_model(role: str, client: Client, patience_s: float) -> str:
    """What to say where an OpenAI-compatible server lists its models and not the one that is asked for; else empty."""
    if not isinstance(client, NamedClient):
        return ""
    listed = await lookup.models(client.base_url, await client.headers(), patience_s)
    if not listed or client.model in listed:
        return ""
    shown, option = ", ".join(list(listed)[:8]), OPTIONS[role][1]
    return f"{role} {client.base_url} does not serve {client.model}; it serves {shown}: name one of them with {option}"
