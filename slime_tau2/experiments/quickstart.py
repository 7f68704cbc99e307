"""The quickstart's face: progress while it runs, then the table, `report.json`, the plot and the page.

Everything shown is computed from the run's own files, so `slime-tau2 report DIR` shows the same.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_tau2 import bench, files
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import estimators, page, runs, scores
from slime_tau2.evaluation.tables import points, stages_table
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import watch
from slime_tau2.experiments.directory import STAGES, Usage, read_metrics
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
    settings = files.read_as(directory / "settings.json", PipelineSettings, complete=True).model_dump(mode="json")
    rows = read_metrics(directory)
    run = files.read_as(directory / "usage.json", Usage).model_dump()
    evaluated = {s: runs.load(layout.evaluation(directory, s)) for s in STAGES}
    for found in evaluated.values():
        runs.require_scores(found.coverage, found.records, found.directory)
    attempts = evaluated["base"].plan.attempts
    stages = {s: scores.scores(r.successes, scores.ks(attempts)) for s, r in evaluated.items()}
    metrics = [m for m in METRICS if m in stages["base"]["overall"]]
    pairs = itertools.pairwise(STAGES)
    gains = {
        f"{b.upper()} − {a.upper()}": estimators.paired_difference(evaluated[a].rates, evaluated[b].rates)
        for a, b in pairs
    }
    model = layout.model(directory, STAGES[-1])
    report: dict[str, Any] = {
        "stages": {
            s: {f: {m: round(e.value, 4) for m, e in row.items()} for f, row in t.items()} for s, t in stages.items()
        },
        "intervals": {
            s: {f: {m: _interval(e) for m, e in row.items()} for f, row in t.items()} for s, t in stages.items()
        },
        "paired_pass^1": {name: e.to_json() for name, e in gains.items()},
        "held_out_tasks": stages["base"]["overall"]["pass@1"].tasks,
        "attempts": attempts,
        "token_mismatches": run["mismatches"],
        "audited_episodes": run["audited"],
        "wall_s": round(run["wall_s"], 1),
        "peak_rss_mib": run["peak_rss_mib"],
        "event_loop_lag_ms": run["lags"],
        "model": str(model),
        "settings": settings,
    }
    (directory / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    table = stages_table(stages, metrics)
    counted = f"{run['mismatches']} token mismatches in {run['audited']} audited episodes"
    size = f"{report['held_out_tasks']} held-out tasks, {attempts} attempts each"
    facts = [f"{size}; {counted}; {run['wall_s']:.0f} s; {run['peak_rss_mib']} MiB."]
    facts += [f"{name} in pass^1: {points(gain)} points, paired 95 % CI" for name, gain in gains.items()]
    shown = [page.Stage.of(r) for r in evaluated.values()]
    path = output or directory / "report.html"
    title = "slime_tau2 quickstart: SFT → RFT → GRPO on helpdesk"
    page.write(page.Page(title, shown, facts, rows, SNIPPET.format(path=model)), path)
    console.print(table)
    for name, gain in gains.items():
        console.print(f"{name} in pass^1: {points(gain)} points, paired 95 % CI")
    lags = run["lags"] or {"p99": float("nan"), "max": float("nan")}
    console.print(
        f"token mismatches {run['mismatches']} in {run['audited']} audited episodes; wall time "
        f"{run['wall_s']:.0f} s; peak memory "
        f"{run['peak_rss_mib']} MiB; event-loop lag p99 {lags['p99']:.0f} ms, max {lags['max']:.0f} ms",
        soft_wrap=True,
    )
    console.print(f"report: {path}\nmodel:  {model}\n", soft_wrap=True)
    console.print(SNIPPET.format(path=model), soft_wrap=True, highlight=False)


def _interval(estimate: estimators.Estimate) -> list[float]:
    return [round(estimate.low, 4), round(estimate.high, 4)]
