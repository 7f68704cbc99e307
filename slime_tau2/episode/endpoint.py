"""One HTTP server that episodes talk to: limiter, time-out, retries with back-off, counted faults, and a circuit for one that is gone.

What is sent and how a reply is read belong to the clients (`policy.py`, `openai_chat.py`). Bodies are bytes that the caller
has serialised; nothing is serialised twice. Sessions and limiters are per event loop. The transport can be replaced: a
benchmark answers in the same process.
"""

from __future__ import annotations

import asyncio
import json
import random
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

from slime_tau2.episode.circuit import Circuit
from slime_tau2.errors import InfrastructureError

T = TypeVar("T")
RETRIABLE = (408, 425, 429)
"""The refusals (4xx) that may go away by themselves."""
LONGEST_PAUSE_S = 8.0
ROUTING_HEADER = "X-SMG-Routing-Key"
"""By which the router tells one conversation from another, under `consistent_hashing` (slime's fork) and `manual`."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer. `retry_after_s` is what the server asked for, 0 without one."""

    status: int
    body: bytes
    retry_after_s: float = 0.0


Transport = Callable[[str, bytes, Mapping[str, str]], Awaitable[Reply]]
"""(url, body, headers) -> the answer; raises OSError or aiohttp.ClientError where there is none."""


class Garbage(ValueError):
    """A reply that arrived and cannot be used. `kind` is the name it is counted under."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass
class Endpoint:
    """One URL.

    `failure(message)` is raised when tries run out or the server refuses. `faults` counts every failed try by kind
    (`http_500`, `timeout`, `connection`, `garbage`, `empty`, …), those that a retry mended too. `hint` is added to a refusal
    (401 and 403) and names the fix.
    """

    url: str
    failure: Callable[[str], InfrastructureError]
    concurrency: int = 256
    timeout_s: float = 300.0
    retries: int = 4
    backoff_s: float = 0.5
    hint: str = ""
    transport: Transport | None = None
    faults: Counter[str] = field(default_factory=Counter)
    circuit: Circuit = field(default_factory=Circuit)
    _per_loop: Any = field(default_factory=weakref.WeakKeyDictionary, repr=False)

    async def post(self, body: Callable[[int], bytes], read: Callable[[Any], T], headers: Mapping[str, str]) -> T:
        """Post until `read` accepts the JSON of an answer.

        Args:
            body: the bytes of the n-th try (from 0).
            read: parsed JSON -> the result; raises Garbage, or what a wrong shape raises (KeyError, TypeError, ValueError).

        Raises:
            InfrastructureError: `failure` of a message that names the URL, the number of tries and the last trouble.
        """
        send, limiter = self._here()
        last, pause = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                backoff = min(self.backoff_s * 2 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)
                await asyncio.sleep(max(backoff, min(pause, 4 * LONGEST_PAUSE_S)))
            if not await self._anybody_there():
                break
            asked_all_the_same = self.circuit.open
            try:
                async with limiter:
                    if self.circuit.open and not asked_all_the_same:
                        break  # it opened while this one waited for its turn
                    async with asyncio.timeout(self.timeout_s):
                        reply = await send(self.url, body(attempt), headers)
                self.circuit.answered()
                pause = reply.retry_after_s
                if reply.status == 200:
                    return read(json.loads(reply.body))
                last, kind = f"HTTP {reply.status} {reply.body[:300].decode(errors='replace')}", f"http_{reply.status}"
                if 400 <= reply.status < 500 and reply.status not in RETRIABLE:
                    self.faults[kind] += 1
                    hint = f"; {self.hint}" if self.hint and reply.status in (401, 403) else ""
                    raise self.failure(f"{self.url} refused: {last}{hint}")
            except TimeoutError:
                last, kind = f"no answer within {self.timeout_s} s", "timeout"
                self.circuit.unanswered()
            except (aiohttp.ClientError, OSError) as error:
                last, kind = f"{type(error).__name__}: {error}", "connection"
                self.circuit.unanswered()
            except Garbage as error:
                last, kind = str(error), error.kind
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                last, kind = f"{type(error).__name__}: {error}", "garbage"
            self.faults[kind] += 1
        else:
            raise self.failure(f"{self.url} failed {self.retries + 1} times, the last time with: {last}")
        raise self.failure(f"{self.url} has answered none of the last {self.circuit.silent} tries; {last or 'it is not asked again yet'}")

    async def _anybody_there(self) -> bool:
        """Whether to ask at all; where the circuit is open, after the longest pause that a retry would have made."""
        if self.circuit.lets_through():
            return True
        await asyncio.sleep(min(LONGEST_PAUSE_S, 16 * self.backoff_s))
        return self.circuit.lets_through()

    def _here(self) -> tuple[Transport, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._per_loop:
            limiter = asyncio.Semaphore(self.concurrency)
            self._per_loop[loop] = (self.transport or _AiohttpTransport(), limiter)
        return self._per_loop[loop]

    async def close(self) -> None:
        """Close this event loop's connections."""
        transport, _ = self._per_loop.pop(asyncio.get_running_loop(), (None, None))
        if isinstance(transport, _AiohttpTransport):
            await transport.session.close()


class _AiohttpTransport:
    """One session of one event loop; no cap of its own on connections (the limiter is the cap)."""

    def __init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None)  # the caller's
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=timeout)

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        async with self.session.post(url, data=body, headers={"Content-Type": "application/json", **headers}) as reply:
            return Reply(reply.status, await reply.read(), _seconds(reply.headers.get("Retry-After")))


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0.0))
    except ValueError:  # the form that names a date
        return 0.0
