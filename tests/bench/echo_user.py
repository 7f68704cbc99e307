"""A chat-completions server that waits `seed` milliseconds and says yes; prints its port. For `micro.py`."""

import asyncio

from aiohttp import web


async def complete(request: web.Request) -> web.Response:
    body = await request.json()
    await asyncio.sleep(body["seed"] / 1e3)
    return web.json_response(
        {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}]}
    )


async def main() -> None:
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
