"""The page while a training runs: a server on this machine's loopback address that reads the dump whenever it is asked.

It only reads, and answers nobody but a browser that calls it by a name of this machine: no other page can have a
visitor's browser read it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from slime_tau2.errors import ConfigError
from slime_tau2.rollouts import page
from slime_tau2.rollouts.reader import Reader

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost", "[::1]")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Live:
    """Answers for one reader; files are read in a thread, one request at a time."""

    def __init__(self, reader: Reader):
        self.reader = reader
        self._lock = asyncio.Lock()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_only_this_machine])
        app.router.add_get("/", self.page)
        app.router.add_get("/index", self.index)
        app.router.add_get("/rollout/{rollout:\\d+}", self.tokens)
        return app

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text=page.live(), content_type="text/html")

    async def index(self, request: web.Request) -> web.Response:
        """The index; 204 where it is the version that the browser has (`?have=N`)."""
        async with self._lock:
            try:
                await asyncio.to_thread(self.reader.refresh)
            except ConfigError as error:
                return _answer({"error": str(error)})
            if request.query.get("have") == str(self.reader.version):
                return web.Response(status=204)
            return _answer(await asyncio.to_thread(self.reader.index))

    async def tokens(self, request: web.Request) -> web.Response:
        async with self._lock:
            try:
                return _answer(await asyncio.to_thread(self.reader.tokens, int(request.match_info["rollout"])))
            except ConfigError as error:
                return _answer({"error": str(error)})


def _answer(value: Any) -> web.Response:
    response = web.Response(text=json.dumps(value), content_type="application/json")
    response.enable_compression()
    return response


@web.middleware
async def _only_this_machine(request: web.Request, handler: _Handler) -> web.StreamResponse:
    name = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    if name not in NAMES:
        return web.Response(status=403, text=f"ask for this page as {' or '.join(NAMES[:2])}")
    return await handler(request)


def serve(reader: Reader, port: int, told: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `told` hears the address once it listens.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        asyncio.run(_serve(reader, port, told))
    except OSError as error:
        raise ConfigError(
            f"port {port} cannot be listened on ({error.strerror or error}); name another --port"
        ) from error


async def _serve(reader: Reader, port: int, told: Callable[[str], None]) -> None:
    runner = web.AppRunner(Live(reader).app(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        told(f"http://{HOST}:{runner.addresses[0][1]}/")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
