"""`slime-tau2 compare`: runs beside each other, and what their difference can and cannot show.

Runs are comparable when they were scored alike: the same domain, task file, tau2, reward basis and user. Differences are paired
by task; attempts that infrastructure ended are left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import runner, statistics
from slime_tau2.evaluation.tables import cell, points

ALIKE = (
    "domain",
    "split",
    "tau2",
    "tasks_sha256",
    "retail_basis",
    "retrieval",
    "judge_model",
    "user",
    "user_model",
    "user_temperature",
    "max_steps",
    "max_errors",
)
"""Settings that change what a score means."""


@dataclass(frozen=True)
class EvaluatedRun:
    """One directory of `slime-tau2 eval`."""

    name: str
    settings: dict[str, Any]
    successes: dict[str, list[bool]]
    excluded: int

    @property
    def rates(self) -> dict[str, float]:
        return statistics.success_rates(self.successes)


def load(directory: Path) -> EvaluatedRun:
    """Read a run.

    Raises:
        ConfigError: it is not a run's directory, or holds no scored attempt.
    """
    settings, records = directory / "settings.json", runner.read_records(directory / "attempts.jsonl")
    if not settings.exists() or not records:
        raise ConfigError(f"{directory} holds no run of `slime-tau2 eval` (settings.json and attempts.jsonl)")
    successes = statistics.successes_by_task([(r["task_id"], r["reward"]) for r in records])
    if not successes:
        raise ConfigError(f"{directory}: infrastructure ended all {len(records)} attempts; run its command again")
    return EvaluatedRun(
        directory.name, json.loads(settings.read_text(encoding="utf-8")), successes, sum(r["reward"] is None for r in records)
    )


def unlike(runs: Sequence[EvaluatedRun]) -> list[str]:
    """In what the runs were not scored alike, as texts."""
    out = []
    for key in ALIKE:
        values = {run.name: run.settings.get(key) for run in runs}
        if len({json.dumps(v) for v in values.values()}) > 1:
            out.append(f"{key}: " + ", ".join(f"{name} {value!r}" for name, value in values.items()))
    return out


def main(directories: Sequence[Path], anyway: bool, console: Console) -> None:
    """Print the tables.

    Raises:
        ConfigError: fewer than two runs, or runs that were not scored alike and not `anyway`.
    """
    if len(directories) < 2:
        raise ConfigError("name at least two runs to compare")
    runs = [load(d) for d in directories]
    if len({run.name for run in runs}) < len(runs):
        runs = [EvaluatedRun(str(d), r.settings, r.successes, r.excluded) for d, r in zip(directories, runs)]
    differing = unlike(runs)
    if differing and not anyway:
        raise ConfigError(f"the runs were not scored alike ({'; '.join(differing)}); --anyway compares them all the same")
    for text in differing:
        console.print(f"not scored alike in {text}", style="bold red", soft_wrap=True)
    console.print(_runs_table(runs))
    shared = set.intersection(*(set(r.successes) for r in runs))
    if not shared:
        raise ConfigError("the runs share no task")
    console.print(_differences_table(runs[0], runs[1:]))


def _runs_table(runs: Sequence[EvaluatedRun]) -> Table:
    most = max(min(len(s) for s in run.successes.values()) for run in runs)
    table = Table(title="Runs (%, 95 % CI over tasks)", title_justify="left")
    names = ["avg", *(f"pass@{k}" for k in range(2, most + 1)), *(f"pass^{k}" for k in range(2, most + 1))]
    for column in ("", "tasks", "attempts", "excluded", *names):
        table.add_column(column, justify="left" if column == "" else "right")
    for run in runs:
        row = statistics.summarise(run.successes, range(1, most + 1))
        row["avg"] = statistics.bootstrap_mean(list(run.rates.values()))
        attempts = sum(map(len, run.successes.values()))
        table.add_row(run.name, str(len(run.successes)), str(attempts), str(run.excluded), *(cell(row.get(n)) for n in names))
    return table


def _differences_table(baseline: EvaluatedRun, others: Sequence[EvaluatedRun]) -> Table:
    table = Table(title=f"Against {baseline.name}, paired by task (points, 95 % CI)", title_justify="left")
    for column in ("", "tasks", "difference in avg", "better, worse", "sign test p", "could have shown"):
        table.add_column(column, justify="left" if column == "" else "right")
    for other in others:
        table.add_row(*_difference(other.name, baseline.rates, other.rates))
    table.caption = "`could have shown`: the true difference that so many tasks and attempts show four times in five"
    return table


def _difference(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> tuple[str, ...]:
    gain, sign = statistics.paired_difference(a, b), statistics.sign_test(a, b)
    return (
        name,
        str(gain.tasks),
        points(gain),
        f"{sign.better}, {sign.worse}",
        f"{sign.p:.2g}",
        f"{100 * statistics.smallest_difference(a, b):.1f}",
    )
