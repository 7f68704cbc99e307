"""python tests/bench/killed_workers.py [--attempts 14] [--every 1.0]

`slime-tau2 eval --workers 2` on retail, whose workers are killed with kill -9 at random times: the tasks' solutions are
played, 74 tasks × `--attempts`, and a random worker dies each `--every` seconds. Where episodes ended as infrastructure
the same command is given again. Prints how many workers died, and how many of the attempts have no score, are scored
twice, and are scored otherwise than 1.0, which each earns.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from slime_tau2.data import records

TASKS = 74
RUNS = 10


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    with suppress(OSError):
        return [int(n) for task in Path(f"/proc/{pid}/task").iterdir() for n in (task / "children").read_text().split()]
    return []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--attempts", type=int, default=14)
    parser.add_argument("--every", type=float, default=1.0)
    given = parser.parse_args()
    rng, killed, runs, started = random.Random(0), 0, 0, time.monotonic()
    arguments = ["--domain", "retail", "--split", "train+val", "--policy", "gold", "--workers", "2"]
    command = [sys.executable, "-m", "slime_tau2.cli", "eval", *arguments, "--attempts", str(given.attempts)]
    with tempfile.TemporaryDirectory() as directory:
        code: int | None = 2
        while code == 2 and runs < RUNS:  # an episode that three workers died of is infrastructure: asked for again
            runs += 1
            with (Path(directory) / "said").open("w") as said:
                whole = [*command, "--concurrency", "16", "--output", f"{directory}/run"]
                run = subprocess.Popen(whole, stdout=said, stderr=subprocess.STDOUT)
                while run.poll() is None:
                    time.sleep(given.every)
                    workers = [pid for nursery in children(run.pid) for pid in children(nursery)]
                    if workers:
                        with suppress(ProcessLookupError):
                            os.kill(rng.choice(workers), signal.SIGKILL)
                            killed += 1
            code = run.returncode
        if code:
            sys.exit(f"eval ended with {code}:\n{(Path(directory) / 'said').read_text()}")
        rows = records.read(Path(directory) / "run" / records.FILE)
        scored = [((r["task_id"], r["attempt"]), r["reward"]) for r in rows if r["reward"] is not None]
    counts, wanted = Counter(attempt for attempt, _ in scored), TASKS * given.attempts
    wrong = sum(reward != 1.0 for _, reward in scored)
    took = f"{time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}"
    print(f"{killed} workers killed, the command given {runs} times, {took}")
    print(
        f"{wanted} attempts: {wanted - len(counts)} without a score, {len(scored) - len(counts)} scored twice, "
        f"{wrong} scored otherwise than 1.0"
    )


if __name__ == "__main__":
    main()
