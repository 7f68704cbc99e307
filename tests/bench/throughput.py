"""Episodes a minute side by side: ours, tau2's own runner, AgentGymEnv, strands-env. `python
tests/bench/throughput.py`.

Every row plays the same gold conversations (writes included) against the same models (`model_servers.py`), each in a
process of its own, one after the other. The bound is what the models' latencies alone would take: the waits of the
conversations, put on N slots in order. Prints a table, writes DIR/throughput.json and DIR/throughput.png. With
`--micro` instead: CPU seconds of the parts; with `--cpu`: CPU of an agent's turn, by part (`parts.py`).

`--domains retail --rows "ours, in process" --live 64` narrows it. `taskset --cpu-list 0,1 python …` leaves two cores to
us and our workers, and all others to the `--servers N` processes that serve the models.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import drivers
import psutil
from in_slime import GROUP
from long_conversations import READS, LongModelServers
from model_servers import ModelServers
from parts import LOOP, PARTS, milliseconds, sampled
from transformers import AutoTokenizer

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.looplag import LoopLag, percentile

LIVE = (1, 32, 64, 512, 1024, 2048)
EPISODES = {1: 6, 32: 128, 64: 256, 512: 2048, 1024: 2048, 2048: 4096}
LONG = {64: 128, 512: 512}
"""Episodes of the rows of long conversations, each as long as five others."""
PEERS = {1: 4, 32: 64, 64: 128}
"""Half as many for the others, which take longer; none from 512 on."""
IN_PROCESS = ("ours, in process", "ours, long")
SERVED = ("ours", "strands", "gym")
BLOCKING = 8
"""Episodes of the rows that play one at a time whatever N is."""


def bound_s(waits: list[float], slots: int) -> float:
    """Wall time of conversations that only wait, started in order on `slots` slots."""
    free = [0.0] * slots
    for wait in waits:
        heapq.heappush(free, heapq.heappop(free) + wait)
    return max(free)


def is_long(row: str) -> bool:
    return row.startswith("ours, long")


def episodes(row: str) -> dict[int, int]:
    """{live: episodes} of a row."""
    if "blocking" in row:
        return {64: BLOCKING}
    if is_long(row):
        return LONG
    if row == "ours, in process":
        return EPISODES
    many = (64, 512, 1024, 2048)
    served = {"ours": (*PEERS, 512), "ours, 2 workers": many, "ours, in slime": many, "ours, in slime, 2 workers": many}
    return {live: EPISODES[live] for live in served[row]} if row in served else PEERS


def measure(row: str, domain: str, live: int, tokenizer: Path, *, by_part: bool = False, apart: int = 1) -> dict:
    """Run one row in this process, its workers and `apart` processes that serve the models over HTTP."""
    kind = LongModelServers if is_long(row) else ModelServers
    servers = kind(domain, AutoTokenizer.from_pretrained(tokenizer))
    count = episodes(row)[live]
    if row in IN_PROCESS:
        servers.prepare(count)
    children = serve(row, domain, tokenizer, apart) if row.startswith(SERVED) and row not in IN_PROCESS else {}
    urls = tuple(children)
    driver, found = drivers.ROWS[row], Counter()

    def cpu_s() -> float:
        """CPU of this process and its workers, not of those that serve the models."""
        served = {child.pid for child in children.values()}
        others = [p for p in psutil.Process().children(recursive=True) if p.pid not in served]
        return time.process_time() + sum(sum(p.cpu_times()[:2]) for p in others)

    async def run() -> tuple[list[float], float, float, list[float], Served]:
        if row.startswith("ours"):  # worlds, templates and code are warm, as they are after an engine's first second
            in_slime = "in slime" in row
            warm = len(servers.ids) // GROUP * GROUP if in_slime or "workers" in row else GROUP
            fresh = servers if urls else kind(domain, servers.tokenizer)
            await driver(fresh, min(count, warm), live if in_slime else warm, urls)
        elif not row.startswith(("tau2", "gym")):
            await driver(servers, 4, 4, urls)
        before = _served(servers, urls)
        cpu, started = cpu_s(), time.perf_counter()
        with sampled() if by_part else nullcontext(Counter()) as samples:
            async with LoopLag() as lag:
                rewards = await driver(servers, count, live, urls)
        found.update(samples)
        wall, cpu = time.perf_counter() - started, cpu_s() - cpu
        served = _served(servers, urls).since(before)
        await drivers.close_what_is_shared()
        return rewards, wall, cpu, lag.lags_ms, served

    try:
        rewards, wall, cpu, lags, served = asyncio.run(run())
    finally:
        for child in children.values():
            child.kill()
    waits = [served.waited[n] for n in sorted(served.waited)]
    alone = "blocking" in row  # few episodes, one at a time: the bound is the rate that `live` at a time would have
    ideal = sum(waits) / live if alone else bound_s(waits, live)
    return {
        "row": row,
        "domain": domain,
        "live": live,
        "episodes": count,
        "won": sum(r == 1.0 for r in rewards),
        "wall_s": wall,
        "per_minute": 60 * count / wall,
        "of_bound": ideal / wall,
        "cpu_ms": 1e3 * cpu / count,
        "lag_p99_ms": percentile(lags, 0.99),
        "lag_max_ms": max(lags, default=0.0),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "load": os.getloadavg()[0],
        "turns": served.turns / count,
        "tokens": sum(served.lengths.values()) / max(1, len(served.lengths)),
        "parts_ms": milliseconds(found, cpu, served.turns) if by_part else {},
    }


def serve(row: str, domain: str, tokenizer: Path, count: int) -> dict[str, subprocess.Popen[str]]:
    """{url: process} of the models' servers. They get the cores that this process does not have, where there are any."""
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    kind = "long" if is_long(row) else "short"
    command = [sys.executable, str(HERE / "model_servers.py"), kind, domain, str(tokenizer)]
    if others:
        command = ["taskset", "--cpu-list", ",".join(map(str, sorted(others))), *command]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return {f"http://127.0.0.1:{int(child.stdout.readline())}": child for child in started}


