"""Episodes of local models on helpdesk, or on a task set of it: serve one, run attempts at tasks, add up what a report
wants to know of it.

Attempts are resumable; the figures (token mismatches, loop lag, memory, wall time) are added to those of earlier,
interrupted runs.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from slime_tau2 import bench, files
from slime_tau2.config import Tau2Config
from slime_tau2.data import held_out, records
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.splits import HELD_OUT, TEST, WHOLE
from slime_tau2.episode.world import World
from slime_tau2.evaluation import audit, runner, runs
from slime_tau2.evaluation import plan as plans
from slime_tau2.evaluation.plan import SUMMARY, RunPlan, RunSettings, TaskSet
from slime_tau2.evaluation.players import turn_tokens
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.arguments import TEMPERATURE, played
from slime_tau2.experiments.directory import Usage
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.watch import Progress
from slime_tau2.local.process import ServerProcess
from slime_tau2.looplag import percentile
from slime_tau2.record import AttemptRecord
from slime_tau2.tokenizer import load_tokenizer
from slime_tau2.types import Episode

DEVICE = "cpu"
"""Of the models of a run, also where there is a GPU: they are so small that it waits for its kernels to be launched
(docs/performance.md).
"""
WARM_UP_LAGS = 50
"""Measurements of the event loop's lag at a start, which count for nothing."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Attempts of one model at tasks, as an evaluation's directory holds them."""

    policy: str
    """What the plan calls the model."""
    model: Path
    """Directory of the model."""
    split: str
    """Split of the tasks."""
    tasks: list[str]
    """Task ids."""
    attempts: int
    """Attempts at each task."""
    seed: int
    """Seed of sampling and users."""
    output: Path
    """Directory of plan and records."""
    title: str
    """What whoever watches reads."""


def spread(tasks: list[str], count: int | None) -> list[str]:
    """`count` of some tasks, evenly spread over their order and so over the families; None: all."""
    if count is None or count >= len(tasks):
        return tasks
    return [tasks[i * len(tasks) // count] for i in range(count)]


def train_tasks(world: World) -> list[str]:
    """Ids of the tasks that may train."""
    held = held_out.held_out(world.name, WHOLE)
    return [task_id for task_id in world.task_ids(WHOLE) if task_id not in held]


@dataclass
class Episodes:
    """Episodes of the models of one run, in its directory.

    One server serves them all, one after the other: it takes seconds to import torch. It starts with the first model,
    and again where it died while nobody asked it anything; `close` ends it.
    """

    directory: Path
    settings: PipelineSettings
    progress: Progress = field(default_factory=Progress)
    worked: bool = field(default=False, init=False)
    """Whether this process did anything that takes time."""
    _server: ServerProcess | None = field(default=None, init=False)
    _open: ExitStack = field(default_factory=ExitStack, init=False)
    _mismatches: int = field(default=0, init=False)
    _noted: int = field(default=0, init=False)
    """Mismatches that the server counted so far, which are among all."""
    _audited: int = field(default=0, init=False)
    _lags_ms: list[float] = field(default_factory=list, init=False)
    _server_rss_mib: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.tokenizer = load_tokenizer(TOKENIZER)
        self.world = worlds.load(self.settings.tasks)
        self.held_out = HELD_OUT if HELD_OUT in self.world.splits else TEST
        self.chat = ChatRenderer(self.tokenizer, self.world.tool_schemas)
        self.prompt = bench.agent_prompt(self.world.policy)
        self.config = Tau2Config(**played(self.settings))
        usage = self.directory / layout.USAGE
        self._before = files.read_as(usage, Usage) if usage.exists() else None

    def close(self) -> None:
        """End the server, where there is one."""
        self._server, self._noted = None, 0
        self._open.close()

    @contextmanager
    def server(self, model: Path, lags_ms: list[float]) -> Iterator[ServerProcess]:
        """The server, with the weights of `model`; its figures are noted at the end, and how late the loop was beside
        it.

        Args:
            lags_ms: what is measured of the loop meanwhile, in milliseconds. Its warm-up counts for nothing.

        Raises:
            ConfigError: it refused what it was given as it started, or cannot load the weights.
            PolicyError: it does not answer, or died.
        """
        if self._server is not None and not self._server.alive:
            self.close()
        if self._server is None:
            process = ServerProcess(model, self.directory / "logs" / "server.log", device=DEVICE)
            self._server = self._open.enter_context(process)
        else:
            self._server.load(model)
        yield self._server
        self._server.check()
        info = self._server.info()
        self._server_rss_mib = max(self._server_rss_mib, info["peak_rss_mib"])
        if self.chat.keeps_history:  # else segments end there, and the audit looks
            self._mismatches += info["prefix_mismatches"] - self._noted
            self._noted = info["prefix_mismatches"]
        self._lags_ms += lags_ms[WARM_UP_LAGS:]

    def evaluate(self, name: str, model: Path, seed: int | None = None) -> list[AttemptRecord]:
        """Attempts at the held-out tasks, in `eval/NAME`; another `seed` is another evaluation of the same model."""
        return self.sample(
            Sampling(
                policy=name,
                model=model,
                split=self.held_out,
                tasks=spread(self.world.task_ids(self.held_out), self.settings.eval_tasks),
                attempts=self.settings.eval_attempts,
                seed=self.settings.seed if seed is None else seed,
                output=layout.evaluation(self.directory, name),
                title=f"evaluating {name}",
            )
        )

    def sample(self, sampling: Sampling) -> list[AttemptRecord]:
        """Play attempts and return their records; resumable, and skipped when all are there.

        Raises:
            EvaluationStopped: the infrastructure ended some of them.
        """
        plan = self._plan(sampling)
        if (sampling.output / SUMMARY).exists():
            complete = runs.finished(sampling.output, plan.sets, plan.attempts)
            if complete is not None:
                before, found = complete
                plans.growing(before, plan, sampling.output)
                return found
        self.worked = True
        finished = self._play(plan, sampling)
        runs.require_scores(finished.coverage, finished.records, sampling.output)
        self.progress.end("")
        return finished.records

    def _plan(self, sampling: Sampling) -> RunPlan:
        settings: RunSettings = {
            "policy": sampling.policy,
            "temperature": TEMPERATURE,
            "user": self.config.user,
            "max_steps": self.config.max_steps,
            "max_errors": self.config.max_errors,
            "max_turn_tokens": self.config.max_turn_tokens,
            "max_context_tokens": self.config.max_context_tokens,
        }
        tasks = TaskSet.of(self.world, sampling.split, sampling.tasks)
        return RunPlan(sets=(tasks,), attempts=sampling.attempts, seed=sampling.seed, settings=settings)

    def _play(self, plan: RunPlan, sampling: Sampling) -> runner.Finished:
        self.progress.start(sampling.title, plan.attempts * len(plan.keys))
        on_episode = self._watch(sum(r["reward"] is not None for r in records.so_far(sampling.output / records.FILE)))
        lags_ms: list[float] = []
        with self.server(sampling.model, lags_ms) as server:
            client = PolicyClient(server.url, retries=self.config.policy_client_retries)
            harness = Harness(self.config, self.tokenizer, client)
            parameters = {"temperature": TEMPERATURE, "max_new_tokens": self.settings.max_response_tokens}

            async def run_one(world: World, task_id: str, seed: int) -> Episode:
                key = f"{sampling.policy}-{task_id}-{seed}"
                agent = harness.agent(world, sampling=parameters, seed=seed, routing_key=key, episode_seed=seed)
                episode = await harness.run(world, task_id, agent, seed=seed, routing_key=key)
                episode.turn_tokens = turn_tokens(episode, self.tokenizer)
                return episode

            run = runner.Run(
                plan=plan,
                worlds={self.world.name: self.world},
                output=sampling.output,
                run_one=run_one,
                concurrency=self.settings.concurrency,
                on_episode=on_episode,
            )

            finished = asyncio.run(runner.run_and_close(run, harness))
            lags_ms += run.lags_ms
        return finished

    def _watch(self, done: int) -> Callable[[Episode], None]:
        """What to call after each episode: audits it and shows how it goes. `done` attempts were there before."""
        started, rewards = time.perf_counter(), list[float | None]()

        def on_episode(episode: Episode) -> None:
            self._audited += 1
            self._mismatches += audit.is_mismatch(episode, self.chat, self.prompt)
            rewards.append(episode.reward)
            rate = len(rewards) / (time.perf_counter() - started)
            self.progress.advance(done + len(rewards), f"reward {_mean(rewards)}  {rate:.0f} episodes/s")

        return on_episode

    def keep_usage(self, wall_s: float) -> None:
        """Add this process's share so far, `wall_s` seconds, to what earlier ones measured; one that did nothing that
        takes time leaves it as it was.

        Called after each stage and evaluation, so that one killed with -9 loses the figures of one of them at most.
        """
        if not self.worked and self._before is not None:
            return
        before = self._before or layout.NO_USAGE
        rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        lags = {
            "p50": percentile(self._lags_ms, 0.5),
            "p99": percentile(self._lags_ms, 0.99),
            "max": max(self._lags_ms, default=0.0),
        }
        total = Usage(
            wall_s=before.wall_s + wall_s,
            mismatches=before.mismatches + self._mismatches,
            audited=before.audited + self._audited,
            peak_rss_mib=max(before.peak_rss_mib, rss_mib + self._server_rss_mib),
            lags=lags if self._lags_ms else before.lags,
        )
        files.write_whole(self.directory / layout.USAGE, total.model_dump_json(indent=1))


def _mean(rewards: list[float | None]) -> str:
    """The mean as text, and how many are missing: what the infrastructure ended is no reward of 0."""
    scored = [reward for reward in rewards if reward is not None]
    mean = f"{fmean(scored):.2f}" if scored else "–"
    missing = len(rewards) - len(scored)
    return f"{mean} ({missing} without a score)" if missing else mean
