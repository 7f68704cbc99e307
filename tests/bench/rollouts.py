"""The dump of a rollout, and the page with ten thousand samples: `python tests/bench/rollouts.py DIR`.

First what the log hook spends on rows and dump of a rollout as large as profile 8gpu's: 36 groups of eight episodes of
12,000 tokens behind a prompt of 6,000, half of them sampled, and of two groups the tokens.

A dump of 625 rollouts, each of two groups of eight samples whose tokens are all in it: 400 behind a prompt of 1,500,
half of them sampled, with both log-probs and advantages. Then the CPU seconds and bytes of writing it all and of the
page; and in a headless Chromium, by file://: first contentful paint, the time until the lists are drawn and can be
used (the page says so itself), opening a sample, and a filter's change.
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
from rollout_dumps import large_part

from slime_tau2.config import Tau2Config
from slime_tau2.dumps.store import FOLDER, Dump
from slime_tau2.hooks import rewards, rollout_dump
from slime_tau2.hooks.rollout_rows import group_rows
from slime_tau2.hooks.stand_ins import Sample
from slime_tau2.rollouts import page
from slime_tau2.rollouts.found import find
from slime_tau2.rollouts.reader import Reader

STEPS, GROUPS, SIZE, TOKENS = 625, 2, 8, 400
OPENS = 5
FILTER = """new Promise(done => {{ const e = document.getElementById('{0}'); e.value = '{1}'; const t = performance.now();
 e.dispatchEvent(new Event('{2}')); requestAnimationFrame(() => setTimeout(() => done(performance.now() - t))); }})"""
OPEN = """new Promise(done => {{ const t = performance.now(); location.hash = '#{0}'; const w = setInterval(() => {{
 if (document.getElementById('crumbs').lastChild?.textContent === 'sample {1}') {{ clearInterval(w); done(performance.now() - t); }} }}, 1); }})"""


class Decoder:
    def decode(self, token_ids, *, skip_special_tokens=False):
        return f"w{token_ids[0]} "


def hook(directory: Path) -> None:
    rng = random.Random(0)
    config = Tau2Config(credit="call")
    prompt = [rng.randrange(150_000) for _ in range(6000)]
    words = [rng.randrange(150_000) for _ in range(5000)]
    samples = []
    for index in range(36 * 8):
        mask = ([1] * 100 + [0] * 100) * 60
        sample = Sample(index=index, group_index=index // 8, metadata={"domain": "retail", "task_id": str(index // 8)})
        sample.tokens, sample.response_length, sample.loss_mask = [*prompt, *rng.choices(words, k=12_000)], 12_000, mask
        sample.rollout_log_probs = [-rng.expovariate(3) * m for m in mask]
        sample.reward, sample.status = float(rng.random() < 0.4), Sample.Status.COMPLETED
        sample.metadata["tau2"] = {
            "termination": "user_stop",
            "partial": 0.5,
            "turn_gains": [0.01] * 60,
            "turn_calls": [[] for _ in range(60)],
        }
        samples.append(sample)
    started = time.process_time()
    decided = rewards.decide(config, samples)
    rows = group_rows(config, samples, decided.advantages, {})
    told = rollout_dump.Told(
        rollout=0,
        seconds=1.0,
        figures={},
        rows=rows,
        waiting=0,
        samples=samples,
        per_token=decided.per_token,
    )
    size = Dump(directory / "hook").write_rollout(rollout_dump.part(config, told, Decoder()))
    spent = time.process_time() - started
    print(
        f"load {os.getloadavg()[0]:.1f}; rows of 36 groups and tokens of {config.dump}: {spent:.2f} s of CPU, {size / 1e6:.2f} MB"
    )


def trainer(part: dict) -> dict:
    told = [{k: s[k] for k in ("sample", "crc", "log_probs", "advantages")} | {"at": None} for s in part["samples"]]
    return {"format": part["format"], "rollout": part["rollout"], "samples": told}


async def look(path: Path) -> tuple[list[float], list[float], list[float], list[float], list[float]]:
    paints, ready, cpu = [], [], []
    for _ in range(OPENS):
        with tempfile.TemporaryDirectory() as profile:
            async with Chromium(Path(profile)) as chrome:
                await chrome.call("Performance.enable")
                await chrome.open(path)
                await chrome.until("window.pageReady > 0")
                metrics = (await chrome.call("Performance.getMetrics"))["metrics"]
                cpu.append(1e3 * next(m["value"] for m in metrics if m["name"] == "ProcessTime"))
                paints.append(await chrome.run("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                ready.append(await chrome.run("window.pageReady"))
                if len(ready) < OPENS:
                    continue
                opened = []
                for n in range(0, STEPS, 40):
                    group, sample = n * GROUPS, n * GROUPS * SIZE
                    opened.append(await chrome.run(OPEN.format(f"{n}/{group}/{sample}", sample)))
                await chrome.run("document.querySelector('[data-tab=samples]').click()")
                changes = [("outcome", "won", "change"), ("find", "orders_7", "input"), ("outcome", "", "change")] * 5
                times = [await chrome.run(FILTER.format(*change)) for change in changes]
    return paints, ready, cpu, opened, times


def main() -> None:
    directory = Path(sys.argv[1])
    hook(directory)
    dump = Dump(directory / FOLDER)
    spent, written = 0.0, 0
    for n in range(STEPS):
        part = large_part(n, groups=GROUPS, size=SIZE, tokens=TOKENS)
        started = time.process_time()
        written += dump.write_rollout(part) + dump.write_trainer(trainer(part), rank=0)
        spent += time.process_time() - started
    count = STEPS * GROUPS * SIZE
    print(f"load {os.getloadavg()[0]:.1f}; {count} samples of {TOKENS} tokens")
    print(f"dump: {1e3 * spent / STEPS:.0f} ms of CPU a rollout, {written / STEPS / 1e3:.0f} kB a rollout")
    started = time.process_time()
    reader = Reader(find(directory))
    reader.refresh()
    read = time.process_time() - started
    without = page.write(reader, directory / "rollouts.html")
    seconds, size = time.process_time() - started, (directory / "rollouts.html").stat().st_size
    print(
        f"page: {read:.1f} s of CPU to read, {seconds - read:.1f} s to write, {size / 1e6:.1f} MB, {without} without tokens"
    )
    if BINARY is None:
        raise SystemExit(f"the rest is not measured: {REASON}")
    paints, ready, cpu, opened, times = asyncio.run(look(directory / "rollouts.html"))
    print(
        f"load {os.getloadavg()[0]:.1f}; first contentful paint {median(paints):.0f} ms (worst of {OPENS} {max(paints):.0f}); lists drawn and usable "
        f"{median(ready):.0f} ms (worst {max(ready):.0f}; CPU of the whole file's loading {median(cpu):.0f}); opening a sample, median {median(opened):.0f} ms (worst "
        f"{max(opened):.0f}); slowest of {len(times)} filter changes {max(times):.0f} ms"
    )


if __name__ == "__main__":
    main()
