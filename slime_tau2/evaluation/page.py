"""`report.html`: one self-contained file with the tables, the plots and every conversation of one or several runs.

No network. Whatever a model or a user said reaches the page either through the template's escaping or as compressed
data that the viewer turns into text nodes; it is never markup.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from slime_tau2 import bench, files
from slime_tau2.episode import worlds
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import conversations, estimators, failures, plots, runs, scores
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tables import cell


@dataclass(frozen=True)
class Stage:
    """One run of `eval`: its name on the page, its records, and the tasks and attempts of its plan."""

    name: str
    records: list[dict[str, Any]]
    tasks: list[TaskKey]
    attempts: int

    @classmethod
    def of(cls, run: EvaluatedRun) -> Stage:
        return cls(run.title, run.records, run.plan.keys, run.plan.attempts)

    @property
    def successes(self) -> dict[TaskKey, list[bool]]:
        return runs.successes(self.tasks, self.records)


@dataclass
class Page:
    """What a page shows. `facts` are lines of text; `training` the lines of a local run's metrics.jsonl."""

    title: str
    stages: list[Stage]
    facts: list[str] = field(default_factory=list)
    training: list[dict[str, Any]] = field(default_factory=list)
    snippet: str = ""


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
    rows = [conversations.row(stage.name, r) for stage in page.stages for r in stage.records]
    chunks = conversations.pack([conversations.body(r) for stage in page.stages for r in stage.records])
    metrics, score_rows = _scores(page.stages)
    html = environment.get_template("page.html").render(
        page=page,
        metrics=metrics,
        score_rows=score_rows,
        health=_health(page.stages),
        terminations=_terminations(page.stages),
        failures=_failures(page.stages),
        curves=plots.pass_curves(_curves(page.stages)),
        training=plots.training(page.training) if page.training else "",
        script=(here / "viewer.js").read_text(encoding="utf-8"),
        rows=json.dumps(rows).replace("<", "\\u003c"),
        chunks=json.dumps(chunks),
        chunk=conversations.CHUNK,
    )
    files.write_whole(path, html)


def _scores(stages: Sequence[Stage]) -> tuple[list[str], list[dict[str, Any]]]:
    """The metrics' names, and a row a stage and family: its name and one cell a metric."""
    tables = [(stage.name, scores.scores(stage.successes, scores.ks(stage.attempts))) for stage in stages]
    found = dict.fromkeys(m for _, table in tables for m in table[scores.OVERALL])
    metrics = [m for m in found if m != "pass^1"]  # it is pass@1
    out = []
    for stage, table in tables:
        for n, (name, row) in enumerate(table.items()):
            out.append({"stage": stage if n == 0 else "", "name": name, "cells": [cell(row.get(m)) for m in metrics]})
    return metrics, out


def _curves(stages: Sequence[Stage]) -> dict[str, dict[int, tuple[estimators.Estimate, estimators.Estimate]]]:
    out = {}
    for stage in stages:
        found = estimators.summarise(stage.successes, range(1, stage.attempts + 1))
        ks = [k for k in range(1, stage.attempts + 1) if f"pass@{k}" in found]
        out[stage.name] = {k: (found[f"pass@{k}"], found[f"pass^{k}"]) for k in ks}
    return out


def _health(stages: Sequence[Stage]) -> tuple[list[str], list[list[str]]]:
    """What the episodes did, a column a stage: lengths, tools, the user simulator."""
    lines: dict[str, list[str]] = {}
    for stage in stages:
        scored = [r for r in stage.records if r["reward"] is not None]
        mean = lambda f, part=scored: f"{fmean(map(f, part)):.2f}" if part else "–"  # noqa: E731
        turns = sum(len(r["turns"]) for r in scored) or 1
        figures = {
            "attempts, of these ended by the infrastructure": (
                f"{len(stage.records)}, {len(stage.records) - len(scored)}"
            ),
            "agent turns an episode": mean(lambda r: len(r["turns"])),
            "tool calls an episode": mean(lambda r: sum(t["calls"] for t in r["turns"])),
            "tool errors an episode": mean(lambda r: r["tool_errors"]),
            "malformed calls an episode": mean(lambda r: sum(t["malformed"] for t in r["turns"])),
            "response tokens an episode": mean(lambda r: r["response_tokens"]),
            "seconds for the user's reply, a turn": f"{sum(r['user_s'] for r in scored) / turns:.2f}",
            "user confirmed and hung up too early": mean(lambda r: bool(r.get("user_stopped_early"))),
            "failures of the user simulator": str(sum(r["termination"] == "user_failure" for r in stage.records)),
        }
        for name, value in figures.items():
            lines.setdefault(name, []).append(value)
    return [s.name for s in stages], [[name, *values] for name, values in lines.items()]


def _terminations(stages: Sequence[Stage]) -> list[list[str]]:
    counts = [Counter(r["termination"] for r in s.records) for s in stages]
    kinds = sorted({k for c in counts for k in c}, key=lambda k: -sum(c[k] for c in counts))
    return [
        [k, *(f"{c[k]} ({100 * c[k] / max(1, sum(c.values())):.0f} %)" if c[k] else "–" for c in counts)] for k in kinds
    ]


def _failures(stages: Sequence[Stage]) -> list[list[str]]:
    """Kinds of failure, a column a stage, and an example of the last stage that has one."""
    found = [failed(stage.records) for stage in stages]
    out = []
    for kind, what in failures.KINDS.items():
        parts = [[f for f in one if f.kind == kind] for one in found]
        if any(parts):
            example = next(p[0] for p in reversed(parts) if p)
            out.append([f"{kind}: {what}", *(str(len(p)) if p else "–" for p in parts), example.example])
    return out


def failed(records: Sequence[Mapping[str, Any]]) -> list[failures.Failure]:
    """The failed attempts among records, each with what went wrong."""
    writes = {d: _writes(d) for d in {r["domain"] for r in records}}
    return [f for r in records if (f := failures.classify(r, writes[r["domain"]])) is not None]


def _writes(domain: str) -> set[str]:
    try:
        return worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL).writes
    except BenchDataError:  # a run of another machine's domain is still worth reading
        return set()
