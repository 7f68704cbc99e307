"""The whole thing on one machine: traces → SFT → rejection sampling → RFT → GRPO → evaluation → a Hugging Face model.

Every stage leaves its results in the output directory and is skipped when they are there, so the same command resumes
after Ctrl-C, kill -9 or a reboot. Episodes, hooks, ledger and evaluators are those of the GPU path.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from slime_tau2 import files
from slime_tau2.config import Tau2Config
from slime_tau2.data import rejection, teacher_traces, traces
from slime_tau2.domains.helpdesk import CONTEXT
from slime_tau2.episode.splits import WHOLE
from slime_tau2.errors import CheckpointError, ConfigError
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import stages
from slime_tau2.experiments.episodes import Episodes
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.watch import Progress
from slime_tau2.local.models import load_model, new_model, save_model
from slime_tau2.local.trainer import Trainer


@dataclass
class Pipeline:
    """One run in one directory."""

    directory: Path
    settings: PipelineSettings
    progress: Progress = field(default_factory=Progress)

    def run(self) -> Path:
        """Run what is missing of all stages; returns the directory of the final model.

        Raises:
            ConfigError: a setting that cannot be used; the directory holds a run with other settings.
        """
        with self._session() as episodes:
            self._base()
            episodes.evaluate("base", self._model("base"))
            for name in layout.STAGES[1:]:
                self._train(name, self._model(layout.before(name)))
        return self._model(layout.STAGES[-1])

    def run_stage(self, name: str, start: Path) -> Path:
        """Only `sft`, `rft` or `grpo`, from the model in the directory `start`, and its evaluation; returns its model's
        directory.
        """
        with self._session():
            self._train(name, start)
        return self._model(name)

    def _train(self, name: str, start: Path) -> None:
        {"sft": self._sft, "rft": self._rft, "grpo": self._grpo}[name](start)
        self.episodes.evaluate(name, self._model(name))

    @contextmanager
    def _session(self) -> Iterator[Episodes]:
        started = time.perf_counter()
        Tau2Config.from_mapping(self.settings.tau2, "--set tau2")
        stages.grpo_options(self.settings)
        self._claim()
        torch.manual_seed(self.settings.seed)
        self.episodes = Episodes(self.directory, self.settings, self.progress)
        try:
            yield self.episodes
            self.episodes.world.environments.check()
        finally:
            if self.episodes.worked:
                self.episodes.add_up(time.perf_counter() - started)

    def _claim(self) -> None:
        path, wanted = self.directory / "settings.json", self.settings.model_dump(mode="json")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if path.exists():
                found = files.read_object(path)
                if found != wanted:
                    changed = [k for k in wanted if found.get(k) != wanted[k]]
                    raise ConfigError(
                        f"{self.directory} holds a run with other settings ({', '.join(changed)}); use another "
                        "--output or delete it"
                    )
            path.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write to {self.directory}: {error.strerror}") from error

    def _model(self, stage: str) -> Path:
        return layout.model(self.directory, stage)

    def _stage(self, name: str) -> stages.Stage:
        def tick(step: int, of: int, metrics: dict[str, float]) -> None:
            if "rollout/reward" in metrics:
                rate = metrics["rollout/episodes"] / max(metrics["rollout/wall_s"], 1e-9)
                self.progress.advance(step, f"reward {metrics['rollout/reward']:.2f}  {rate:.0f} episodes/s")
            else:
                self.progress.advance(step, f"loss {metrics['loss']:.3f}")

        return stages.Stage(name, self.directory / name, tick, self.directory / "metrics.jsonl")

    def _base(self) -> None:
        if not self._model("base").exists():
            fresh = new_model(len(self.episodes.tokenizer), CONTEXT, self.settings.seed)
            save_model(self._model("base"), fresh, self.episodes.tokenizer)

    def _sft(self, start: Path) -> None:
        stage, s = self._stage("sft"), self.settings
        if stage.done:
            return
        data = self.directory / "data" / "sft.jsonl"
        if not data.exists():
            self.progress.start("collecting teacher traces", s.traces)
            rows, reward = teacher_traces.collect(s.traces, s.flaws, s.seed, WHOLE, self.progress.advance)
            traces.write_jsonl(data, rows)
            self.progress.end(f"the teacher's reward is {reward:.2f}")
        self._supervise(stage, start, data, "SFT on {} traces", s.sft_steps, s.sft_lr)

    def _rft(self, start: Path) -> None:
        stage, s, episodes = self._stage("rft"), self.settings, self.episodes
        if stage.done:
            return
        data = self.directory / "data" / "rft.jsonl"
        if not data.exists():
            output, tasks = self.directory / "data" / "rft_samples", episodes.spread(WHOLE, s.rft_tasks)
            name = start.parent.name
            records = episodes.sample(name, start, WHOLE, tasks, s.rft_attempts, output, "RFT: sampling", s.seed)
            kept = rejection.select(records, s.rft_min_partial).records
            chosen = (traces.record_to_row(r, episodes.prompt, episodes.world.tool_schemas) for r in kept)
            traces.write_jsonl(data, (r for r in chosen if r is not None))
        self._supervise(stage, start, data, "RFT on {} selected attempts", s.rft_steps, s.rft_lr)

    def _supervise(self, stage: stages.Stage, start: Path, data: Path, title: str, steps: int, lr: float) -> None:
        """SFT on the rows of a file."""
        rows = [traces.tokenise(row, self.episodes.chat) for row in traces.read_rows(data)]
        if not rows:
            raise ConfigError(
                f"RFT has nothing to train on: no attempt of the SFT model qualified ({data}); raise sft_steps or "
                "rft_attempts"
            )
        trainer = Trainer(load_model(start), stages.sft_options(lr, steps))
        self.episodes.worked = True
        self.progress.start(title.format(len(rows)), steps)
        stages.train_sft(
            stage, trainer, self.episodes.tokenizer, rows, steps, self.settings.sft_batch, self.settings.seed
        )
        self.progress.end("")

    def _grpo(self, start: Path) -> None:
        stage, s, episodes = self._stage("grpo"), self.settings, self.episodes
        if stage.done:
            return
        options = stages.grpo_options(s)
        trainer = Trainer(load_model(start), options, load_model(start) if options.loss.use_kl_loss else None)
        episodes.worked = True
        self.progress.start(f"GRPO, {s.grpo_groups} groups of {s.grpo_group_size}", s.grpo_steps)
        with episodes.server(start) as server:
            stages.train_grpo(stage, trainer, episodes.tokenizer, server, s)
            episodes.note(server, stage.lags_ms)
        self.progress.end("")
