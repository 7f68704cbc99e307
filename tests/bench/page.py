"""report.html of 2,000 real-sized conversations: `python tests/bench/page.py DIR`.

The gold solutions of retail, airline and telecom, played over and over into DIR/attempts.jsonl, each sampled token with
a made-up log-prob. Then the seconds and bytes of the page, and in a headless Chromium: first contentful paint, and the
time from a filter's change to the list drawn.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from chromium import BINARY, REASON, Chromium

from slime_tau2.episode import scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import GoldUser
from slime_tau2.evaluation import page

COUNT = 2000


async def play() -> list[dict]:
    out = []
    for domain in ("airline", "retail", "telecom"):
        world = worlds.load(domain, retail_basis="communicate")
        ids = [*world.task_ids("train+val"), *world.task_ids("test")]
        for n in range(COUNT // 3 + 1):
            task_id, rng = ids[n % len(ids)], random.Random(n)
            kind = "gold" if n % 3 else "noop"
            episode = await run_episode(
                world, task_id, ScriptedAgent(scripts.script(kind, world.task(task_id))), GoldUser(), seed=n
            )
            record = {"attempt": n // len(ids), **episode.record()}
            texts = [
                m.get("content") or str(m.get("tool_calls")) for m in record["messages"][1:] if m["role"] == "assistant"
            ]
            pieces = [[[t[i : i + 4], -round(rng.expovariate(3), 2)] for i in range(0, len(t), 4)] for t in texts]
            for turn in record["turns"]:
                turn["end"] = turn["start"] + 1
            out.append(record | {"turn_tokens": pieces})
    return out[:COUNT]


CHANGE = """new Promise(done => {{ const e = document.getElementById('{0}'); e.value = {1}; const t = performance.now();
 e.dispatchEvent(new Event('{2}')); requestAnimationFrame(() => setTimeout(() => done(performance.now() - t))); }})"""


async def look(path: Path) -> tuple[float, float, float, float]:
    with tempfile.TemporaryDirectory() as profile:
        async with Chromium(Path(profile)) as chrome:
            await chrome.open(path)
            paint = await chrome.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            loaded = await chrome.run("performance.timing.loadEventEnd - performance.timing.navigationStart")
            changes = [
                ("f1", "'retail'", "change"),
                ("outcome", "'won'", "change"),
                ("find", "'1'", "input"),
                ("f1", "''", "change"),
                ("outcome", "''", "change"),
                ("find", "''", "input"),
            ] * 5
            times = [await chrome.run(CHANGE.format(*c)) for c in changes]
            opening = [
                await chrome.run(
                    f"(async () => {{ const t = performance.now(); await show({n}); return performance.now() - t; }})()"
                )
                for n in range(0, COUNT, 97)
            ]
    return paint, loaded, max(times), median(opening)


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    records = asyncio.run(play())
    started = time.perf_counter()
    page.write(
        page.Page(
            title="bench",
            runs=[
                page.ShownRun(
                    "gold and noop", records, list(dict.fromkeys((r["domain"], r["task_id"]) for r in records)), 1
                )
            ],
        ),
        directory / "report.html",
    )
    seconds, size = time.perf_counter() - started, (directory / "report.html").stat().st_size
    print(
        f"load {os.getloadavg()[0]:.1f}; {len(records)} conversations: page written in {seconds:.1f} s, {size / 1e6:.1f} MB"
    )
    if BINARY is None:
        raise SystemExit(f"the rest is not measured: {REASON}")
    paint, loaded, slowest, opening = asyncio.run(look(directory / "report.html"))
    print(
        f"first contentful paint {paint:.0f} ms, loaded {loaded:.0f} ms; slowest of 30 filter changes {slowest:.0f} ms; opening one, median {opening:.0f} ms"
    )


if __name__ == "__main__":
    main()
