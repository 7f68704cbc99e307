"""`slime-tau2 report`: runs side by side, in the terminal and as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from slime_tau2.evaluation import costs, failures, page, published, runs, scores
from slime_tau2.evaluation.page import Page, ShownRun
from slime_tau2.evaluation.tables import metrics_table


def write(directories: Sequence[Path], output: Path | None, prices: Path | None, console: Console) -> None:
    """Print each run's table, coverage, tokens and failures, and write the page of them all.

    Raises:
        ConfigError: a directory holds no run, or the table of prices lacks a model.
    """
    path = output or directories[0] / "report.html"
    page.check_target(path)
    evaluated = runs.load_all(directories)
    table = None if prices is None else costs.read_prices(prices)
    spent = {run.name: costs.lines(costs.used(run.records), run.plan.settings, table) for run in evaluated}
    for run in evaluated:
        title = f"{run.title}: {run.plan.name}"
        console.print(metrics_table(title, scores.scores(run.successes, scores.ks(run.plan.attempts))))
        beside = published.table(run)
        if beside is not None:
            console.print(beside)
        for line in (str(run.coverage), *spent[run.name]):
            console.print(line, soft_wrap=True, highlight=False)
        console.print(failures.table(page.failed(run.records)))
    facts = [f"{run.title}: {run.plan.name}, {run.coverage}; tau2 {run.plan.tau2}; {_hashes(run)}" for run in evaluated]
    facts += [f"{name}: {'; '.join(lines)}" for name, lines in spent.items() if lines]
    page.write(Page(title="slime_tau2 evaluation", runs=[ShownRun.of(run) for run in evaluated], facts=facts), path)
    console.print(f"every conversation: {path}", soft_wrap=True)


def _hashes(run: runs.EvaluatedRun) -> str:
    return ", ".join(f"tasks of {s.domain} {s.tasks_sha256[:12]}" for s in run.plan.sets)