class Served(NamedTuple):
    """What all servers of the models have served.

    Attributes:
        waited: {conversation: seconds that the models kept it waiting}.
        turns: of the policy.
        lengths: {conversation: tokens at its end}; none of the rows that have no tokens.
    """

    waited: dict[int, float]
    turns: int
    lengths: dict[int, int]

    def since(self, before: Served) -> Served:
        waited = {n: seconds - before.waited.get(n, 0.0) for n, seconds in self.waited.items()}
        return Served(waited, self.turns - before.turns, self.lengths)


def _served(servers: ModelServers, urls: Sequence[str]) -> Served:
    if not urls or servers.waited:
        return Served(dict(servers.waited), servers.policy_turns(), servers.lengths())
    waited: dict[int, float] = {}
    lengths: dict[int, int] = {}
    turns = 0
    for url in urls:
        with urllib.request.urlopen(f"{url}/served") as reply:
            told = json.loads(reply.read())
        waited |= {int(n): s for n, s in told["waited"].items()}
        lengths |= {int(n): length for n, length in told["lengths"].items()}
        turns += told["turns"]
    return Served(waited, turns, lengths)


def in_own_process(options: argparse.Namespace, row: str, domain: str, live: int) -> subprocess.CompletedProcess[str]:
    """Run one row in a process of its own."""
    own = ["--one", "--rows", row, "--domains", domain, "--live", str(live), "--tokenizer", str(options.tokenizer)]
    own += ["--servers", str(options.servers), *(["--cpu"] if options.cpu else [])]
    return subprocess.run([sys.executable, __file__, *own], capture_output=True, text=True)


