"""How long an evaluation takes to end, clearly, where its policy's server is wrong: `python
tests/bench/dead_servers.py`.

helpdesk's 150 test tasks, four at a time, through `slime-tau2 eval` in a process of its own. The time is that of the
whole command; beside it the same command with a dry run, which is what starting Python and loading the domain takes.
The servers that die or hang do so when the 25th conversation begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

import tokenizers_that_differ as differ
from aiohttp import web
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy, teacher_reply
from fake_server import FakeServer

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.tokenizer import load_tokenizer

LAST = 24
"""Conversations that a server which dies or hangs takes up."""
CASES = (
    "nothing listens",
    "errs (HTTP 500)",
    "hangs",
    "wrong model",
    "wrong tokenizer",
    "dies after 20",
    "hangs after 20",
    "errs after 20",
)


class Mortal(FakePolicy):
    """The helpdesk teacher, until its 25th conversation."""

    def __init__(self, kind: str):
        super().__init__(load_tokenizer(TOKENIZER), teacher_reply(0.0))
        self.kind, self.seen = kind, {}

    async def _generate(self, request):
        key = request.headers.get("X-SMG-Routing-Key")
        if key is not None:
            self.seen.setdefault(key, teacher_reply(0.0, seed=key))
        if len(self.seen) > LAST and "after" in self.kind:
            if self.kind.startswith("dies"):
                os._exit(1)
            if self.kind.startswith("errs"):
                return web.json_response({"error": "out of memory"}, status=500)
            await asyncio.sleep(3600)
        return await super()._generate(request)

    def reply_to(self, request):
        return self.seen[request.headers["X-SMG-Routing-Key"]]


async def serve(kind: str) -> None:
    async def broken(request):
        await asyncio.sleep(3600 if kind == "hangs" else 0)
        return web.json_response({"error": "out of memory"}, status=500)

    if kind in ("hangs", "errs (HTTP 500)"):
        fake = FakeServer({})
        fake.app.router.add_route("*", "/{path:.*}", broken)
    elif kind == "wrong model":
        fake = FakeOpenAI([web.Response(status=404, text="no such model")])
        fake.tells("/v1/models", {"data": [{"id": "qwen-4b"}]})
    else:
        fake = Mortal(kind)
    async with fake:
        print(fake.url, flush=True)
        await asyncio.sleep(3600)


def command(url: str, kind: str, directory: Path) -> list[str]:
    tokenizer = differ.permuted(directory / "tokenizer") if kind == "wrong tokenizer" else TOKENIZER
    policy = (
        ["--policy", url, "--model", "qwen-40b"]
        if kind == "wrong model"
        else ["--policy", url, "--tokenizer", str(tokenizer)]
    )
    rest = ["--domain", "helpdesk", "--concurrency", "4", "--output", str(directory / "run")]
    return [sys.executable, "-m", "slime_tau2.cli", "eval", *policy, *rest]


def timed(words: list[str]) -> tuple[float, subprocess.CompletedProcess]:
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    return time.perf_counter() - started, done


def main() -> None:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as temporary:
        dry, _ = timed([*command(nobody, "", Path(temporary)), "--dry-run"])
    print(
        f"load {os.getloadavg()[0]:.1f}; a dry run takes {dry:.1f} s\n\n| the server | seconds | exit code | scored and kept | what it says |\n|---|---|---|---|---|"
    )
    for kind in CASES:
        words = [sys.executable, "-W", "ignore", __file__, "--serve", kind]
        child = None if kind == "nothing listens" else subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            url = nobody if child is None else child.stdout.readline().strip()
            with tempfile.TemporaryDirectory() as temporary:
                seconds, done = timed(command(url, kind, Path(temporary)))
                records = Path(temporary) / "run" / "attempts.jsonl"
                lines = records.read_text().splitlines() if records.exists() else []
                kept = sum(json.loads(line)["reward"] is not None for line in lines)
            said = next((line for line in done.stderr.splitlines() if line.startswith("error: ")), done.stderr[-200:])
            print(
                f"| {kind} | {seconds:.1f} | {done.returncode} | {kept} | {said[:160].replace(url, 'URL')}… |",
                flush=True,
            )
        finally:
            if child is not None:
                child.kill()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2])) if "--serve" in sys.argv else main()
