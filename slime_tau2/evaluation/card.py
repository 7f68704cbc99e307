"""`slime-tau2 card`: a Hugging Face model card from the records of evaluations, and from nothing else.

The front matter's `model-index` is built and read back with `huggingface_hub`. Every number stands beside the hash of
the file that it was computed from; what the runs do not say, the card leaves to its author. Half a run is refused, or
said in the title.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from slime_tau2 import files
from slime_tau2.data import records
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import baselines, costs, published, runs, scores
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tables import cell, note

SILENT = ("policy", "model", "user_base_url")
"""Settings that say where the policy was served from: the card is about the model that it names."""


def write(
    directories: Sequence[Path],
    output: Path,
    *,
    name: str,
    base_model: str | None,
    license_name: str,
    partial: bool,
    prices: Path | None,
    console: Console,
) -> None:
    """Write the card.

    Args:
        directories: the runs, all of one model.
        name: what the card calls the model.
        base_model: repository that training started from.
        partial: take runs that are not whole, and say so in the title.
        prices: a table of prices, which turns tokens into money.

    Raises:
        ConfigError: no run, half a run and not `partial`, or the output exists.
    """
    from huggingface_hub import ModelCard, ModelCardData

    if output.exists():
        raise ConfigError(f"{output} exists; delete it, or name another --output")
    evaluated = runs.load_all(directories)
    for run in evaluated:
        runs.require_whole(run, partial, "publish")
    _of_one_model(evaluated)
    table = None if prices is None else costs.read_prices(prices)
    results = [result for run in evaluated for result in _results(run)]
    data = ModelCardData(
        model_name=name,
        base_model=base_model,
        license=license_name,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["tau2-bench", "tool-use", "slime"],
        eval_results=results,
    )
    parts = [f"{run.name}: {run.plan.name}, {run.coverage}" for run in evaluated if not _is_whole(run)]
    title = f"# {name}" + (f" (PARTIAL evaluation: {'; '.join(parts)})" if parts else "")
    body = [title, "", "Trained and evaluated with slime_tau2.", ""]
    for run in evaluated:
        body += _section(run, table)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(body))
    read = getattr(ModelCard(str(card)).data, "eval_results", None) or []
    if len(read) != len(results):
        raise ConfigError(
            f"huggingface_hub reads {len(read)} of {len(results)} results back from the card; two runs of the "
            "same name?"
        )
    files.write_whole(output, str(card))
    console.print(f"{len(results)} results of {len(evaluated)} runs: {output}", soft_wrap=True)


def _of_one_model(evaluated: Sequence[EvaluatedRun]) -> None:
    """A card is of one model, and has each number once.

    Raises:
        ConfigError: the runs are of different policies, or two of one domain.
    """
    for key in ("policy", "model", "agent_prompt_sha256", "thinking"):
        values = {run.name: run.plan.settings.get(key) for run in evaluated}
        if len(set(map(str, values.values()))) > 1:
            raise ConfigError(
                f"the runs are not of one model: {key}: {', '.join(f'{n} {v!r}' for n, v in values.items())}; write "
                "a card each"
            )
    domains = [s.domain for run in evaluated for s in run.plan.sets]
    twice = [d for d in domains if domains.count(d) > 1]
    if twice:
        raise ConfigError(f"two of the runs are of {twice[0]}; name the one that the card is to show")


def _is_whole(run: EvaluatedRun) -> bool:
    return run.coverage.whole and all(s.whole for s in run.plan.sets)


def _table(run: EvaluatedRun) -> tuple[list[str], scores.Scores]:
    """The metrics that the card names, and the rows."""
    n = run.plan.attempts
    rows = scores.scores(run.successes, sorted({1, n}))
    return [m for m in ("pass@1", f"pass@{n}", f"pass^{n}") if m in rows[scores.OVERALL] and m != "pass^1"], rows


def _results(run: EvaluatedRun) -> list[Any]:
    """The front matter's entries: each row of the table, each metric once."""
    from huggingface_hub import EvalResult

    metrics, rows = _table(run)
    part = "" if _is_whole(run) else f", PARTIAL: {run.coverage}"
    out = []
    for row, cells in rows.items():
        domain = run.plan.set_of(row)
        sets = run.plan.sets if domain is None else (domain,)
        for metric in dict.fromkeys(metrics):
            e = cells.get(metric)
            if e is None:
                continue
            out.append(
                EvalResult(
                    task_type="text-generation",
                    task_name="Tool use over many turns",
                    dataset_type="tau2-bench",
                    dataset_name=f"{'task set' if all(s.task_set_sha256 for s in sets) else 'tau2-bench'} "
                    f"{_tasks_of(run, row)}",
                    dataset_split=sets[0].name,
                    dataset_revision=", ".join(s.task_set_sha256 or s.tasks_sha256 for s in sets),
                    metric_type=metric,
                    metric_name=f"{metric} over {e.tasks} of {e.of} tasks, {run.plan.attempts} attempts each{part}",
                    metric_value=round(e.value, 4),
                )
            )
    return out


def _tasks_of(run: EvaluatedRun, row: str) -> str:
    """Which tasks a row of the table is over."""
    domain = run.plan.set_of(row)
    if domain is not None:
        return f"{row} ({domain.name})"
    return run.plan.name if row == scores.OVERALL else f"{row}, {run.plan.name}"


def _section(run: EvaluatedRun, prices: dict[str, costs.Price] | None) -> list[str]:
    metrics, rows = _table(run)
    metrics = list(dict.fromkeys(metrics))
    beside = baselines.read(run.directory / baselines.FILE) or {}
    lines = [
        f"## Scores: {run.plan.name}",
        "",
        f"{run.coverage}. In per cent, with 95 % intervals over tasks; pass@k: any of k attempts succeeds, "
        "pass^k: all do, both unbiased. "
        "Overall weighs each task alike, the mean of domains each domain.",
        "",
        "| " + " | ".join(["tasks", *metrics, *beside]) + " |",
        "|---" * (1 + len(metrics) + len(beside)) + "|",
    ]
    for row, cells in rows.items():
        shares = (by_domain.get(row) for by_domain in beside.values())
        lines.append("| " + " | ".join([row, *(cell(cells.get(m)) for m in metrics), *map(_share, shares)]) + " |")
    caption = note(e for cells in rows.values() for e in cells.values())
    lines += [""] + ([f"{caption}.", ""] if caption else [])
    lines += published.markdown(run)
    settings = [f"{k} {v}" for k, v in run.plan.settings.items() if v is not None and k not in SILENT]
    settings += [
        f"tau2 {run.plan.tau2}",
        f"attempts {run.plan.attempts}",
        f"seed {run.plan.seed}",
        f"made by {run.plan.made_by}",
    ]
    settings += [f"tasks of {s.domain} sha256 {s.tasks_sha256}" for s in run.plan.sets]
    settings += [
        f"{s.domain} is a task set of {s.tau2_domain}, version sha256 {s.task_set_sha256}"
        for s in run.plan.sets
        if s.task_set_sha256 is not None
    ]
    lines += ["Settings:", "", *(f"* {text}" for text in settings), ""]
    spent = costs.lines(costs.used(run.records), run.plan.settings, prices)
    if spent:
        lines += ["Tokens, as the servers reported them:", "", *(f"* {line}" for line in spent), ""]
    digest = hashlib.sha256((run.directory / records.FILE).read_bytes()).hexdigest()
    return [*lines, f"Computed from `{run.name}/{records.FILE}`, sha256 {digest}.", ""]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
