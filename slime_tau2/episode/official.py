"""The opt-in cross-check: tau2's own evaluator grades each scored episode again, in a process pool.

It builds the environment anew and replays the conversation, 50 to 800 ms of CPU an episode, so it never runs on the
event loop. What it is given is what an export would hold (`guards.stock_safe`). A score that differs raises
ScoreMismatch and the episode is masked; a worker that dies or hangs is infrastructure.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from slime_tau2 import bench, guards
from slime_tau2.episode import grading, worlds
from slime_tau2.errors import CheckError, ScoreMismatch


class OfficialCheck:
    """A pool of `workers` processes. Share one between all episodes of a process; `close()` ends it.

    `compared` counts the episodes that were graded twice and agreed.
    """

    def __init__(self, workers: int = 1, timeout_s: float = 120.0):
        self.workers, self.timeout_s, self.compared = workers, timeout_s, 0
        self._pool: ProcessPoolExecutor | None = None

    async def compare(
        self, world: worlds.World, task: Any, messages: list, reason: str, answer: str | None, live: dict[str, Any]
    ) -> None:
        """Grade again and compare with the live RewardInfo (JSON, without nulls).

        Raises:
            ScoreMismatch: tau2 scores the episode otherwise; names the fields.
            CheckError: no verdict: the worker died twice, or took longer than `timeout_s`.
        """
        plain = [guards.stock_safe(m.model_dump(mode="json")) for m in messages]
        theirs = await self._grade((world.domain, world.retail_basis, world.retrieval), task.id, plain, reason, answer)
        differing = sorted(k for k in {*live, *theirs} if live.get(k) != theirs.get(k))
        if differing:
            values = "; ".join(f"{k}: live {live.get(k)!r}, tau2 {theirs.get(k)!r}" for k in differing)
            raise ScoreMismatch(f"the live score differs from tau2's in {values}")
        self.compared += 1

    async def _grade(self, *job: Any) -> dict[str, Any]:
        for attempt in range(2):  # a worker's death ends every job of its pool: the others' too
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
            pool = self._pool
            try:
                return await asyncio.wrap_future(pool.submit(grade, self.timeout_s, *job))
            except BrokenProcessPool as error:
                if self._pool is pool:
                    self._pool = None
                if attempt:
                    raise CheckError(
                        f"the process that grades {job[1]} died twice, or took longer than {self.timeout_s} s"
                    ) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def grade(
    timeout_s: float,
    world_of: tuple[str, str, str],
    task_id: str,
    messages: list[dict],
    reason: str,
    answer: str | None,
) -> dict[str, Any]:
    """tau2's RewardInfo (JSON, without nulls) of recorded messages; what its evaluator raises comes back as `error`.

    Args:
        world_of: domain, retail's basis and banking_knowledge's retrieval kind.
    """
    world = worlds.load(*world_of)
    signal.setitimer(
        signal.ITIMER_REAL, timeout_s
    )  # unhandled, SIGALRM ends this process, whatever holds its interpreter
    try:
        simulation = grading.bare_simulation(world.task(task_id), reason, [bench.parse_message(m) for m in messages])
        info = bench.evaluate(simulation, world.task(task_id), world.domain, answer, world.retrieval)
        return info.model_dump(mode="json", exclude_none=True)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
