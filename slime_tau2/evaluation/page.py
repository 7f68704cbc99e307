"""`report.html`: one self-contained file with the tables, the plots and every conversation of one or several runs.

No network. Whatever a model or a user said reaches the page either through the template's escaping or as compressed data that the
viewer turns into text nodes; it is never markup.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.errors import BenchDataError
from slime_tau2.evaluation import failures, plots, runner, statistics
from slime_tau2.evaluation.tables import cell

CHUNK = 40
"""Conversations compressed together: opening one unpacks so many."""


@dataclass(frozen=True)
class Stage:
    """One run of `eval`: its name on the page and its records."""

    name: str
    records: list[dict[str, Any]]

    @property
    def attempts(self) -> int:
        return 1 + max((r["attempt"] for r in self.records), default=0)


@dataclass
class Page:
    """What a page shows. `facts` are lines of text; `training` the lines of a local run's metrics.jsonl."""

    title: str
    stages: list[Stage]
    facts: list[str] = field(default_factory=list)
    training: list[dict[str, Any]] = field(default_factory=list)
    snippet: str = ""


def write(page: Page, path: Path) -> None:
    """Write the page, whole or not at all."""
    import jinja2

    here = Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined)
    rows, chunks = _conversations(page.stages)
    metrics, score_rows = _scores(page.stages)
    html = environment.get_template("page.html").render(
        page=page, metrics=metrics, score_rows=score_rows, health=_health(page.stages),
        terminations=_terminations(page.stages), failures=_failures(page.stages), curves=plots.pass_curves(_curves(page.stages)),
        training=plots.training(page.training) if page.training else "", script=(here / "viewer.js").read_text(encoding="utf-8"),
        rows=json.dumps(rows).replace("<", "\\u003c"), chunks=json.dumps(chunks), chunk=CHUNK,
    )  # fmt: skip
    staging = path.with_suffix(".part")
    staging.write_text(html, encoding="utf-8")
    staging.replace(path)


def _scores(stages: Sequence[Stage]) -> tuple[list[str], list[dict[str, Any]]]:
    """The metrics' names, and a row a stage and family: its name and one cell a metric."""
    tables = [(stage.name, runner.tables(stage.records, stage.attempts)) for stage in stages]
    found = dict.fromkeys(m for _, table in tables for m in table["overall"])
    metrics = [m for m in found if m != "pass^1"]  # it is pass@1
    out = []
    for stage, table in tables:
        for n, (name, row) in enumerate(table.items()):
            out.append({"stage": stage if n == 0 else "", "name": name, "cells": [cell(row.get(m)) for m in metrics]})
    return metrics, out


def _curves(stages: Sequence[Stage]) -> dict[str, dict[int, tuple[statistics.Estimate, statistics.Estimate]]]:
    out = {}
    for stage in stages:
        successes = statistics.successes_by_task([(f"{r['domain']}/{r['task_id']}", r["reward"]) for r in stage.records])
        ks = list(range(1, min((len(v) for v in successes.values()), default=0) + 1))
        found = statistics.summarise(successes, ks)
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
            "attempts, of these ended by the infrastructure": f"{len(stage.records)}, {len(stage.records) - len(scored)}",
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
    return [[k, *(f"{c[k]} ({100 * c[k] / max(1, sum(c.values())):.0f} %)" if c[k] else "–" for c in counts)] for k in kinds]


def _failures(stages: Sequence[Stage]) -> list[list[str]]:
    """Kinds of failure, a column a stage, and an example of the last stage that has one."""
    found = [failed(stage.records) for stage in stages]
    out = []
    for kind, what in failures.KINDS.items():
        parts = [[f for f in one if f.kind == kind] for one in found]
        if any(parts):
            example = next(p[0] for p in reversed(parts) if p)
            text = f"{example.task_id}, attempt {example.attempt}: {example.detail}"[:160]
            out.append([f"{kind}: {what}", *(str(len(p)) if p else "–" for p in parts), text])
    return out


