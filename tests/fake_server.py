"""What the fake servers of the tests share: a real HTTP server for as long as a `with` lasts."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestServer


class FakeServer:
    """`routes`: {path: handler} of POST requests. `async with FakeServer(…) as fake:`; `fake.url` has no slash at its
    end.
    """

    def __init__(self, routes):
        self.app = web.Application(client_max_size=2**26)
        for path, handler in routes.items():
            self.app.router.add_post(path, handler)
        self.server = TestServer(self.app)

    def tells(self, path, value):
        """A GET of `path` is answered with `value` as JSON."""

        async def tell(request):
            return web.json_response(value)

        self.app.router.add_get(path, tell)

    async def __aenter__(self):
        await self.server.start_server()
        self.url = str(self.server.make_url("")).rstrip("/")
        return self

    async def __aexit__(self, *exc):
        await self.server.close()
