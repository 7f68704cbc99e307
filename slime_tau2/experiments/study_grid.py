"""What a study trains and compares: cells, contrasts, budgets and the rule by which it ends, declared before it runs.

A cell is one training with one seed, in a directory of its own. Each seed begins with its `start`, the model that all
its other cells go on from. `study` runs cells, `study_results` reads what is there, `study_report` shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from slime_tau2.errors import ConfigError
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.manifest import Manifest

START, BASELINE, CONTROL = "start", "gated", "rft_continued"
PREFIXED = "prefix"
"""The cell whose groups may begin within a success that its seed's start recorded."""

SUCCESSES = "rft_successes"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is trained, and what it is compared with."""

    about: str
    """What it is, for the report."""
    stage: str = "grpo"
    """The stage that is trained: `rft` for a control, which spends what its seed's `gated` did."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the pipeline that differ."""
    against: str = BASELINE
    """The cell that it is compared with; "" for none."""
    exploratory: bool = True
    """Whether it is one of the secondary comparisons, which fewer seeds have."""


def _tau2(**options: Any) -> dict[str, Any]:
    return {"tau2": options}


CELLS = {
    START: Cell(about="SFT, then RFT on its own attempts", stage="rft", against="", exploratory=False),
    BASELINE: Cell(about="GRPO, gated shaping", against=START, exploratory=False),
    CONTROL: Cell(about="a second round of RFT", stage="rft", against=START, exploratory=False),
    "none": Cell(about="GRPO without shaping", settings=_tau2(shaping="none")),
    "card": Cell(about="GRPO, the card's shaping", settings=_tau2(shaping="card")),
    "turn": Cell(about="gated, credit by turn", settings=_tau2(credit="turn")),
    "call": Cell(about="gated, credit by call", settings=_tau2(credit="call")),
    "curriculum": Cell(about="gated, tasks by curriculum", settings=_tau2(curriculum=True)),
    PREFIXED: Cell(
        about="curriculum, and hopeless tasks begin within a success",
        settings=_tau2(curriculum=True),
        against="curriculum",
    ),
    "group_4": Cell(about="gated, 4 per group and twice the groups", settings={"grpo_group_size": 4}),
    "group_16": Cell(about="gated, 16 per group and half the groups", settings={"grpo_group_size": 16}),
    SUCCESSES: Cell(
        about="a second round of RFT, on successes alone",
        stage="rft",
        settings={"rft_min_partial": 1.0},
        against=CONTROL,
    ),
}
"""{name: cell}, in the order of their worth: a study that is cut short has the first ones of each seed."""

PIPELINE: dict[str, Any] = {
    "tasks": "sets/cases",
    "flaws": 0.1,
    "sft_steps": 900,
    "sft_lr": 4e-3,
    "rft_tasks": 250,
    "rft_attempts": 4,
    "rft_steps": 60,
    "grpo_steps": 400,
    "grpo_groups": 16,
    "grpo_episodes": 5000,
    "eval_tasks": 200,
    "eval_attempts": 4,
    "max_response_tokens": 1024,
}
"""Settings of a study's pipelines that differ from the quickstart's."""
STOPS = (
    "GRPO ends after the rollout in which it has sampled `grpo_episodes` episodes, those that are dropped or cut off "
    "included. A second round of RFT samples as many episodes, and trains on as many sequences, as the GRPO of its "
    "seed. The held-out tasks are evaluated once per cell, when it has ended. No cell is ended, prolonged, repeated or "
    "left out for what it shows."
)


