"""`report.html`: one self-contained file with the tables, the plots and every conversation of one or several runs.

No network. Whatever a model or a user said reaches the page either through the template's escaping or as compressed
data that the viewer turns into text nodes; it is never markup.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from slime_tau2 import bench, files
from slime_tau2.episode import worlds
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import conversations, estimators, failures, plots, runs, scores
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.fault import summary
from slime_tau2.evaluation.fault.judge import Judge, Judged
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tables import cell
from slime_tau2.record import AttemptRecord
from slime_tau2.terminations import Termination


@dataclass(frozen=True)
class ShownRun:
    """One run of `eval` on a page."""

    name: str
    """What the page calls it."""
    records: list[AttemptRecord]
    tasks: list[TaskKey]
    """The tasks of its plan."""
    attempts: int
    """The plan's attempts at each task."""

    @classmethod
    def of(cls, run: EvaluatedRun) -> ShownRun:
        return cls(run.title, run.records, run.plan.keys, run.plan.attempts)

    @property
    def successes(self) -> dict[TaskKey, list[bool]]:
        """{task: success of each scored attempt}."""
        return runs.successes(self.tasks, self.records)

    @cached_property
    def judged(self) -> list[Judged]:
        """What is proven of each failed conversation."""
        return Judge().judge_all(self.records)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows."""

    title: str
    runs: list[ShownRun]
    facts: list[str] = field(default_factory=list)
    """Lines of text below the title."""
    training: list[dict[str, Any]] = field(default_factory=list)
    """Lines of a pipeline's metrics.jsonl, for the plots of its training."""
    snippet: str = ""
    """Code that loads the model."""


def check_target(path: Path) -> None:
    """Raises ConfigError where the page would replace what is no page."""
    if path.exists() and (path.is_dir() or not path.read_bytes()[:20].lower().startswith(b"<!doctype html>")):
        raise ConfigError(f"{path} exists and is no page of a report; name another --output")


def write(page: Page, path: Path) -> None:
    """Write the page, whole or not at all."""
    import jinja2

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined
    )
    rows = [conversations.row(run.name, record) for run in page.runs for record in run.records]
    chunks = conversations.pack([body for run in page.runs for body in _bodies(run)])
    metrics, score_rows = _scores(page.runs)
    html = environment.get_template("page.html").render(
        page=page,
        metrics=metrics,
        score_rows=score_rows,
        health=_health(page.runs),
        terminations=_terminations(page.runs),
        failures=_failures(page.runs),
        faults=summary.page_rows([run.judged for run in page.runs]),
        curves=plots.pass_curves(_curves(page.runs)),
        training=plots.training(page.training) if page.training else "",
        script=(here / "viewer.js").read_text(encoding="utf-8"),
        rows=json.dumps(rows).replace("<", "\\u003c"),
        chunks=json.dumps(chunks),
        chunk=conversations.CHUNK,
    )
    files.write_whole(path, html)


def _bodies(run: ShownRun) -> Iterator[conversations.Body]:
    """A run's conversations as the viewer reads them."""
    proven = {judged.key: judged.findings for judged in run.judged}
    for record in run.records:
        key = record["domain"], record["task_id"], record["attempt"]
        yield conversations.body(record, proven.get(key, ()))


@dataclass(frozen=True)
class _ScoreRow:
    """A row of the page's table of scores."""

    run: str
    """The run's name in its first row, else empty."""
    name: str
    """Which tasks."""
    cells: list[str]
    """One per metric."""


def _scores(shown: Sequence[ShownRun]) -> tuple[list[str], list[_ScoreRow]]:
    """The metrics' names, and one row per run and family."""
    tables = [(run.name, scores.scores(run.successes, scores.ks(run.attempts))) for run in shown]
    names = dict.fromkeys(metric for _, table in tables for metric in table[scores.OVERALL])
    metrics = [metric for metric in names if metric != "pass^1"]  # it is pass@1
    out = []
    for run, table in tables:
        for n, (name, row) in enumerate(table.items()):
            out.append(_ScoreRow(run if n == 0 else "", name, [cell(row.get(metric)) for metric in metrics]))
    return metrics, out


