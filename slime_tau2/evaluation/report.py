"""`slime-tau2 report`: runs side by side, in the terminal, as one page, and as `report.json` beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import costs, failures, page, published, runs
from slime_tau2.evaluation.fault import summary
from slime_tau2.evaluation.page import Page
from slime_tau2.evaluation.shown import ShownRun
from slime_tau2.evaluation.tables import metrics_table
from slime_tau2.viewer import document


def write(directories: Sequence[Path], output: Path | None, prices: Path | None, console: Console) -> None:
    """Print each run's table, coverage, tokens, failures and whose fault they were; write the page of them all, and
    what is proven of faults as JSON.

    Raises:
        ConfigError: a directory holds no run, or the table of prices lacks a model.
    """
    path = output or directories[0] / "report.html"
    document.check_target(path)
    as_json = path.with_suffix(".json")
    _check_target(as_json)
    evaluated = runs.load_all(directories)
    shown = {run.name: ShownRun.of(run) for run in evaluated}
    table = None if prices is None else costs.read_prices(prices)
    used = {run.name: costs.used(run.records) for run in evaluated}
    some = any(used.values())  # scripts, which take no tokens, may stand beside models
    spent = {
        run.name: costs.lines(used[run.name], run.plan.settings, table if used[run.name] or not some else None)
        for run in evaluated
    }
    for run in evaluated:
        title = f"{run.title}: {run.plan.name}"
        console.print(metrics_table(title, shown[run.name].scores))
        beside = published.table(run)
        if beside is not None:
            console.print(beside)
        for line in (str(run.coverage), *spent[run.name]):
            console.print(line, soft_wrap=True, highlight=False)
        console.print(failures.table(shown[run.name].failures))
        for line in summary.lines(shown[run.name].judged):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    facts = [f"{run.title}: {run.plan.name}, {run.coverage}; tau2 {run.plan.tau2}; {_hashes(run)}" for run in evaluated]
    facts += [f"{name}: {'; '.join(lines)}" for name, lines in spent.items() if lines]
    page.write(Page(title="slime_tau2 evaluation", runs=list(shown.values()), facts=facts, prices=table), path)
    faults = {name: summary.to_json(run.judged) for name, run in shown.items()}
    files.write_whole(as_json, json.dumps({"faults": faults}, indent=1, ensure_ascii=False))
    console.print(f"every conversation: {path}; faults with their evidence: {as_json}", soft_wrap=True)


def _check_target(path: Path) -> None:
    """Raises ConfigError where the JSON would replace what no report wrote."""
    if not path.exists():
        return
    try:
        ours = "faults" in json.loads(files.read_text(path))
    except (ValueError, TypeError, ConfigError):
        ours = False
    if not ours:
        raise ConfigError(f"{path} exists and is no report's; name another --output")


def _hashes(run: runs.EvaluatedRun) -> str:
    return ", ".join(f"tasks of {s.domain} {s.tasks_sha256[:12]}" for s in run.plan.sets)
