"""A job on several nodes, with somebody who counts them: `python3 on_nodes.py NODES GPUS ENTRY.py ARGUMENTS…`.

slime waits without an end for GPUs that nobody will bring: at the start for its placement group, and again after a node
has gone. This runs ENTRY in this very process and counts Ray's nodes beside it. With too few for too long, or one that
is gone, it says so in one line and ends the job with exit code 3; the same launch command resumes. NODES_WAIT_S
(default 300) is how long nodes may take to come.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
import traceback
from typing import Any

PERIOD_S = 3.0
CODE = 3
RESUME = "start the others with launch/node.sh worker and run the same command: it resumes from the last checkpoint"
DEATHS = ("Died", "died", "dead", "Unavailable", "NodeDied", "lost")
"""Words of the errors with which slime ends when a node has gone."""

Node = dict[str, Any]
"""An entry of `ray.nodes()`."""


def say(line: str) -> None:
    print(f"error: {line}", file=sys.stderr, flush=True)


class Count:
    """What Ray's list of nodes says, against what the run needs.

    The members are the nodes with GPUs that were there when there were enough. Any of them that goes ends the job,
    though a spare one may be left: slime takes the first that fit and does not say which. One that goes and comes back
    is another node: its actors are lost. A node that comes later is no member, and may go.

    Args:
        nodes, gpus: how many the run needs.
        wait_s: how long they may take to come.
        started_s: the clock's time now.
    """

    def __init__(self, nodes: int, gpus: int, wait_s: float, started_s: float):
        self.nodes = nodes
        self.gpus = gpus
        self.wait_s = wait_s
        self.started_s = started_s
        self.members: dict[str, str] = {}  # the nodes of the run, {id: address}, once there were enough

    def trouble(self, listed: list[Node], now_s: float) -> str:
        """Why the job cannot go on; empty while it can.

        Args:
            listed: `ray.nodes()`.
        """
        alive = {n["NodeID"]: n for n in listed if n["Alive"]}
        gpus = sum(int(n["Resources"].get("GPU", 0)) for n in alive.values())
        with_gpus = {i: str(n["NodeManagerAddress"]) for i, n in alive.items() if n["Resources"].get("GPU", 0)}
        there = ", ".join(sorted(with_gpus.values())) or "no node"
        shown = f"Ray has {gpus} GPUs on {there}, and this run wants {self.gpus} on {self.nodes} nodes"
        gone = sorted(address for i, address in self.members.items() if i not in with_gpus)
        if gone:
            return f"node {', '.join(gone)} is gone. {shown}; {RESUME}"
        if not self.members:
            if gpus >= self.gpus and len(with_gpus) >= self.nodes:
                self.members = with_gpus
            elif now_s - self.started_s > self.wait_s:
                return f"after {self.wait_s:.0f} s {shown}; {RESUME}"
        return ""


def listed() -> list[Node] | None:
    """Ray's nodes; None before ENTRY has connected, and while Ray does not answer."""
    ray = sys.modules.get("ray")
    try:
        if ray is None or not ray.is_initialized():
            return None
        nodes: list[Node] = ray.nodes()
        return nodes
    except Exception:  # the head's own trouble ends this process anyway
        return None


def watch(count: Count) -> None:
    """Ends this process when there is trouble."""
    while True:
        nodes = listed()
        trouble = "" if nodes is None else count.trouble(nodes, time.monotonic())
        if trouble:
            say(trouble)
            os._exit(CODE)  # the main thread may be anywhere, in C as well
        time.sleep(PERIOD_S)


def last_look(count: Count, patience_s: float = 60.0) -> str:
    """After ENTRY failed: the trouble with nodes that may be why. Ray is asked again and again: it notices late."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        nodes = listed()
        if nodes is None:
            return ""
        trouble = count.trouble(nodes, time.monotonic())
        if trouble:
            return trouble
        time.sleep(1.0)
    return ""


def main(arguments: list[str]) -> int:
    nodes, gpus, entry, *rest = arguments
    count = Count(int(nodes), int(gpus), float(os.environ.get("NODES_WAIT_S", "300")), time.monotonic())
    threading.Thread(target=watch, args=(count,), daemon=True).start()
    sys.argv = [entry, *rest]
    sys.path[0] = os.path.dirname(os.path.abspath(entry))  # as if it had been started itself
    try:
        runpy.run_path(entry, run_name="__main__")
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__} {error}"
        trouble = last_look(count) if any(word in message for word in DEATHS) else ""
        if trouble:
            say(trouble)
            return CODE
        say(
            f"{type(error).__name__}; the lines above say where. The same launch command resumes from the last "
            "checkpoint"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
