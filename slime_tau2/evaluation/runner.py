"""Runs attempts at tasks, all concurrently under a cap, and appends each record as it finishes.

The plan is written first. A killed run resumes: attempts that have a score are not run again, those that infrastructure
ended are. Sampling and users derive from (seed, domain, task, attempt), so a resumed run makes the attempts that the
first would have made. A run that meets nothing but failing servers ends soon, with the cause.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from slime_tau2 import files, manifest
from slime_tau2.data import records
from slime_tau2.episode.harness import close_all
from slime_tau2.episode.world import World
from slime_tau2.errors import EvaluationStopped
from slime_tau2.evaluation import coverage, runs, scores
from slime_tau2.evaluation.coverage import Coverage
from slime_tau2.evaluation.plan import SUMMARY, RunPlan, TaskKey
from slime_tau2.looplag import LoopLag
from slime_tau2.record import AttemptRecord
from slime_tau2.seeds import derive_seed
from slime_tau2.silence import Silence
from slime_tau2.types import Episode

MIN_IN_A_ROW, MAX_IN_A_ROW = 4, 16
WITHOUT_A_SCORE_S = 30.0
"""Seconds after which the least number in a row is enough: attempts that fail slowly would else go on for minutes."""
RunOne = Callable[[World, str, int], Awaitable[Episode]]
"""(world, task id, seed) -> the finished episode."""
Stop = Callable[[str], None]
"""Ends the run with a reason."""


def most_in_a_row(attempts: int) -> int:
    """How many attempts in a row the infrastructure may end before it must be the servers, or the configuration: a
    fifth of all.
    """
    return min(MAX_IN_A_ROW, max(MIN_IN_A_ROW, attempts // 5))


@dataclass(kw_only=True)
class Run:
    """What to run, and how."""

    plan: RunPlan
    """What to run. `run` puts the plan here that it goes on under: of an earlier, smaller run with its name."""
    worlds: Mapping[str, World]
    """Each domain's."""
    output: Path
    """The run's directory."""
    run_one: RunOne
    """Plays one episode."""
    concurrency: int = 64
    """Episodes under way at a time."""
    on_episode: Callable[[Episode], None] = lambda episode: None
    """Called with each episode once its record is written."""
    guard: Callable[[Stop], AbstractAsyncContextManager[Any]] = lambda stop: nullcontext()
    """Watches while the run lasts, and may stop it."""
    lags_ms: list[float] = field(default_factory=list)
    """Filled by `run`: how late the event loop was, in milliseconds."""

    @property
    def records_path(self) -> Path:
        return self.output / records.FILE


@dataclass(frozen=True)
class Finished:
    """All records of a run, one per attempt, and how much of the plan they are."""

    records: list[AttemptRecord]
    coverage: Coverage


async def run(job: Run) -> Finished:
    """Run what is missing; returns all records and writes `summary.json`.

    Raises:
        ConfigError: the output holds another run, or another process writes there.
        EvaluationStopped: the infrastructure ended too many attempts in a row, or the guard said stop. What was scored
            is kept.
    """
    with manifest.claim(job.output, job.plan) as plan:
        job.plan = plan
        before = records.so_far(job.records_path)
        coverage.of(plan, before)
        done = records.scored_attempts(before)
        todo = [(key, n) for n in range(plan.attempts) for key in plan.keys if (*key, n) not in done]
        _end_cleanly(job.records_path)
        stopped = await _play(job, todo)
        after = records.so_far(job.records_path)
        covered = coverage.of(plan, after)
        files.write_whole(job.output / SUMMARY, json.dumps(summary(plan, after, covered), indent=1))
    if stopped is not None:
        raise EvaluationStopped(
            f"{stopped}; {covered}; mend it and run the same command again, what was scored is kept ({job.output})"
        )
    return Finished(after, covered)


class Closing(Protocol):
    """What belongs to an event loop."""

    async def close(self) -> None: ...


async def run_and_close(job: Run, *players: Closing) -> Finished:
    """As `run`; those who play are all closed however it ends, in the loop that they belong to. What fails in that is
    logged.
    """
    try:
        return await run(job)
    finally:
        await close_all(player.close() for player in players)


