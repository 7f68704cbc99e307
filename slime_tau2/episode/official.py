"""The opt-in cross-check: tau2's own evaluator grades each scored episode again, in a process pool.

It builds the environment anew and replays the conversation, 50 to 800 ms of CPU per episode, so it never runs on the
event loop. It is given what an export would hold (`guards.stock_safe`). A score that differs raises ScoreMismatch and
the episode is masked; a worker that dies or hangs is infrastructure.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from slime_tau2 import bench, guards
from slime_tau2.episode import grading
from slime_tau2.episode.world import World
from slime_tau2.errors import CheckError, ScoreMismatch


@dataclass(frozen=True, kw_only=True)
class Job:
    """One conversation to grade, as it goes to another process: everything in it is plain, or of ours.

    Attributes:
        spec: what the task's environment is built from, its database by path.
        task: JSON of the task, with the reward basis that it is scored on.
        messages: JSON of the conversation.
        termination: tau2's termination reason by value.
        answer: the judge's.
    """

    spec: bench.EnvironmentSpec
    task: dict[str, Any]
    messages: list[dict[str, Any]]
    termination: str
    answer: str | None = None


class OfficialCheck:
    """A pool of `workers` processes. Share one between all episodes of a process; `close()` ends it.

    `compared` counts the episodes that were graded twice and agreed.
    """

    def __init__(self, workers: int = 1, timeout_s: float = 120.0):
        self.workers = workers
        self.timeout_s = timeout_s
        self.compared = 0
        self._pool: ProcessPoolExecutor | None = None

    async def compare(
        self,
        world: World,
        task: bench.Task,
        *,
        messages: list[bench.Message],
        reason: str,
        answer: str | None,
        live: Mapping[str, Any],
    ) -> None:
        """Grade again and compare with the live RewardInfo (JSON, without nulls).

        Raises:
            ScoreMismatch: tau2 scores the episode otherwise; names the fields.
            CheckError: no verdict: the worker died twice, or took longer than `timeout_s`.
        """
        job = Job(
            spec=world.stage(task).spec,
            task=task.model_dump(mode="json"),
            messages=[guards.stock_safe(m.model_dump(mode="json")) for m in messages],
            termination=reason,
            answer=answer,
        )
        theirs = await self._grade(job, task.id)
        differing = sorted(k for k in {*live, *theirs} if live.get(k) != theirs.get(k))
        if differing:
            values = "; ".join(f"{k}: live {live.get(k)!r}, tau2 {theirs.get(k)!r}" for k in differing)
            raise ScoreMismatch(f"the live score differs from tau2's in {values}")
        self.compared += 1

    async def _grade(self, job: Job, task_id: str) -> dict[str, Any]:
        for attempt in range(2):  # a worker's death ends every job of its pool: the others' too
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
            pool = self._pool
            try:
                return await asyncio.wrap_future(pool.submit(grade, self.timeout_s, job))
            except BrokenProcessPool as error:
                if self._pool is pool:
                    self._pool = None
                    pool.shutdown(wait=False, cancel_futures=True)
                if attempt:
                    raise CheckError(
                        f"the process that grades {task_id} died twice, or took longer than {self.timeout_s} s"
                    ) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the pool, and the jobs that wait in it."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def grade(timeout_s: float, job: Job) -> dict[str, Any]:
    """tau2's RewardInfo (JSON, without nulls) of a job; what its evaluator raises comes back as `error`."""
    import slime_tau2.domains.helpdesk  # noqa: F401  registers the bundled domain

    # unhandled, SIGALRM ends this process, whatever holds its interpreter
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        task = bench.Task.model_validate(job.task)
        messages = [bench.parse_message(m) for m in job.messages]
        simulation = grading.bare_simulation(task, job.termination, messages)
        info = bench.evaluate(simulation, task, job.spec, job.answer)
        return info.model_dump(mode="json", exclude_none=True)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
