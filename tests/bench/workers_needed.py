"""How many workers a job needs, by arithmetic: turns per second over what a core plays. `python
tests/bench/workers_needed.py --turn-ms 2.3`.

A live episode takes a turn of the agent's each `--cycle` seconds: the policy's, the user's and tools'. A worker is full
at `--full` of a core: beyond that its episodes wait for each other, and with them the GPUs. The rollout's own process
has the rest of slime to do, so that it plays itself only where that takes half of `--full` at most; else there are two
workers at least: one plays on while the other is replaced.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

PROFILES = Path(__file__).parents[2] / "launch" / "profiles"


def numbers(profile: Path) -> dict[str, int]:
    """What a profile assigns, over the defaults."""
    lines = [
        line.partition("#")[0]
        for name in ("defaults.sh", profile.name)
        for line in (PROFILES / name).read_text(encoding="utf-8").splitlines()
    ]
    return {name: int(value) for line in lines for name, value in re.findall(r"\b([A-Z_0-9]+)=(\d+)\b", line)}


def table(turn_ms: float, cycle_s: float = 2.9, full: float = 0.6) -> str:
    """The profiles that have a machine, in Markdown."""
    lines = ["| profile | live episodes | turns per second | cores | workers | set |", "|---|---|---|---|---|---|"]
    for profile in sorted(PROFILES.glob("*.sh")):
        has = numbers(profile)
        if profile.name == "defaults.sh" or not has["POLICY_GPUS"]:
            continue  # the recipe's own have no machine
        live = has["CONCURRENCY"] * has["POLICY_GPUS"]
        turns = live / cycle_s
        cores = turns * turn_ms / 1e3
        needed = max(2, math.ceil(cores / full)) if cores > full / 2 else 0
        lines.append(
            f"| `{profile.stem}` | {live:,} | {turns:,.0f} | {cores:.2f} | {needed} | {has.get('WORKERS', 0)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--turn-ms", type=float, required=True, help="CPU of a turn, with everything that belongs to it"
    )
    parser.add_argument("--cycle", type=float, default=2.9, help="seconds from one turn of an episode to its next")
    parser.add_argument("--full", type=float, default=0.6, help="of a core")
    options = parser.parse_args()
    print(table(options.turn_ms, options.cycle, options.full))


if __name__ == "__main__":
    main()