async def _play(job: Run, todo: list[tuple[TaskKey, int]]) -> str | None:
    """Play attempts; why it stopped before the end, None where it did not."""
    limiter = asyncio.Semaphore(job.concurrency)
    tasks: list[asyncio.Future[None]] = []
    outage = _Outage(most_in_a_row(len(todo)))
    reason: str | None = None
    bug: Exception | None = None

    def stop(why: str) -> None:
        nonlocal reason
        reason = reason or why
        for task in tasks:
            task.cancel()

    async def attempt_at(key: TaskKey, attempt: int) -> None:
        nonlocal bug
        domain, task_id = key
        try:
            async with limiter:
                seed = derive_seed(job.plan.seed, domain, task_id, attempt)
                episode = await job.run_one(job.worlds[domain], task_id, seed)
            sink.write(json.dumps(_record(job, episode, attempt), ensure_ascii=False) + "\n")
            sink.flush()
            job.on_episode(episode)
        except Exception as error:  # of ours, or of a plugin: no attempt will fare better
            bug = bug or error
            stop(str(error))
            return
        if outage.after(episode):
            silence = outage.silence
            stop(f"the infrastructure ended {silence.in_a_row} attempts in a row, the last by: {silence.detail}")

    with job.records_path.open("a", encoding="utf-8") as sink:
        async with LoopLag() as lag, job.guard(stop):
            tasks += [asyncio.ensure_future(attempt_at(*pair)) for pair in todo]
            await asyncio.gather(*tasks, return_exceptions=True)
    job.lags_ms = lag.lags_ms
    if bug is not None:
        raise bug
    return reason


class _Outage:
    """Tells an outage, which ends a run, from attempts that the infrastructure ends here and there."""

    def __init__(self, most: int):
        self.most = most
        self.silence = Silence()
        self._last_score = time.monotonic()

    def after(self, episode: Episode) -> bool:
        """Whether this is one, now that one more attempt has ended."""
        now = time.monotonic()
        if episode.reward is not None:
            self.silence.broken()
            self._last_score = now
            return False
        self.silence.lasts(episode.detail, now)
        if self.silence.in_a_row >= self.most:
            return True
        is_burst = now - self.silence.began <= WITHOUT_A_SCORE_S / 2
        unscored = now - self._last_score > WITHOUT_A_SCORE_S
        return self.silence.in_a_row >= MIN_IN_A_ROW and not is_burst and unscored


def _record(job: Run, episode: Episode, attempt: int) -> AttemptRecord:
    # mypy: an EpisodeRecord might hold more than its fields say, a `turn_tokens` of another type among it
    record: AttemptRecord = {"run": job.plan.run, "attempt": attempt, **episode.record()}  # type: ignore[typeddict-item]
    agent = job.plan.settings.get("agent")
    if agent is not None:
        record["agent"] = agent
    if episode.turn_tokens is not None:
        record["turn_tokens"] = episode.turn_tokens
    return record


def _end_cleanly(path: Path) -> None:
    """Cut a half-written last line off, so that appending starts on a line of its own."""
    if path.exists():
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)  # in place: a kill in this moment loses nothing


def summary(plan: RunPlan, rows: list[AttemptRecord], covered: Coverage) -> dict[str, Any]:
    """What `summary.json` holds."""
    rewards = [r["reward"] for r in rows if r["reward"] is not None]
    hung_up = [r["user_stopped_early"] for r in rows if r["reward"] is not None]
    table = scores.scores(runs.successes(plan.keys, rows), scores.ks(plan.attempts))
    return {
        "plan": plan.model_dump(mode="json", exclude_none=True),
        "coverage": str(covered),
        "whole": covered.whole,
        "planned": covered.planned,
        "scored": covered.scored,
        "excluded_infrastructure": covered.excluded,
        "not_run": covered.not_run,
        "user_stopped_early": fmean(hung_up) if hung_up else None,
        "terminations": dict(Counter(r["termination"] for r in rows)),
        "mean_reward": fmean(rewards) if rewards else None,
        "metrics": {row: {m: e.to_json() for m, e in cells.items()} for row, cells in table.items()},
    }
