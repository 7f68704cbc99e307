"""A real headless Chromium, driven over its DevTools protocol: open a file, evaluate JavaScript, take a screenshot."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import shutil
from pathlib import Path

import aiohttp

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REASON = "no Chromium (Debian: apt install chromium)"


class Chromium:
    """`async with Chromium(profile_directory) as browser:`; `requests` are the URLs that the page asked for."""

    def __init__(self, profile: Path, size: tuple[int, int] = (1280, 900)):
        self.profile, self.size, self.numbers, self.requests = profile, size, itertools.count(1), []

    async def __aenter__(self):
        command = [
            BINARY,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            f"--user-data-dir={self.profile}",
            f"--window-size={self.size[0]},{self.size[1]}",
            "--hide-scrollbars",
            "about:blank",
        ]
        self.process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        while True:
            line = (await asyncio.wait_for(self.process.stderr.readline(), 60)).decode()
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line):
                break
            assert line, "Chromium ended before it listened"
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://127.0.0.1:{found[1]}/json") as reply:
            target = next(t for t in await reply.json() if t["type"] == "page")
        self.socket = await self.session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        await self.call("Network.enable")
        await self.call("Page.enable")
        return self

    async def __aexit__(self, *exc):
        await self.socket.close()
        await self.session.close()
        self.process.kill()
        await self.process.wait()

    async def call(self, method: str, **params):
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await asyncio.wait_for(self.socket.receive_json(), 60)
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    async def open(self, path: Path, fragment: str = "") -> None:
        """Open a file; `fragment`: what follows it in the address, with its `#`."""
        await self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        for _ in range(600):
            if await self.run("document.readyState") == "complete":
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{path} did not load")

    async def run(self, expression: str):
        """The value of an expression; a promise is awaited."""
        done = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        for _ in range(600):
            if await self.run(f"Boolean({expression})"):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{expression} did not become true")

    async def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the page a size in pixels, and a theme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=theme)
        await self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    async def screenshot(self, path: Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(shot["data"]))
