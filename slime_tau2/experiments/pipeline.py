"""The whole thing on one machine: traces → SFT → rejection sampling → RFT → GRPO → evaluation → a Hugging Face model.

Every stage leaves its results in the output directory and is skipped when they are there, so the same command resumes
after Ctrl-C, kill -9 or a reboot. Episodes, hooks, ledger and evaluators are those of the GPU path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from slime_tau2 import manifest
from slime_tau2.config import Tau2Config
from slime_tau2.data import rejection, teacher_traces, traces
from slime_tau2.data.traces import TokenRow
from slime_tau2.domains.helpdesk import CONTEXT
from slime_tau2.domains.helpdesk.environment import NAME
from slime_tau2.episode.splits import WHOLE
from slime_tau2.errors import ConfigError
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import stages
from slime_tau2.experiments.directory import StageModel
from slime_tau2.experiments.episodes import DEVICE, Episodes, Sampling, spread, train_tasks
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.watch import Progress
from slime_tau2.local.models import load_model, new_model, save_model
from slime_tau2.local.trainer import Trainer


def steps_for(sequences: int, rows: int, batch: int) -> int:
    """Optimizer steps of `train_sft` that train on so many sequences, to a batch: an epoch's last batch is what is
    left of its rows.
    """
    epochs, rest = divmod(sequences, rows)
    return max(1, epochs * math.ceil(rows / batch) + round(rest / batch))


def check(settings: PipelineSettings) -> None:
    """See that the hooks and the trainer know the options that settings hold for them.

    Raises:
        ConfigError: an unknown one, or a bad value.
    """
    Tau2Config.from_mapping(settings.tau2, "--set tau2")
    stages.grpo_options(settings)


@dataclass
class Pipeline:
    """One run in one directory."""

    directory: Path
    settings: PipelineSettings
    progress: Progress = field(default_factory=Progress)
    paths: Mapping[str, str] = field(default_factory=dict)
    """Options of the hooks during GRPO that name files. They are no settings of the run: it may be moved."""

    def run(self) -> Path:
        """Run what is missing of all stages; returns the directory of the final model.

        Raises:
            ConfigError: a setting that cannot be used; the directory holds a run with other settings.
        """
        with self._session():
            self._base()
            self._evaluate("base")
            for name in layout.STAGES[1:]:
                self._train(name)
                self._evaluate(name)
        return self._model(layout.STAGES[-1])

    def run_until(self, last: str) -> Path:
        """Run what is missing of the stages up to `last`, and evaluate that one alone; returns its model."""
        with self._session():
            self._base()
            for name in layout.STAGES[1 : layout.STAGES.index(last) + 1]:
                self._train(name)
            self._evaluate(last)
        return self._model(last)

    def run_stage(self, name: str, start: StageModel) -> Path:
        """Run one stage alone and evaluate it; returns the directory of its model.

        Args:
            name: `sft`, `rft` or `grpo`.
            start: the model that it starts from, of this run or another.
        """
        with self._session():
            self._train(name, start)
            self._evaluate(name)
        return self._model(name)

    def _train(self, name: str, start: StageModel | None = None) -> None:
        """Train a stage, by default from the one before it."""
        train = {"sft": self._sft, "rft": self._rft, "grpo": self._grpo}[name]
        train(start or StageModel(self.directory, layout.before(name)))
        self._keep_usage()

    def _evaluate(self, name: str) -> None:
        self.episodes.evaluate(name, self._model(name))
        self._keep_usage()

    def _keep_usage(self) -> None:
        self.episodes.keep_usage(time.perf_counter() - self._started)

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Hold the directory, and keep account of what the session took."""
        self._started = time.perf_counter()
        check(self.settings)
        with manifest.claim(self.directory, self.settings):
            torch.manual_seed(self.settings.seed)
            with closing(Episodes(self.directory, self.settings, self.progress)) as self.episodes:
                try:
                    yield
                    self.episodes.world.check()
                finally:
                    self._keep_usage()

    def _model(self, stage: str) -> Path:
        return layout.model(self.directory, stage)

    def _stage(self, name: str) -> stages.Stage:
        def tick(step: int, of: int, metrics: dict[str, float]) -> None:
            if "rollout/reward" in metrics:
                rate = metrics["rollout/episodes"] / max(metrics["rollout/wall_s"], 1e-9)
                self.progress.advance(step, f"reward {metrics['rollout/reward']:.2f}  {rate:.0f} episodes/s")
            else:
                self.progress.advance(step, f"loss {metrics['loss']:.3f}")

        return stages.Stage(
            name=name, directory=self.directory / name, tick=tick, metrics_path=self.directory / layout.METRICS_FILE
        )

    def _base(self) -> None:
        if not self._model("base").exists():
            fresh = new_model(len(self.episodes.tokenizer), CONTEXT, self.settings.seed)
            save_model(self._model("base"), fresh, self.episodes.tokenizer)

    def _sft(self, start: StageModel) -> None:
        stage, s = self._stage("sft"), self.settings
        if stage.done:
            return
        data = self.directory / "data" / "sft.jsonl"
        if not data.exists():
            collected = self._taught(NAME, s.traces, s.flaws)
            if s.tasks != NAME and s.set_traces:
                collected += self._taught(s.tasks, s.set_traces, s.set_flaws)
            traces.write_jsonl(data, collected)
        rows = self._rows(data)
        self._supervise(stage, start.path, rows, title="SFT on {} traces", steps=s.sft_steps, lr=s.sft_lr)

    def _taught(self, tasks: str, count: int, flaws: float) -> list[traces.Row]:
        """Traces of the teacher on the train tasks of a domain or set."""
        self.progress.start("collecting teacher traces", count)
        collected, reward = teacher_traces.collect(
            count, flaws=flaws, seed=self.settings.seed, split=WHOLE, advance=self.progress.advance, domain=tasks
        )
        self.progress.end(f"the teacher's reward is {reward:.2f}")
        return collected

    def _rft(self, start: StageModel) -> None:
        stage, s, episodes = self._stage("rft"), self.settings, self.episodes
        if stage.done:
            return
        data = layout.rft_data(self.directory)
        if not data.exists():
            records = episodes.sample(
                Sampling(
                    policy=start.stage,
                    model=start.path,
                    split=WHOLE,
                    tasks=spread(train_tasks(episodes.world), s.rft_tasks),
                    attempts=s.rft_attempts,
                    seed=s.seed,
                    output=layout.rft_samples(self.directory),
                    title="RFT: sampling",
                )
            )
            kept = rejection.select(records, s.rft_min_partial).records
            chosen = (traces.record_to_row(r, episodes.prompt, episodes.world.tool_schemas) for r in kept)
            traces.write_jsonl(data, (r for r in chosen if r is not None))
        rows = self._rows(data)
        steps = s.rft_steps if s.rft_sequences is None else steps_for(s.rft_sequences, len(rows), s.sft_batch)
        self._supervise(stage, start.path, rows, title="RFT on {} selected attempts", steps=steps, lr=s.rft_lr)

    def _rows(self, data: Path) -> list[TokenRow]:
        """The rows of a file, at least one."""
        rows = [one for row in traces.read_rows(data) for one in traces.tokenise(row, self.episodes.chat)]
        if not rows:
            raise ConfigError(
                f"RFT has nothing to train on: no attempt of the SFT model qualified ({data}); raise sft_steps or "
                "rft_attempts"
            )
        return rows

    def _supervise(
        self, stage: stages.Stage, start: Path, rows: Sequence[TokenRow], *, title: str, steps: int, lr: float
    ) -> None:
        trainer = Trainer(load_model(start, DEVICE), stages.sft_options(lr, steps))
        self.episodes.worked = True
        self.progress.start(title.format(len(rows)), steps)
        stages.train_sft(
            stage,
            trainer,
            self.episodes.tokenizer,
            rows,
            steps=steps,
            batch_size=self.settings.sft_batch,
            seed=self.settings.seed,
        )
        self.progress.end("")

    def _grpo(self, start: StageModel) -> None:
        stage, s, episodes = self._stage("grpo"), self.settings, self.episodes
        if stage.done:
            return
        options = stages.grpo_options(s)
        reference = load_model(start.path, DEVICE) if options.loss.use_kl_loss else None
        trainer = Trainer(load_model(start.path, DEVICE), options, reference)
        episodes.worked = True
        self.progress.start(f"GRPO, {s.grpo_groups} groups of {s.grpo_group_size}", s.grpo_steps)
        with episodes.server(start.path, stage.lags_ms) as server:
            stages.train_grpo(stage, trainer, episodes.tokenizer, server, settings=s, paths=self.paths)
        self.progress.end("")
