"""What it costs to know what each call did: `python tests/bench/call_watch.py`.

Solutions and altered solutions (`exactness.fuzz`) of each domain are played. Of every call of the agent the CPU time of
the watch is told apart from tau2's own. The first time that a task's write is doubted, its solution is played once
more; that is told apart too.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from exactness import fuzz

from slime_tau2 import bench
from slime_tau2.episode import driver, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.call_watch import CallWatch
from slime_tau2.episode.grading import Grader
from slime_tau2.episode.users import GoldUser

TASKS, FUZZED = 100, 4
spent: dict[str, list[float]] = {}


def timed(kind: str, began: float, less: float = 0.0) -> None:
    spent.setdefault(kind, []).append(1e6 * (time.thread_time() - began - less))


class Timed(CallWatch):
    """A watch that times itself."""

    def _respond(self, message: bench.ToolCall) -> bench.ToolMessage:
        played, answer, began, inner = len(spent.get("gold", ())), self._answer, time.thread_time(), [0.0]

        def timed_answer(message: bench.ToolCall) -> bench.ToolMessage:
            started = time.thread_time()
            result = answer(message)
            inner[0] += time.thread_time() - started
            return result

        self._answer = timed_answer
        result = super()._respond(message)
        self._answer = answer
        if message.requestor == "assistant" and len(spent.get("gold", ())) == played:
            wrong = self._calls[-1].wrong in ("forbidden write", "wrong argument", "repeated write")
            timed("doubted write" if wrong else "call", began, inner[0])
        return result


def main() -> None:
    import slime_tau2.episode.conversation as conversation

    warnings.filterwarnings("ignore", message="Pydantic serializer")
    conversation.CallWatch = Timed  # type: ignore[misc]
    strange = Grader.strange

    def timed_strange(self: Grader, task: bench.Task, changes: object) -> bool:
        began, known = time.thread_time(), len(self._gold_rows)
        found = strange(self, task, changes)
        if len(self._gold_rows) > known:
            timed("gold", began)
        return found

    Grader.strange = timed_strange  # type: ignore[method-assign]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; CPU time, medians")
    for name in ("helpdesk", "retail", "airline", "telecom"):
        spent.clear()
        asyncio.run(play(name))
        found = {kind: statistics.median(values) for kind, values in spent.items()}
        print(
            f"{name:9} {len(spent['call'])} calls: {found['call']:.0f} µs each; "
            f"{len(spent.get('doubted write', ()))} writes proven wrong: {found.get('doubted write', 0):.0f} µs each; "
            f"a task's first doubt {found.get('gold', 0) / 1000:.1f} ms"
        )


async def play(name: str) -> None:
    world = worlds.load(name, retail_basis="communicate")
    for n, task_id in enumerate(list(world.tasks)[:TASKS]):
        task = world.task(task_id)
        altered = [fuzz(task, world, FUZZED * n + seed) for seed in range(FUZZED)]
        for script in (scripts.gold(task), *altered):
            await driver.run_episode(world, task_id, ScriptedAgent(script), GoldUser())


if __name__ == "__main__":
    main()
