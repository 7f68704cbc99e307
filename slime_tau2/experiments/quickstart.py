"""The quickstart's face: progress while it runs, then the table, `report.json`, the plot and the page.

Everything shown is computed from the run's own files, so `slime-tau2 report DIR` shows the same.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from slime_tau2 import bench, files
from slime_tau2.dumps.store import FOLDER
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import estimators, page, runs, scores
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.fault import summary
from slime_tau2.evaluation.page import Page
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.shown import ShownRun
from slime_tau2.evaluation.tables import points, stages_table
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import watch
from slime_tau2.experiments.directory import STAGES, Usage
from slime_tau2.experiments.settings import SMOKE, PipelineSettings, pipeline_settings

METRICS = ["pass@1", "pass@4", "pass^4"]
SNIPPET = """from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained("{path}") for kind in (AutoModelForCausalLM, AutoTokenizer))
print(tokenizer.decode(model.generate(**tokenizer("Hi", return_tensors="pt"), max_new_tokens=20)[0]))"""


def main(output: Path, smoke: bool, assignments: list[str], console: Console) -> None:
    """Run or resume the pipeline in `output`, then report."""
    from slime_tau2.experiments.pipeline import Pipeline  # takes torch, which a report does not need

    settings = pipeline_settings(assignments, SMOKE if smoke else {})
    console.print(f"{bench.VINTAGE}", soft_wrap=True, highlight=False)
    with watch.watching(console) as progress:
        Pipeline(output, settings, progress).run()
    write_report(output, console)


def write_report(directory: Path, console: Console, output: Path | None = None) -> None:
    """Print the table and write report.json and the page.

    Args:
        output: the page; by default report.html in the directory.

    Raises:
        ConfigError: the directory holds no finished run.
    """
    if not layout.is_evaluated(directory, STAGES[-1]):
        raise ConfigError(f"{directory} holds no finished quickstart; run: slime-tau2 quickstart --output {directory}")
    results = _Results.of(directory)
    path = output or directory / "report.html"
    files.write_whole(directory / layout.REPORT, json.dumps(results.report(), indent=1))
    page.write(results.page(), path)
    console.print(results.table())
    for line in results.differences_lines:
        console.print(line)
    console.print(f"{STAGES[-1].upper()}, {summary.summary(results.shown[STAGES[-1]].judged)}", soft_wrap=True)
    usage = results.usage
    lags = usage.lags or {"p99": float("nan"), "max": float("nan")}
    console.print(
        f"token mismatches {usage.mismatches} in {usage.audited} audited episodes; wall time {usage.wall_s:.0f} s; "
        f"peak memory {usage.peak_rss_mib} MiB; event-loop lag p99 {lags['p99']:.0f} ms, max {lags['max']:.0f} ms",
        soft_wrap=True,
    )
    console.print(f"report: {path}\nmodel:  {results.model}", soft_wrap=True)
    if (directory / STAGES[-1] / FOLDER).is_dir():
        console.print(f"GRPO's rollouts, by token: slime-tau2 rollouts {directory}", soft_wrap=True)
    console.print()
    console.print(SNIPPET.format(path=results.model), soft_wrap=True, highlight=False)


@dataclass(frozen=True, kw_only=True)
class _Results:
    """What a finished pipeline left, and what its evaluations show."""

    directory: Path
    settings: PipelineSettings
    usage: Usage
    training: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    evaluated: dict[str, EvaluatedRun]
    """{stage: its evaluation}."""

    @classmethod
    def of(cls, directory: Path) -> _Results:
        """Raises ConfigError: a file is missing or broken, or an evaluation is not whole."""
        results = cls(
            directory=directory,
            settings=files.read_as(directory / PipelineSettings.FILE, PipelineSettings, complete=True),
            training=layout.read_metrics(directory),
            usage=files.read_as(directory / layout.USAGE, Usage),
            evaluated={stage: runs.load(layout.evaluation(directory, stage)) for stage in STAGES},
        )
        for run in results.evaluated.values():
            runs.require_scores(run.coverage, run.records, run.directory)
        return results

    @property
    def model(self) -> Path:
        """Directory of the final model."""
        return layout.model(self.directory, STAGES[-1])

    @property
    def attempts(self) -> int:
        return self.evaluated[STAGES[0]].plan.attempts

    @cached_property
    def score_tables(self) -> dict[str, scores.Scores]:
        """{stage: its table}."""
        return {s: scores.scores(run.successes, scores.ks(self.attempts)) for s, run in self.evaluated.items()}

    @property
    def _base(self) -> dict[str, Estimate]:
        return self.score_tables[STAGES[0]][scores.OVERALL]

    @cached_property
    def shown(self) -> dict[str, ShownRun]:
        """{stage: its run on the page}."""
        return {stage: ShownRun.of(run) for stage, run in self.evaluated.items()}

    @cached_property
    def differences(self) -> dict[str, Estimate]:
        """{`SFT − BASE`: difference in pass^1, paired by task}."""
        return {
            f"{b.upper()} − {a.upper()}": estimators.paired_difference(self.evaluated[a].rates, self.evaluated[b].rates)
            for a, b in itertools.pairwise(STAGES)
        }

    @property
    def differences_lines(self) -> list[str]:
        return [f"{name} in pass^1: {points(e)} points, paired 95 % CI" for name, e in self.differences.items()]

    def table(self) -> Table:
        return stages_table(self.score_tables, [m for m in METRICS if m in self._base])

    def report(self) -> dict[str, Any]:
        """What report.json holds."""
        return {
            "stages": {
                stage: {row: {m: round(e.value, 4) for m, e in cells.items()} for row, cells in table.items()}
                for stage, table in self.score_tables.items()
            },
            "intervals": {
                stage: {row: {m: _interval(e) for m, e in cells.items()} for row, cells in table.items()}
                for stage, table in self.score_tables.items()
            },
            "paired_pass^1": {name: e.to_json() for name, e in self.differences.items()},
            "faults": {stage: summary.counts(run.judged) for stage, run in self.shown.items()},
            "held_out_tasks": self._base["pass@1"].tasks,
            "attempts": self.attempts,
            "token_mismatches": self.usage.mismatches,
            "audited_episodes": self.usage.audited,
            "wall_s": round(self.usage.wall_s, 1),
            "peak_rss_mib": self.usage.peak_rss_mib,
            "event_loop_lag_ms": self.usage.lags,
            "model": str(self.model),
            "settings": self.settings.model_dump(mode="json"),
        }

    def page(self) -> Page:
        usage = self.usage
        counted = f"{usage.mismatches} token mismatches in {usage.audited} audited episodes"
        size = f"{self._base['pass@1'].tasks} held-out tasks, {self.attempts} attempts each"
        return Page(
            title="slime_tau2 quickstart: SFT → RFT → GRPO on helpdesk",
            runs=list(self.shown.values()),
            facts=[
                f"{size}; {counted}; {usage.wall_s:.0f} s; {usage.peak_rss_mib} MiB.",
                *self.differences_lines,
            ],
            training=self.training,
            snippet=SNIPPET.format(path=self.model),
        )


def _interval(estimate: Estimate) -> list[float]:
    return [round(estimate.low, 4), round(estimate.high, 4)]
