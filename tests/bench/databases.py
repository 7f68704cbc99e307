"""Ten databases of 25 MB in one process: how long they take to load, and how much memory.

    python tests/bench/databases.py OUTPUT [--count 10] [--megabytes 25]

Writes a task set over that many databases, each tau2's airline database with its reservations repeated under other ids
until it has the size, and loads it in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from slime_tau2.bench.tasks import domain_dir
from slime_tau2.episode import worlds
from slime_tau2.tasksets import writing


def database(path: Path, number: int, megabytes: float) -> None:
    """tau2's own, larger; no two alike."""
    content = json.loads((domain_dir("airline") / "db.json").read_text())
    rows, users = list(content["reservations"].values()), list(content["users"].values())
    users[0]["address"]["zip"] = f"{number:05}"
    size, n = len(json.dumps(content, indent=4)), 0
    while size < megabytes * 1e6:
        row = rows[n % len(rows)] | {"reservation_id": f"X{n:05}"}
        content["reservations"][row["reservation_id"]] = row
        size += len(json.dumps({row["reservation_id"]: row}, indent=4)) * 1.14  # deeper, it is indented more
        n += 1
    path.write_text(json.dumps(content, indent=4))


def memory() -> float:
    """Resident, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def load(directory: Path) -> None:
    """Load the set and tau2's airline, and print what each took; then 1,000 environments."""
    for name in ("airline", str(directory)):
        before, started = memory(), time.process_time()
        world = worlds.load(name)
        took = time.process_time() - started
        print(f"{world.name}: {len(world.stages)} databases, {took:.1f} s of CPU, {memory() - before:.0f} MiB")
    before, started = memory(), time.perf_counter()
    tasks = list(world.tasks.values())
    fresh = [world.stage(tasks[n % len(tasks)]).environments.fresh(tasks[n % len(tasks)]) for n in range(1000)]
    took = time.perf_counter() - started
    print(
        f"{len(fresh)} environments at a time: {1e3 * took / len(fresh):.2f} ms each, {memory() - before:.0f} MiB more"
    )
    started = time.perf_counter()
    world.check()
    print(f"no episode changed a database: checked in {time.perf_counter() - started:.1f} s")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--megabytes", type=float, default=25)
    options = parser.parse_args()
    if (options.output / "set").exists():
        load(options.output / "set")
        return
    options.output.mkdir(parents=True)
    paths = {f"db_{n}": options.output / f"db_{n}.json" for n in range(options.count)}
    for number, path in enumerate(paths.values()):
        database(path, number, options.megabytes)
    tasks = list(worlds.load("airline").tasks.values())
    rows = [
        t.model_dump(mode="json") | {"id": str(n), "database": list(paths)[n % len(paths)]} for n, t in enumerate(tasks)
    ]
    made = writing.write_set(options.output / "set", name="ten", domain="airline", tasks=rows, databases=paths)
    sizes = [(made.directory / both.agent).stat().st_size / 1e6 for both in made.manifest.databases.values()]
    print(f"{len(sizes)} databases of {sum(sizes) / len(sizes):.1f} MB", flush=True)
    subprocess.run([sys.executable, __file__, str(options.output)], check=True)


if __name__ == "__main__":
    main()
