"""The whole thing on one machine: traces → SFT → rejection sampling → RFT → GRPO → evaluation → a Hugging Face model.

Every stage leaves its results in the output directory and is skipped when they are there, so the same command resumes
after Ctrl-C, kill -9 or a reboot. Episodes, hooks, ledger and evaluators are those of the GPU path.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.data import rejection, teacher_traces, traces
from slime_tau2.domains.helpdesk import build_tokenizer
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.toolbox import Toolbox
from slime_tau2.errors import CheckpointError, ConfigError
from slime_tau2.evaluation import audit, runner
from slime_tau2.local import stages
from slime_tau2.local.looplag import percentile
from slime_tau2.local.models import load_model, load_tokenizer, new_model, save_model
from slime_tau2.local.process import ServerProcess
from slime_tau2.local.settings import PipelineSettings
from slime_tau2.local.trainer import Trainer
from slime_tau2.types import Episode


@dataclass
class Progress:
    """What the pipeline tells whoever watches: `start(title, total)`, `advance(done, note)`, `end(note)`."""

    start: Callable[[str, int], None] = lambda title, total: None
    advance: Callable[[int, str], None] = lambda done, note: None
    end: Callable[[str], None] = lambda note: None


@dataclass
class Pipeline:
    """One run in one directory."""

    directory: Path
    settings: PipelineSettings
    progress: Progress = field(default_factory=Progress)
    mismatches: int = 0
    audited: int = 0
    lags_ms: list[float] = field(default_factory=list)
    server_rss_mib: int = 0
    worked: bool = False

    def run(self) -> Path:
        """Run what is missing; returns the directory of the final model.

        Raises:
            ConfigError: the directory holds a run with other settings.
        """
        started = time.perf_counter()
        self._claim()
        torch.manual_seed(self.settings.seed)
        self.tokenizer = load_tokenizer(build_tokenizer.DIRECTORY)
        self.world = worlds.load("helpdesk")
        self.chat = ChatRenderer(self.tokenizer, self.world.tool_schemas)
        self.prompt = bench.agent_prompt(self.world.policy)
        self.config = Tau2Config(user="scripted", seeded_sampling=True, max_steps=60, max_turn_tokens=self.settings.max_turn_tokens)
        try:
            self._base()
            self._evaluate("base")
            self._sft()
            self._evaluate("sft")
            self._rft()
            self._evaluate("rft")
            self._grpo()
            self._evaluate("grpo")
            self.world.environments.check()
        finally:
            if self.worked:
                self._add_up(time.perf_counter() - started)
        return self.directory / "grpo" / "model"

    def _claim(self) -> None:
        path, wanted = self.directory / "settings.json", self.settings.model_dump(mode="json")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if path.exists():
                found = json.loads(path.read_text(encoding="utf-8"))
                if found != wanted:
                    changed = [k for k in wanted if found.get(k) != wanted[k]]
                    raise ConfigError(
                        f"{self.directory} holds a run with other settings ({', '.join(changed)}); use another --output or delete it"
                    )
            path.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write to {self.directory}: {error.strerror}") from error

    # --- stages --------------------------------------------------------------------------------------------------------

    def _stage(self, name: str) -> stages.Stage:
        def tick(step: int, of: int, metrics: dict[str, float]) -> None:
            if "rollout/reward" in metrics:
                rate = metrics["rollout/episodes"] / max(metrics["rollout/wall_s"], 1e-9)
                self.progress.advance(step, f"reward {metrics['rollout/reward']:.2f}  {rate:.0f} episodes/s")
            else:
                self.progress.advance(step, f"loss {metrics['loss']:.3f}")

        return stages.Stage(name, self.directory / name, tick, self.directory / "metrics.jsonl")

    def _base(self) -> None:
        model = self.directory / "base" / "model"
        if not model.exists():
            save_model(model, new_model(len(self.tokenizer), build_tokenizer.CONTEXT, self.settings.seed), self.tokenizer)

    def _sft(self) -> None:
        stage, s = self._stage("sft"), self.settings
        if stage.done:
            return
        data = self.directory / "data" / "sft.jsonl"
        if not data.exists():
            self._collect(data)
        rows = [traces.tokenise(row, self.chat) for row in traces.read_jsonl(data)]
        trainer = Trainer(load_model(self.directory / "base" / "model"), stages.sft_options(s.sft_lr, s.sft_steps))
        self.worked = True
        self.progress.start(f"SFT on {len(rows)} traces", s.sft_steps)
        stages.train_sft(stage, trainer, self.tokenizer, rows, s.sft_steps, s.sft_batch, s.seed)
        self.progress.end("")

    def _collect(self, path: Path) -> None:
        s = self.settings
        self.progress.start("collecting teacher traces", s.traces)
        rows, reward = teacher_traces.collect(s.traces, s.flaws, s.seed, self.progress.advance)
        traces.write_jsonl(path, rows)
        self.progress.end(f"the teacher's reward is {reward:.2f}")

    def _rft(self) -> None:
        stage, s = self._stage("rft"), self.settings
        if stage.done:
            return
        data = self.directory / "data" / "rft.jsonl"
        if not data.exists():
            output, tasks = self.directory / "data" / "rft_samples", self._spread("train", s.rft_tasks)
            records = self._sample("sft", "train", s.rft_attempts, output, "RFT: sampling", tasks)
            kept = rejection.select(records, s.rft_min_partial).records
            chosen = (traces.record_to_row(r, self.prompt, self.world.tool_schemas) for r in kept)
            traces.write_jsonl(data, (r for r in chosen if r is not None))
        rows = [traces.tokenise(row, self.chat) for row in traces.read_jsonl(data)]
        if not rows:
            raise ConfigError(
                f"RFT has nothing to train on: no attempt of the SFT model qualified ({data}); raise sft_steps or rft_attempts"
            )
        trainer = Trainer(load_model(self.directory / "sft" / "model"), stages.sft_options(s.rft_lr, s.rft_steps))
        self.worked = True
        self.progress.start(f"RFT on {len(rows)} selected attempts", s.rft_steps)
        stages.train_sft(stage, trainer, self.tokenizer, rows, s.rft_steps, s.sft_batch, s.seed)
        self.progress.end("")

    def _grpo(self) -> None:
        stage, s = self._stage("grpo"), self.settings
        if stage.done:
            return
        trainer = Trainer(load_model(self.directory / "rft" / "model"), stages.grpo_options(s))
        self.worked = True
        self.progress.start(f"GRPO, {s.grpo_groups} groups of {s.grpo_group_size}", s.grpo_steps)
        with self._server(self.directory / "rft" / "model") as server:
            stages.train_grpo(stage, trainer, self.tokenizer, server, s)
            self._note(server, stage.lags_ms)
        self.progress.end("")

    # --- episodes of a served model --------------------------------------------------------------------------------------

    def _server(self, model: Path) -> ServerProcess:
        return ServerProcess(model, self.directory / "logs" / "server.log")

    def _note(self, server: ServerProcess, lags_ms: list[float]) -> None:
        info = server.info()
        self.server_rss_mib = max(self.server_rss_mib, info["peak_rss_mib"])
        self.mismatches += info["prefix_mismatches"]
        self.lags_ms += lags_ms[50:]  # after warm-up

    def _evaluate(self, name: str) -> list[dict]:
        s = self.settings
        output = self.directory / "eval" / name
        tasks = self._spread("test", s.eval_tasks)
        return self._sample(name, "test", s.eval_attempts, output, f"evaluating {name}", tasks)

    def _spread(self, split: str, count: int | None) -> list[str]:
        """`count` tasks of a split, evenly spread over its order and so over the families; None is all."""
        tasks = self.world.task_ids(split)
        return tasks if count is None or count >= len(tasks) else [tasks[i * len(tasks) // count] for i in range(count)]

    def _sample(self, name: str, split: str, attempts: int, output: Path, title: str, tasks: list[str]) -> list[dict]:
        """Attempts of one stage's model; resumable, and skipped when all are there."""
        count = attempts * len(tasks)
        done = [r for r in runner.read_records(output / "attempts.jsonl") if r["reward"] is not None]
        if len(done) >= count and (output / "summary.json").exists():
            return done
        started, seen = time.perf_counter(), [0, 0.0]
        self.worked = True
        self.progress.start(title, count)
        model = self.directory / name / "model"
        with self._server(model) as server:
            box = Toolbox(self.config, self.tokenizer, PolicyClient(server.url, timeout_s=60.0, retries=2))
            sampling = {"temperature": 1.0, "max_new_tokens": self.settings.max_response_tokens}

            async def one(world: worlds.World, task_id: str, seed: int) -> Episode:
                agent = box.agent(world, sampling, seed, f"{name}-{task_id}-{seed}")
                return await box.run(world, task_id, agent, seed)

            def on_episode(episode: Episode) -> None:
                self.audited += 1
                self.mismatches += audit.is_mismatch(episode, self.chat, self.prompt)
                seen[0], seen[1] = seen[0] + 1, seen[1] + (episode.reward or 0.0)
                rate = seen[0] / (time.perf_counter() - started)
                self.progress.advance(len(done) + int(seen[0]), f"reward {seen[1] / seen[0]:.2f}  {rate:.0f} episodes/s")

            settings = {"model": name, "temperature": 1.0, "user": "scripted"}
            job = runner.Run(
                self.world, split, attempts, output, one, settings, self.settings.concurrency, self.settings.seed, tasks, on_episode,
                self.tokenizer,
            )  # fmt: skip

            async def all_of_it() -> list[dict]:
                try:
                    return await runner.run(job)
                finally:
                    await box.close()

            records = asyncio.run(all_of_it())
            server.check()
            self._note(server, job.lags_ms)
        failed = sum(r["reward"] is None for r in records)
        if failed > len(records) // 2:
            detail = next(r["detail"] for r in records if r["reward"] is None)
            raise ConfigError(
                f"{failed} of {len(records)} episodes failed in the infrastructure, e.g. {detail}; run the same command to resume"
            )
        self.progress.end("")
        return records

    # --- figures ---------------------------------------------------------------------------------------------------------

    def _add_up(self, wall_s: float) -> None:
        """Add this process's share to what earlier, interrupted ones measured (those killed with -9 leave no figures)."""
        path = self.directory / "usage.json"
        before: dict[str, Any] = {"wall_s": 0.0, "mismatches": 0, "audited": 0, "peak_rss_mib": 0, "lags": None}
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        lags = {"p50": percentile(self.lags_ms, 0.5), "p99": percentile(self.lags_ms, 0.99), "max": max(self.lags_ms, default=0.0)}
        total = {
            "wall_s": before["wall_s"] + wall_s, "mismatches": before["mismatches"] + self.mismatches,
            "audited": before["audited"] + self.audited, "peak_rss_mib": max(before["peak_rss_mib"], own + self.server_rss_mib),
            "lags": lags if self.lags_ms else before["lags"],
        }  # fmt: skip
        path.write_text(json.dumps(total, indent=1), encoding="utf-8")
