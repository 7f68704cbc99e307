"""A fake server in a thread of its own, for commands that run their own event loop, or a process of theirs."""

from __future__ import annotations

import asyncio
import threading


class Serving:
    """`with Serving(FakeOpenAI(…)) as fake:`."""

    def __init__(self, fake):
        self.fake = fake

    def __enter__(self):
        self.loop, ready = asyncio.new_event_loop(), threading.Event()

        async def start():
            await self.fake.__aenter__()
            ready.set()

        def main():
            self.loop.run_until_complete(start())
            self.loop.run_forever()

        threading.Thread(target=main, daemon=True).start()
        assert ready.wait(10)
        return self.fake

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)
