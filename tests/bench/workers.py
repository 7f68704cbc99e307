"""What workers give and cost, with models that answer at once. `python tests/bench/workers.py --tokenizer
outputs/bench/qwen`; Ray's in place of processes: `--ray`, in an environment that has it.

Episodes a second of this process, of one worker and of two, 64 live for each; what an episode costs the parent's CPU,
and what packing and unpacking it takes; the memory of a worker with all domains. Runs alternate; medians of `--runs`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from instant_player import InstantPlayer

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.tokenizer import load_tokenizer
from slime_tau2.workers import wire
from slime_tau2.workers.pool import Pool
from slime_tau2.workers.processes import Processes
from slime_tau2.workers.ray_actors import Actors

LIVE = 64


async def played(play, domain: str, numbers: range, live: int) -> tuple[float, float, list]:
    """(wall seconds, CPU seconds of this process, episodes)."""
    limiter = asyncio.Semaphore(live)

    async def one(number: int):
        async with limiter:
            return await play((domain, number))

    started, cpu = time.perf_counter(), time.process_time()
    episodes = await asyncio.gather(*(one(n) for n in numbers))
    return time.perf_counter() - started, time.process_time() - cpu, episodes


def cpu_ms(work, values: list) -> float:
    """CPU milliseconds a value."""
    clock = time.process_time()
    for value in values:
        work(value)
    return 1e3 * (time.process_time() - clock) / len(values)


def rss_mib(pid: int) -> float:
    """A process's own memory: shared pages count by their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def actors() -> list[int]:
    """Process ids of this machine's Ray workers; Ray gives a process the name of its actor."""
    names = {int(path.parent.name): path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
    return [pid for pid, name in names.items() if name.startswith(b"ray::_Actor")]


async def rows(options) -> None:
    domains = tuple(options.domains)
    tokenizer = load_tokenizer(options.tokenizer)
    make = functools.partial(InstantPlayer, domains, tokenizer)
    carrier = Actors if options.ray else Processes
    pools = {n: Pool(n, carrier(make, n)) for n in (1, 2)}
    here = InstantPlayer(domains, tokenizer)
    for domain in domains:
        tasks = len(here.boxes[domain][0].ids)
        ways = {
            0: lambda job: here.play(job, lambda: False),
            **{n: lambda job, p=pool, t=tasks: p.play(job, job[1] % t) for n, pool in pools.items()},
        }
        for play in ways.values():
            await played(play, domain, range(2 * tasks), LIVE)  # worlds, templates, gold states are warm
        walls, cpus, mine = {n: [] for n in ways}, {n: [] for n in ways}, []
        for run in range(1, options.runs + 1):
            numbers = range(run * options.episodes, (run + 1) * options.episodes)  # words that nobody has tokenised yet
            for n, play in ways.items():
                wall, cpu, episodes = await played(play, domain, numbers, LIVE * max(n, 1))
                walls[n].append(wall)
                cpus[n].append(cpu)
                if n == 0:
                    mine = episodes  # as a worker has them: what came back no longer shares its prompt
        packer, unpacker = wire.Packer(), wire.Unpacker()
        for episode in mine:  # from here on their heads are known
            unpacker.unpack(packer.pack(episode).episode)
        packed = [packer.pack(e).episode for e in mine]
        packing, unpacking = cpu_ms(packer.pack, mine), cpu_ms(unpacker.unpack, packed)
        rate = {n: options.episodes / median(w) for n, w in walls.items()}
        print(
            f"{domain:8} here {rate[0]:6.0f} episodes/s, 1 worker {rate[1]:6.0f}, 2 workers {rate[2]:6.0f} = "
            f"{rate[2] / rate[1]:.2f} times 1 worker; parent's CPU an episode "
            f"{1e3 * median(cpus[2]) / options.episodes:.2f} ms; packed in {packing:.2f} ms by "
            f"the worker, unpacked in {unpacking:.2f} ms by the parent, {sum(map(len, packed)) / len(packed) / 1024:.1f} KiB"
        )
    workers = [place.worker for pool in pools.values() for place in pool._places]
    sizes = [rss_mib(pid) for pid in (actors() if options.ray else [worker.pid for worker in workers])]
    assert len(sizes) == len(workers)
    print(f"memory of a worker with {', '.join(domains)}: {max(sizes):.0f} MiB")
    for pool in pools.values():
        await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=["airline", "retail", "telecom"])
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    if options.ray:
        import ray

        ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": ":".join(sys.path)}})
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {options.episodes} episodes, {options.runs} runs")
    asyncio.run(rows(options))
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
