"""What lies where in a run's directory: the stages in their order, models, evaluations, metrics, usage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from slime_tau2 import files
from slime_tau2.data import records
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation.plan import SUMMARY
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.study_grid import StudySettings

USAGE = "usage.json"
METRICS_FILE = "metrics.jsonl"
REPORT = "report.json"
STAGES = ("base", "sft", "rft", "grpo")
"""In their order: each but the first trains the model of the one before it."""


def kind(directory: Path) -> Literal["study", "quickstart"] | None:
    """Which experiment a directory holds; None: none, perhaps an evaluation."""
    if (directory / StudySettings.FILE).exists():
        return "study"
    is_evaluation = (directory / records.FILE).exists()  # old ones have a settings.json, too
    return "quickstart" if (directory / PipelineSettings.FILE).exists() and not is_evaluation else None


def before(stage: str) -> str:
    """The stage whose model this one starts from."""
    return STAGES[STAGES.index(stage) - 1]


@dataclass(frozen=True)
class StageModel:
    """The model that a stage of a run ends with."""

    run: Path
    """The run's directory."""
    stage: str
    """The stage's name, under which the records of the model's attempts go."""

    @property
    def path(self) -> Path:
        """The model's Hugging Face directory."""
        return model(self.run, self.stage)


def model(run: Path, stage: str) -> Path:
    """The Hugging Face model that a stage ends with."""
    return run / stage / "model"


def rft_samples(run: Path) -> Path:
    """Plan and records of the attempts that RFT's data are selected from."""
    return run / "data" / "rft_samples"


def rft_data(run: Path) -> Path:
    """The conversations that RFT trains on."""
    return run / "data" / "rft.jsonl"


def evaluation(run: Path, name: str) -> Path:
    """Records and summary of an evaluation of a stage, or of a repeated one."""
    return run / "eval" / name


def is_evaluated(run: Path, name: str) -> bool:
    """Whether an evaluation has come to its end, with a score for each attempt: one that the infrastructure ended has a
    summary, too.

    Raises:
        ConfigError: the summary is broken.
    """
    path = evaluation(run, name) / SUMMARY
    return path.exists() and bool(files.read_object(path).get("whole", True))  # 0.1's summaries did not say it


class Usage(BaseModel):
    """`usage.json`: what a run took so far."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    wall_s: float
    """Seconds, over all processes that worked on the run."""
    mismatches: int
    """Token mismatches, found by the audit or by the servers."""
    audited: int
    """Episodes that the audit looked at."""
    peak_rss_mib: int
    """Most memory of a process and its server together, in MiB."""
    lags: dict[str, float] | None
    """p50, p99 and max of how late the event loop was, in milliseconds; None: nothing was measured."""


NO_USAGE = Usage(wall_s=0.0, mismatches=0, audited=0, peak_rss_mib=0, lags=None)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Lines of a run's metrics.jsonl, one per step; [] where a run has only sampled.

    Raises:
        ConfigError: a line that is none of `Stage.log`'s; names it.
    """
    path = directory / METRICS_FILE
    out = []
    for number, row in files.read_jsonl(path, ("stage", "step")) if path.exists() else ():
        odd = [k for k, v in row.items() if not isinstance(v, str if k == "stage" else int | float)]
        if odd:
            raise ConfigError(
                f"{path}, line {number}: {odd[0]}: {row[odd[0]]!r} is no {'name' if odd[0] == 'stage' else 'number'}"
            )
        out.append(row)
    return out


def steps(directory: Path, stage: str) -> list[dict[str, Any]]:
    """The lines of a stage in a run's metrics.jsonl, in order: one per optimizer step, or per rollout of GRPO. A step
    that was made again counts once.
    """
    rows = {row["step"]: row for row in read_metrics(directory) if row["stage"] == stage}
    return [rows[step] for step in sorted(rows)]
