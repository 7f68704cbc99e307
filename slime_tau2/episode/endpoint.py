"""One HTTP server that episodes talk to: limiter, time-out, retries with back-off, counted faults, and a circuit for
one that is gone.

What is sent and how a reply is read belong to the clients (`policy.py`, `openai_chat.py`). Bodies are bytes that the
caller has serialised; nothing is serialised twice. Sessions and limiters are per event loop. The transport can be
replaced: a benchmark answers in the same process.
"""

from __future__ import annotations

import asyncio
import json
import random
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import aiohttp
import orjson

from slime_tau2.episode.circuit import Circuit
from slime_tau2.episode.deadlines import Deadlines
from slime_tau2.episode.transport import AiohttpTransport, Connection, Response, Transport, Unreachable
from slime_tau2.errors import InfrastructureError
from slime_tau2.limits import Retries

T = TypeVar("T")
RETRIABLE = (408, 425, 429)
"""The refusals (3xx, 4xx) that may go away by themselves."""
MAX_PAUSE_S = 8.0
ROUTING_HEADER = "X-SMG-Routing-Key"
"""By which the router tells one conversation from another, under `consistent_hashing` (slime's fork) and `manual`."""


class Garbage(ValueError):
    """A reply that arrived and cannot be used. `kind` is the name it is counted under."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class _Trouble(Exception):
    """One try that gave no result. `kind` is what it is counted under; `pause_s` is what the server asked for; `final`:
    it refused.
    """

    def __init__(self, kind: str, message: str, pause_s: float = 0.0, final: bool = False):
        super().__init__(message)
        self.kind, self.pause_s, self.final = kind, pause_s, final


class _Here(NamedTuple):
    """What an endpoint has in one event loop."""

    send: Transport
    limiter: asyncio.Semaphore
    deadlines: Deadlines


@dataclass(kw_only=True)
class Endpoint:
    """One URL, and everything that is asked of it in this process.

    Attributes:
        failure: `failure(message)` is raised when tries run out or the server refuses; its `kind` is that of the last
            try.
        concurrency: requests at a time; the others queue here.
        hint: added to a refusal (401 and 403); names the fix.
        spent: called with what every answer cost: its JSON, or None where nobody will know (no JSON, or a request that
            was sent and not answered).
        transport: sends the requests in place of a connection; a benchmark answers in the same process.
        connect: makes the connection of an event loop.
        faults: failed tries by kind (`http_500`, `timeout`, `connection`, `garbage`, `empty`, …), those that a retry
            mended too.
    """

    url: str
    failure: Callable[[str], InfrastructureError]
    concurrency: int = 256
    retries: Retries = Retries()
    hint: str = ""
    spent: Callable[[Any], None] = lambda answer: None
    transport: Transport | None = None
    connect: Callable[[], Connection] = AiohttpTransport
    faults: Counter[str] = field(default_factory=Counter)
    circuit: Circuit = field(default_factory=Circuit)
    _per_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )
    _connections: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Connection] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )

    async def post(self, body: Callable[[int], bytes], read: Callable[[Any], T], headers: Mapping[str, str]) -> T:
        """Post until `read` accepts the JSON of an answer.

        Args:
            body: the bytes of the n-th try (from 0).
            read: parsed JSON -> the result; raises Garbage, or what a wrong shape raises (KeyError, TypeError,
                ValueError).

        Raises:
            InfrastructureError: `failure` of a message that names the URL, the number of tries and the last trouble.
        """
        with self.circuit:
            return await self._tried(body, read, headers)

    async def once(self, body: bytes, read: Callable[[Any], T], headers: Mapping[str, str], timeout_s: float) -> T:
        """One try, beside the limiter and the circuit, for whoever wants to know what the server does now. Raises as
        `post` does.
        """
        here = self._here()._replace(deadlines=Deadlines(timeout_s))
        try:
            return await self._try(here, body, read, headers)
        except _Trouble as trouble:
            raise self._failure(
                f"{self.url} {'refused' if trouble.final else 'failed'}: {trouble}", trouble
            ) from trouble

    def silence(self) -> float:
        """Seconds since the last answer of any status while somebody waits for one, retries and pauses included; 0.0
        while nobody does.
        """
        return self.circuit.silence()

    async def _tried(self, body: Callable[[int], bytes], read: Callable[[Any], T], headers: Mapping[str, str]) -> T:
        here = self._here()
        last: _Trouble | None = None
        tries = self.retries.count + 1
        for attempt in range(tries):
            if last is not None:
                backoff = min(self.retries.backoff_s * 2 ** (attempt - 1), MAX_PAUSE_S) * random.uniform(0.75, 1.25)
                await asyncio.sleep(max(backoff, min(last.pause_s, 4 * MAX_PAUSE_S)))
            if not await self._anybody_there():
                break
            asked_all_the_same = self.circuit.open
            try:
                async with here.limiter:
                    if self.circuit.open and not asked_all_the_same:
                        break  # it opened while this one waited for its turn
                    return await self._try(here, body(attempt), read, headers)
            except _Trouble as trouble:
                last = trouble
                self.faults[trouble.kind] += 1
                if trouble.final:
                    raise self._failure(f"{self.url} refused: {trouble}", trouble) from trouble
        else:
            raise self._failure(f"{self.url} failed {tries} times, the last time with: {last}", last)
        raise self._failure(
            f"{self.url} has answered none of the last {self.circuit.silent} tries; "
            f"{last or 'it is not asked again yet'}",
            last,
        )

    async def _try(self, here: _Here, body: bytes, read: Callable[[Any], T], headers: Mapping[str, str]) -> T:
        pause = 0.0
        try:
            reply = await self._sent(here, body, headers)
            self.circuit.answered()
            pause = reply.retry_after_s
            if reply.status == 200:
                return read(self._opened(reply))
        except TimeoutError:
            self.circuit.unanswered()
            raise _Trouble("timeout", f"no answer within {here.deadlines.seconds} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self.circuit.unanswered()
            raise _Trouble("connection", f"{type(error).__name__}: {error}") from error
        except Garbage as error:
            raise _Trouble(error.kind, str(error), pause) from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise _Trouble("garbage", f"{type(error).__name__}: {error}", pause) from error
        final = 300 <= reply.status < 500 and reply.status not in RETRIABLE
        hint = f"; {self.hint}" if self.hint and reply.status in (401, 403) else ""
        refusal = f"HTTP {reply.status} {reply.body[:300].decode(errors='replace')}{hint}"
        raise _Trouble(f"http_{reply.status}", refusal, pause, final)

    def _failure(self, message: str, trouble: _Trouble | None) -> InfrastructureError:
        error = self.failure(message)
        error.kind = trouble.kind if trouble is not None else ""
        return error

    async def _sent(self, here: _Here, body: bytes, headers: Mapping[str, str]) -> Response:
        try:
            async with here.deadlines.next():
                return await here.send(self.url, body, headers)
        except (aiohttp.ClientConnectorError, Unreachable):
            raise  # nobody was there to work on it
        except BaseException:
            self.spent(None)
            raise

    def _opened(self, reply: Response) -> Any:
        try:
            answer = _parsed(reply.body)
        except ValueError:
            self.spent(None)
            raise
        self.spent(answer)
        return answer

    async def _anybody_there(self) -> bool:
        """Whether to ask at all; where the circuit is open, after the longest pause that a retry would have made."""
        if self.circuit.lets_through():
            return True
        await asyncio.sleep(min(MAX_PAUSE_S, 16 * self.retries.backoff_s))
        return self.circuit.lets_through()

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._per_loop.get(loop)
        if here is None:
            send = self.transport
            if send is None:
                send = self._connections[loop] = self.connect()
            here = _Here(send, asyncio.Semaphore(self.concurrency), Deadlines(self.retries.timeout_s))
            self._per_loop[loop] = here
        elif here.deadlines.seconds != self.retries.timeout_s:
            here = self._per_loop[loop] = here._replace(deadlines=Deadlines(self.retries.timeout_s))
        return here

    async def close(self) -> None:
        """Close this event loop's connections."""
        loop = asyncio.get_running_loop()
        self._per_loop.pop(loop, None)
        connection = self._connections.pop(loop, None)
        if connection is not None:
            await connection.close()


def _parsed(body: bytes) -> Any:
    """JSON. What the quicker parser refuses and `json.loads` does not, half a surrogate pair or NaN, is left to that;
    whole numbers beyond 64 bits become floats.
    """
    try:
        return orjson.loads(body)
    except ValueError:
        return json.loads(body)