def failed(records: Sequence[Mapping[str, Any]]) -> list[failures.Failure]:
    """The failed attempts among records, each with what went wrong."""
    writes = {d: _writes(d) for d in {r["domain"] for r in records}}
    return [f for r in records if (f := failures.classify(r, writes[r["domain"]])) is not None]


def _writes(domain: str) -> set[str]:
    try:
        types = worlds.load(domain).grader.tool_types
    except BenchDataError:  # a run of another machine's domain is still worth reading
        return set()
    return {name for name, kind in types.items() if kind == bench.ToolType.WRITE}


def _conversations(stages: Sequence[Stage]) -> tuple[list[list[Any]], list[str]]:
    """(a row a conversation for the list, the conversations in compressed chunks)."""
    rows: list[list[Any]] = []
    bodies: list[dict[str, Any]] = []
    for stage in stages:
        for r in stage.records:
            partial = None if r["partial"] is None else round(r["partial"], 2)
            rows.append([stage.name, runner.family(r), r["task_id"], r["attempt"], r["reward"], partial, r["termination"], len(r["turns"])])
            bodies.append(_body(r))
    chunks = [bodies[n : n + CHUNK] for n in range(0, len(bodies), CHUNK)]
    return rows, [base64.b64encode(gzip.compress(json.dumps(c, ensure_ascii=False).encode(), 6)).decode() for c in chunks]


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    """One conversation as the viewer reads it: messages, each agent message with its turn's scores and tokens, and the checks."""
    turns, tokens = record["turns"], iter(record.get("turn_tokens") or [])
    marks = [
        {
            "partial": t["partial"],
            "gain": t["gain"],
            "malformed": t["malformed"],
            "tokens": next(tokens, []) if t["end"] > t["start"] else [],
        }
        for t in turns
    ]
    sent = sum(t["sent"] for t in turns)
    spoken = [n for n, m in enumerate(record["messages"]) if m["role"] == "assistant"]
    own = dict(zip(spoken[len(spoken) - sent :], marks))
    messages = []
    for n, m in enumerate(record["messages"]):
        calls = [[c["name"], c["arguments"]] for c in m.get("tool_calls") or []]
        by = m.get("requestor", "assistant") if m["role"] == "tool" else m["role"]
        messages.append(
            {"role": m["role"], "by": by, "text": m.get("content") or "", "calls": calls, "error": bool(m.get("error")), "turn": own.get(n)}
        )
    if sent < len(turns):
        messages.append({"role": "assistant", "by": "unsent", "text": turns[-1]["text"], "calls": [], "error": False, "turn": marks[-1]})
    return {"detail": record["detail"], "messages": messages, "checks": _checks(record.get("reward_info") or {})}


def _checks(info: Mapping[str, Any]) -> list[list[Any]]:
    """[met, kind, what, whether the reward counts it] of each of tau2's checks."""
    basis = set(info.get("reward_basis") or ())
    found: list[tuple[bool, str, str, str]] = []
    if info.get("db_check"):
        found.append((info["db_check"]["db_match"], "database", "in the state that the solution leaves", "DB"))
    for c in info.get("action_checks") or []:
        call = f"{c['action']['name']}({json.dumps(c['action']['arguments'], ensure_ascii=False)})"
        found.append((c["action_match"], "action", call, "ACTION"))
    for c in info.get("env_assertions") or []:
        found.append((c["met"], "assertion", c["env_assertion"]["func_name"], "ENV_ASSERTION"))
    for c in info.get("communicate_checks") or []:
        found.append((c["met"], "told", c["info"], "COMMUNICATE"))
    for c in info.get("nl_assertions") or []:
        found.append((c["met"], "judged", c.get("nl_assertion", ""), "NL_ASSERTION"))
    return [[bool(met), kind, what, source in basis] for met, kind, what, source in found]
