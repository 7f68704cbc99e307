"""How bytes get to a server and back: what an answer is, what a transport must do, and our own one, over aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp


@dataclass(frozen=True)
class Response:
    """An HTTP answer. `retry_after_s` is what the server asked for, 0 without one."""

    status: int
    body: bytes
    retry_after_s: float = 0.0


class Unreachable(ConnectionError):
    """Nobody was there to be asked."""


Transport = Callable[[str, bytes, Mapping[str, str]], Awaitable[Response]]
"""(url, body, headers) -> the answer; raises OSError or aiohttp.ClientError where there is none."""


class Connection(Protocol):
    """A transport that belongs to one event loop."""

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response: ...

    async def close(self) -> None: ...


class AiohttpTransport:
    """One session of one event loop; no cap of its own on connections (the limiter is the cap)."""

    def __init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None)  # the caller's
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=timeout
        )

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        sent = {"Content-Type": "application/json", **headers}
        async with self.session.post(url, data=body, headers=sent, allow_redirects=False) as reply:
            moved = redirected(reply.status, reply.headers.get("Location"))
            return moved or Response(reply.status, await reply.read(), seconds(reply.headers.get("Retry-After")))

    async def close(self) -> None:
        await self.session.close()


def redirected(status: int, location: str | None) -> Response | None:
    """A redirect is not followed: its server would see a conversation, or a key, that was meant for another."""
    if 300 <= status < 400:
        return Response(
            status,
            f"it sends elsewhere, to {location}: name that URL instead, if it is to see the conversations".encode(),
        )
    return None


def seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0.0))
    except ValueError:  # the form that names a date
        return 0.0
