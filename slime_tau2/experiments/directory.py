"""What lies where in the directory of a run, whoever writes or reads it: the stages in their order, models,
evaluations, metrics, usage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from slime_tau2 import files
from slime_tau2.errors import ConfigError

STAGES = ("base", "sft", "rft", "grpo")
"""In their order: each but the first trains the model of the one before it."""


def before(stage: str) -> str:
    """The stage whose model this one starts from."""
    return STAGES[STAGES.index(stage) - 1]


def model(run: Path, stage: str) -> Path:
    """The Hugging Face model that a stage ends with."""
    return run / stage / "model"


def evaluation(run: Path, name: str) -> Path:
    """Records and summary of an evaluation: of a stage, or a repeated one."""
    return run / "eval" / name


def is_evaluated(run: Path, name: str) -> bool:
    return (evaluation(run, name) / "summary.json").exists()


class Usage(BaseModel):
    """`usage.json`: what a run took so far. Lags are milliseconds: p50, p99 and max of the event loop."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    wall_s: float
    mismatches: int
    audited: int
    peak_rss_mib: int
    lags: dict[str, float] | None


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Lines of a run's metrics.jsonl, one a step; [] where a run has only sampled.

    Raises:
        ConfigError: a line that is none of `Stage.log`'s; names it.
    """
    path = directory / "metrics.jsonl"
    out = []
    for number, row in files.read_jsonl(path, ("stage", "step")) if path.exists() else ():
        odd = [k for k, v in row.items() if not isinstance(v, str if k == "stage" else int | float)]
        if odd:
            raise ConfigError(
                f"{path}, line {number}: {odd[0]}: {row[odd[0]]!r} is no {'name' if odd[0] == 'stage' else 'number'}"
            )
        out.append(row)
    return out