def _curves(shown: Sequence[ShownRun]) -> dict[str, dict[int, tuple[Estimate, Estimate]]]:
    """{run: {k: (pass@k, pass^k)}}."""
    out = {}
    for run in shown:
        ks = range(1, run.attempts + 1)
        estimates = estimators.summarise(run.successes, ks)
        out[run.name] = {k: (estimates[f"pass@{k}"], estimates[f"pass^{k}"]) for k in ks if f"pass@{k}" in estimates}
    return out


def _health(shown: Sequence[ShownRun]) -> tuple[list[str], list[list[str]]]:
    """(names of the runs, rows of a name and one value per run): lengths, tools, the user simulator."""
    lines: dict[str, list[str]] = {}
    for run in shown:
        for name, value in _figures(run.records).items():
            lines.setdefault(name, []).append(value)
    return [run.name for run in shown], [[name, *values] for name, values in lines.items()]


def _figures(records: Sequence[AttemptRecord]) -> dict[str, str]:
    """{name: value} of what a run's episodes did."""
    scored = [record for record in records if record["reward"] is not None]
    turns = sum(len(record["turns"]) for record in scored) or 1

    def mean(of: Callable[[AttemptRecord], float]) -> str:
        return f"{fmean(map(of, scored)):.2f}" if scored else "–"

    return {
        "attempts, of these ended by the infrastructure": f"{len(records)}, {len(records) - len(scored)}",
        "agent turns per episode": mean(lambda r: len(r["turns"])),
        "tool calls per episode": mean(lambda r: sum(t["calls"] for t in r["turns"])),
        "tool errors per episode": mean(lambda r: r["tool_errors"]),
        "malformed calls per episode": mean(lambda r: sum(t["malformed"] for t in r["turns"])),
        "response tokens per episode": mean(lambda r: r["response_tokens"]),
        "seconds for the user's reply, per turn": f"{sum(r['user_s'] for r in scored) / turns:.2f}",
        "user confirmed and hung up too early": mean(lambda r: r["user_stopped_early"]),
        "failures of the user simulator": str(sum(r["termination"] == Termination.USER_FAILURE for r in records)),
    }


def _terminations(shown: Sequence[ShownRun]) -> list[list[str]]:
    """Rows of an ending and its share of each run's attempts, the most frequent first."""
    counts = [Counter(record["termination"] for record in run.records) for run in shown]
    kinds = sorted(set().union(*counts), key=lambda kind: -sum(c[kind] for c in counts))
    return [[kind, *(_share(c[kind], c.total()) for c in counts)] for kind in kinds]


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.0f} %)" if count else "–"


def _failures(shown: Sequence[ShownRun]) -> list[list[str]]:
    """Rows of a kind of failure, its count in each run, and an example from the last run that has one."""
    by_run = [failed(run.records) for run in shown]
    out = []
    for kind, what in failures.KINDS.items():
        parts = [[failure for failure in found if failure.kind == kind] for found in by_run]
        if any(parts):
            example = next(part[0] for part in reversed(parts) if part)
            out.append([f"{kind}: {what}", *(str(len(part)) if part else "–" for part in parts), example.example])
    return out


def failed(records: Sequence[AttemptRecord]) -> list[failures.Failure]:
    """The failed attempts among records, each with what went wrong."""
    writes = {d: _writes(d) for d in {r["domain"] for r in records}}
    found = (failures.classify(record, writes[record["domain"]]) for record in records)
    return [failure for failure in found if failure is not None]


def _writes(domain: str) -> set[str]:
    try:
        return worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL).writes
    except (BenchDataError, ConfigError):  # a run of another machine's domain is still worth reading
        return set()