class StudySettings(Manifest):
    """The whole study, as study.json holds it from before the first training on."""

    FILE: ClassVar[str] = "study.json"
    KIND: ClassVar[str] = "study"

    seeds: int = Field(5, gt=0)
    """Seeds 0, 1, … that have both sides of the primary comparison."""
    secondary_seeds: int = Field(3, gt=0)
    """How many of them have the cells of the secondary comparisons."""
    primary: tuple[str, str] = (BASELINE, CONTROL)
    """The one comparison that the study is made for: this cell minus that one."""
    secondary: tuple[tuple[str, str], ...] = tuple((name, cell.against) for name, cell in CELLS.items() if cell.against)
    """The others, which are exploratory: no correction is made for their number."""
    metric: str = "pass^1"
    """What is compared, on held-out tasks."""
    stops: str = STOPS
    """When a training ends, and the study."""
    cells: dict[str, dict[str, Any]] = Field(default_factory=lambda: {n: dict(c.settings) for n, c in CELLS.items()})
    """{cell: settings of its pipeline that differ from `pipeline`}."""
    pipeline: dict[str, Any]
    """Settings of every pipeline, budgets among them, all but the seed."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.secondary_seeds > self.seeds:
            raise ValueError(f"secondary_seeds = {self.secondary_seeds}, and there are {self.seeds} seeds")
        return self

    def of_seed(self, seed: int, **changed: Any) -> PipelineSettings:
        """The settings of a pipeline.

        Where the size of groups changes, their number changes with it: a rollout has as many samples as ever.
        """
        settings = {**self.pipeline, **changed, "seed": seed}
        if "grpo_group_size" in changed:
            samples = self.pipeline["grpo_groups"] * self.pipeline["grpo_group_size"]
            settings["grpo_groups"] = max(1, samples // changed["grpo_group_size"])
        if "tau2" in changed:
            settings["tau2"] = {**self.pipeline["tau2"], **changed["tau2"]}
        return PipelineSettings(**settings)


@dataclass(frozen=True)
class Job:
    """One cell of one seed."""

    study: Path
    seed: int
    name: str

    @property
    def directory(self) -> Path:
        """Where all of it goes."""
        return self.study / f"seed_{self.seed}" / self.name

    @property
    def stage(self) -> str:
        """The stage that is evaluated."""
        return CELLS[self.name].stage

    def of(self, name: str) -> Job:
        """Another cell of the same seed."""
        return Job(self.study, self.seed, name)

    @property
    def needs(self) -> list[Job]:
        """The cells that must have ended before this one begins."""
        if self.name == START:
            return []
        is_control = self.stage == "rft"
        return [self.of(START), self.of(BASELINE)] if is_control else [self.of(START)]

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.name}"


def jobs(directory: Path, settings: StudySettings) -> list[Job]:
    """All cells in the order in which they are run: first each seed's sides of the primary comparison."""
    first = [name for name, cell in CELLS.items() if not cell.exploratory]
    rest = [name for name, cell in CELLS.items() if cell.exploratory]
    out = [Job(directory, seed, name) for seed in range(settings.seeds) for name in first]
    return out + [Job(directory, seed, name) for name in rest for seed in range(settings.secondary_seeds)]


def part(all_jobs: Sequence[Job], seeds: Collection[int], cells: Collection[str]) -> list[Job]:
    """The jobs of some seeds and some cells ((): all), with what they need, in the order of all.

    Raises:
        ConfigError: the study has no such seed or cell.
    """
    for option, asked, known in (
        ("--seed", seeds, sorted({job.seed for job in all_jobs})),
        ("--only", cells, list(dict.fromkeys(job.name for job in all_jobs))),
    ):
        for value in asked:
            if value not in known:
                raise ConfigError(f"{option} {value}: this study has {', '.join(map(str, known))}")
    chosen = {j for j in all_jobs if (not seeds or j.seed in seeds) and (not cells or j.name in cells)}
    if not chosen:  # the secondary cells have fewer seeds
        have = sorted({job.seed for job in all_jobs if job.name in cells})
        raise ConfigError(f"--only {', '.join(cells)}: it has seeds {', '.join(map(str, have))}")
    needed = {need for job in chosen for need in job.needs}
    return [job for job in all_jobs if job in chosen | needed]
