"""Episodes of local models on helpdesk: serve one, run attempts at tasks, add up what a report wants to know of it.

Attempts are resumable; the figures (token mismatches, loop lag, memory, wall time) are added to those of earlier,
interrupted runs.
"""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

from slime_tau2 import bench, files
from slime_tau2.config import Tau2Config
from slime_tau2.data import records
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.evaluation import audit, runner, runs
from slime_tau2.evaluation import plan as plans
from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.arguments import played
from slime_tau2.experiments.directory import Usage
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.watch import Progress
from slime_tau2.local.process import ServerProcess
from slime_tau2.looplag import percentile
from slime_tau2.tokenizer import load_tokenizer
from slime_tau2.types import Episode


@dataclass
class Episodes:
    """Of the models of one run, in its directory."""

    directory: Path
    settings: PipelineSettings
    progress: Progress = field(default_factory=Progress)
    worked: bool = field(default=False, init=False)
    _mismatches: int = field(default=0, init=False)
    _audited: int = field(default=0, init=False)
    _lags_ms: list[float] = field(default_factory=list, init=False)
    _server_rss_mib: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.tokenizer = load_tokenizer(TOKENIZER)
        self.world = worlds.load("helpdesk")
        self.chat = ChatRenderer(self.tokenizer, self.world.tool_schemas)
        self.prompt = bench.agent_prompt(self.world.policy)
        self.config = Tau2Config(**played(self.settings))

    def server(self, model: Path) -> ServerProcess:
        return ServerProcess(model, self.directory / "logs" / "server.log")

    def note(self, server: ServerProcess, lags_ms: list[float]) -> None:
        """Add a server's figures, and the loop's lag beside it after its warm-up."""
        info = server.info()
        self._server_rss_mib = max(self._server_rss_mib, info["peak_rss_mib"])
        self._mismatches += info["prefix_mismatches"]
        self._lags_ms += lags_ms[50:]

    def spread(self, split: str, count: int | None) -> list[str]:
        """`count` tasks of a split, evenly spread over its order and so over the families; None is all."""
        tasks = self.world.task_ids(split)
        return tasks if count is None or count >= len(tasks) else [tasks[i * len(tasks) // count] for i in range(count)]

    def evaluate(self, name: str, model: Path, seed: int | None = None) -> list[dict]:
        """Attempts at the held-out tasks, in `eval/NAME`; another `seed` is another evaluation of the same model."""
        s = self.settings
        tasks, output = self.spread("test", s.eval_tasks), layout.evaluation(self.directory, name)
        return self.sample(
            name, model, "test", tasks, s.eval_attempts, output, f"evaluating {name}", s.seed if seed is None else seed
        )

    def sample(
        self, name: str, model: Path, split: str, tasks: list[str], attempts: int, output: Path, title: str, seed: int
    ) -> list[dict]:
        """Attempts of a model at tasks; resumable, and skipped when all are there.

        Raises:
            EvaluationStopped: the infrastructure ended some of them.
        """
        settings = {
            "policy": name,
            "temperature": 1.0,
            "user": "scripted",
            "max_steps": self.config.max_steps,
            "max_errors": self.config.max_errors,
            "max_turn_tokens": self.settings.max_turn_tokens,
            "max_context_tokens": self.config.max_context_tokens,
        }
        plan = RunPlan(sets=(TaskSet.of(self.world, split, tasks),), attempts=attempts, seed=seed, settings=settings)
        there = runs.finished(output, plan.sets, attempts) if (output / "summary.json").exists() else None
        if there is not None:
            plans.growing(there[0], plan, output)
            return there[1]
        before = records.so_far(output / records.FILE)
        started, seen = time.perf_counter(), [0, 0.0]
        done = sum(r["reward"] is not None for r in before)
        self.worked = True
        self.progress.start(title, attempts * len(tasks))
        with self.server(model) as server:
            client = PolicyClient(
                server.url, timeout_s=self.config.policy_timeout_s, retries=self.config.policy_retries
            )
            box = Harness(self.config, self.tokenizer, client)
            sampling = {"temperature": 1.0, "max_new_tokens": self.settings.max_response_tokens}

            async def one(world: worlds.World, task_id: str, episode_seed: int) -> Episode:
                key = f"{name}-{task_id}-{episode_seed}"
                return await box.run(
                    world, task_id, box.agent(world, sampling, episode_seed, key), episode_seed, routing_key=key
                )

            def on_episode(episode: Episode) -> None:
                self._audited += 1
                self._mismatches += audit.is_mismatch(episode, self.chat, self.prompt)
                seen[0], seen[1] = seen[0] + 1, seen[1] + (episode.reward or 0.0)
                rate = seen[0] / (time.perf_counter() - started)
                self.progress.advance(done + int(seen[0]), f"reward {seen[1] / seen[0]:.2f}  {rate:.0f} episodes/s")

            job = runner.Run(
                plan,
                {self.world.domain: self.world},
                output,
                one,
                self.settings.concurrency,
                on_episode,
                self.tokenizer,
            )

            async def all_of_it() -> runner.Finished:
                try:
                    return await runner.run(job)
                finally:
                    await box.close()

            finished = asyncio.run(all_of_it())
            server.check()
            self.note(server, job.lags_ms)
        runs.all_scored(finished.coverage, finished.records, output)
        self.progress.end("")
        return finished.records

    def add_up(self, wall_s: float) -> None:
        """Add this process's share to what earlier, interrupted ones measured (those killed with -9 leave no
        figures).
        """
        path = self.directory / "usage.json"
        before = (
            files.read_as(path, Usage)
            if path.exists()
            else Usage(wall_s=0.0, mismatches=0, audited=0, peak_rss_mib=0, lags=None)
        )
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        lags = {
            "p50": percentile(self._lags_ms, 0.5),
            "p99": percentile(self._lags_ms, 0.99),
            "max": max(self._lags_ms, default=0.0),
        }
        total = Usage(
            wall_s=before.wall_s + wall_s,
            mismatches=before.mismatches + self._mismatches,
            audited=before.audited + self._audited,
            peak_rss_mib=max(before.peak_rss_mib, own + self._server_rss_mib),
            lags=lags if self._lags_ms else before.lags,
        )
        files.write_whole(path, total.model_dump_json(indent=1))