def by_part(options: argparse.Namespace) -> None:
    """Print the CPU of an agent's turn by part, of our rows in process."""
    print(
        f"CPU ms a turn{'':5} {'domain':8} {'N':>4} {'turns':>5} {'tokens':>6} {'all':>6} {'  '.join((*PARTS, LOOP))}"
    )
    for row in (row for row in options.rows if row in IN_PROCESS):
        for domain in options.domains:
            for live in (live for live in options.live if live in episodes(row)):
                if is_long(row) and domain not in READS:
                    continue
                done = in_own_process(options, row, domain, live)
                if done.returncode:
                    raise SystemExit(done.stderr)
                r = json.loads(done.stdout.splitlines()[-1])
                parts = "  ".join(f"{ms:{len(part)}.2f}" for part, ms in r["parts_ms"].items())
                print(
                    f"{row:18} {domain:8} {live:4} {r['turns']:5.1f} {r['tokens']:6.0f} {r['cpu_ms'] / r['turns']:6.2f} {parts}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=["airline", "retail", "telecom"])
    parser.add_argument("--rows", nargs="+", default=list(drivers.ROWS), choices=list(drivers.ROWS))
    parser.add_argument("--live", nargs="+", type=int, default=list(LIVE), choices=LIVE)
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="directory; by default helpdesk's")
    parser.add_argument("--servers", type=int, default=1, help="processes that serve the models, where they are apart")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"))
    parser.add_argument("--micro", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.micro:
        from micro import main as micro

        micro(options.domains, options.tokenizer)
        return
    if options.one:
        row, domain, live = options.rows[0], options.domains[0], options.live[0]
        print(json.dumps(measure(row, domain, live, options.tokenizer, by_part=options.cpu, apart=options.servers)))
        return
    if options.cpu:
        by_part(options)
        return
    results, failed = [], 0
    print(
        f"{'':18} {'domain':8} {'N':>4} {'episodes/min':>12} {'of bound':>9} {'CPU ms/ep.':>10} {'/turn':>5} {'lag p99, max ms':>16} {'RSS MiB':>8} {'won':>10} {'load':>5}"
    )
    for row in options.rows:
        why = drivers.absent(row)
        if why:
            print(f"{row:18} skipped: {why}")
            continue
        for domain in options.domains:
            for live in options.live:
                if live not in episodes(row) or (is_long(row) and domain not in READS):
                    continue
                done = in_own_process(options, row, domain, live)
                if done.returncode:
                    print(f"{row:18} {domain:8} {live:4} failed: {done.stderr.strip().splitlines()[-1]}")
                    failed += 1
                    continue
                r = json.loads(done.stdout.splitlines()[-1])
                results.append(r)
                per_turn = f"{r['cpu_ms'] / r['turns']:.2f}" if r["turns"] else "–"
                lag = f"{r['lag_p99_ms']:.0f}, {r['lag_max_ms']:.0f}" if r["lag_max_ms"] else "never free"
                print(
                    f"{row:18} {domain:8} {live:4} {r['per_minute']:12.0f} {100 * r['of_bound']:8.1f}% {r['cpu_ms']:10.1f} {per_turn:>5} {lag:>16} {r['rss_mib']:8.0f} "
                    f"{r['won']:>4}/{r['episodes']:<5} {r['load']:5.1f}",
                    flush=True,
                )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "throughput.json").write_text(json.dumps(results, indent=1))
    if results:
        plot(results, options.output / "throughput.png")
    if failed:
        raise SystemExit(f"{failed} rows failed: the table is not whole")


def plot(results: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    domains = sorted({r["domain"] for r in results})
    figure, axes = plt.subplots(
        1, len(domains), figsize=(4.2 * len(domains), 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, domain in zip(axes[0], domains):
        for row in dict.fromkeys(r["row"] for r in results):
            points = sorted((r["live"], r["per_minute"]) for r in results if (r["row"], r["domain"]) == (row, domain))
            if points:
                axis.plot(*zip(*points), marker="o", label=row)
        bounds = sorted(
            (r["live"], r["per_minute"] / r["of_bound"])
            for r in results
            if (r["row"], r["domain"]) == ("ours, in process", domain)
        )
        if bounds:
            axis.plot(*zip(*bounds), color="0.6", linestyle=":", label="latency bound")
        axis.set(title=domain, xscale="log", yscale="log", xlabel="live episodes")
        axis.set_xticks(LIVE, [str(n) for n in LIVE])
        axis.xaxis.set_minor_locator(plt.NullLocator())
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("episodes a minute")
    axes[0][-1].legend(fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
