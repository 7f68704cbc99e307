"""`report.html`: one self-contained file with the scores, the curves and every conversation of one or several runs.

No network. Whatever a model or a user said reaches the page either through the template's escaping or as compressed
data that the viewer turns into text nodes; it is never markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.evaluation import conversations, estimators, page_index, page_tasks, page_training
from slime_tau2.evaluation.costs import Price
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.shown import ShownRun, writes
from slime_tau2.record import AttemptRecord
from slime_tau2.viewer import blocks, document
from slime_tau2.viewer.talk import Talk
from slime_tau2.viewer.talk import block as block_of

HERE = Path(__file__).parent


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
    prices: Mapping[str, Price] | None = None
    """{model: its price}, with each model of the runs."""


def write(page: Page, path: Path) -> None:
    """Write the page, whole or not at all."""
    lines = page_index.by_task(page.runs)
    groups = ([_talk(page.runs[run], record, page.prices) for run, record in found] for found in lines.values())
    talks = list(blocks.in_blocks(groups))
    html = document.render(
        HERE / "page.html",
        values={"page": page},
        scripts=[HERE / "page_summary.js", HERE / "page_talks.js", HERE / "page.js"],
        first={
            "index": {
                **page_index.index(page.runs, lines, [len(block) for block in talks], page.prices),
                "curves": _curves(page.runs),
                "training": page_training.charts(page.training) if page.training else [],
            }
        },
        later={
            **{f"tasks of {domain}": texts for domain, texts in _tasks(lines).items()},
            **{f"talks {n}": block_of(block) for n, block in enumerate(talks)},
        },
    )
    files.write_whole(path, html)


def _talk(run: ShownRun, record: AttemptRecord, prices: Mapping[str, Price] | None) -> Talk:
    """A conversation with what is found in it."""
    key = record["domain"], record["task_id"], record["attempt"]
    judged, failure, cost = run.judged_of.get(key), run.failure_of.get(key), run.cost(record, prices)
    facts = [("what went wrong", f"{failure.kind}: {failure.detail}")] if failure else []
    facts += [] if cost is None else [("cost", f"{cost:.4f} in the currency of the table")]
    return conversations.talk(
        record, writes=writes(record["domain"]), findings=judged.findings if judged else (), facts=facts
    )


def _tasks(lines: Mapping[TaskKey, Sequence[page_index.Line]]) -> dict[str, page_tasks.DomainTexts]:
    """{domain: what is said of its tasks}."""
    known: dict[str, list[Any]] = {}
    for (domain, _), found in lines.items():
        task = page_tasks.task_of(found[0][1])
        known.setdefault(domain, []).extend([] if task is None else [task])
    return {domain: page_tasks.texts(domain, tasks) for domain, tasks in known.items()}


def _curves(shown: Sequence[ShownRun]) -> list[page_training.Chart]:
    """pass@k and pass^k of every run, with their intervals."""
    estimates = [estimators.summarise(run.successes, range(1, run.attempts + 1)) for run in shown]
    out = []
    for mark, what in (("@", "any of k attempts succeeds"), ("^", "all k attempts succeed")):
        curves = []
        for n, (run, found) in enumerate(zip(shown, estimates)):
            points = [(k, found[f"pass{mark}{k}"]) for k in range(1, run.attempts + 1) if f"pass{mark}{k}" in found]
            curves.append(
                {
                    "name": run.name,
                    "colour": n,
                    "points": [[k, round(100 * e.value, 2)] for k, e in points],
                    "band": [[round(100 * e.low, 2), round(100 * e.high, 2)] for _, e in points],
                }
            )
        title = f"pass{mark}k: {what}"
        out.append({"title": title, "x": "k", "y": "% of tasks", "range": [0, 100], "curves": curves})
    return out
