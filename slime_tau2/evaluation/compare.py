"""`slime-tau2 compare`: runs beside each other, and what their difference can and cannot show.

Runs are comparable when the tasks that they share were scored alike. Differences are paired by task; attempts that
infrastructure ended are left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import estimators, runs, tables
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.plan import TaskKey
from slime_tau2.evaluation.runs import EvaluatedRun
from slime_tau2.evaluation.tables import cell, points

OF_A_MODEL = ("user_model", "user_temperature", "user_thinking")
"""Settings that count where the user is a model."""
OF_THE_POLICY = (
    "protocol",
    "thinking",
    "temperature",
    "top_p",
    "top_k",
    "max_turn_tokens",
    "max_thinking_tokens",
    "cut_thoughts",
    "max_context_tokens",
    "stop_at_tool_call",
    "agent_prompt_sha256",
    "agent",
    "agent_sha256",
)
JUDGED = "NL_ASSERTION"
UNKNOWN = object()
"""In place of what a run does not say."""


def main(directories: Sequence[Path], anyway: bool, console: Console) -> None:
    """Print the tables.

    Raises:
        ConfigError: fewer than two runs, runs without a shared task, or runs that were not scored alike and not
            `anyway`.
    """
    if len(directories) < 2:
        raise ConfigError("name at least two runs to compare")
    compared = runs.load_all(directories)
    shared = set.intersection(*(set(r.rates) for r in compared))
    if not shared:
        raise ConfigError(
            f"the runs share no scored task: {'; '.join(f'{r.name} has {r.plan.name}' for r in compared)}"
        )
    differing = unlike(compared, shared)
    if differing and not anyway:
        raise ConfigError(
            f"the runs were not scored alike ({'; '.join(differing)}); --anyway compares them all the same"
        )
    for text in differing:
        console.print(f"not scored alike in {text}", style="bold red", soft_wrap=True)
    for text in unknown_conditions(compared, shared):
        console.print(text, style="yellow", soft_wrap=True)
    for text in of_the_policies(compared):
        console.print(text, soft_wrap=True)
    console.print(_runs_table(compared))
    console.print(_differences_table(compared[0], compared[1:], shared))
    for run in compared:
        if not run.coverage.whole or set(run.plan.keys) != shared:
            console.print(
                f"{run.name}: {run.plan.name}, {run.coverage}; compared on {len(shared)} tasks", soft_wrap=True
            )


def unlike(compared: Sequence[EvaluatedRun], shared: AbstractSet[TaskKey]) -> list[str]:
    """In what the shared tasks were not scored alike, as texts.

    What a run does not say is no difference (`unknown_conditions`).
    """
    conditions = [_conditions(run, shared) for run in compared]
    out = []
    for key in dict.fromkeys(key for known in conditions for key in known):
        values = {run.name: known[key] for run, known in zip(compared, conditions) if _says(known, key)}
        if len({json.dumps(value) for value in values.values()}) > 1:
            out.append(f"{key}: " + ", ".join(f"{name} {value!r}" for name, value in values.items()))
    return [*out, *_other_basis(compared, shared)]


def _other_basis(compared: Sequence[EvaluatedRun], shared: AbstractSet[TaskKey]) -> list[str]:
    """The first task, as a text, whose reward is not made of the same in all runs; [] where there is none."""
    bases = {run.name: _bases(run) for run in compared}
    for task in sorted(shared):
        values = {name: ", ".join(basis[task]) for name, basis in bases.items() if basis.get(task)}
        if len(set(values.values())) > 1:
            domain, task_id = task
            each = "; ".join(f"{name} {value}" for name, value in values.items())
            return [f"reward basis of {domain}, task {task_id}: {each}"]
    return []


def unknown_conditions(compared: Sequence[EvaluatedRun], shared: AbstractSet[TaskKey]) -> list[str]:
    """What one run says and another does not, so that nobody can know whether they are alike."""
    conditions = {run.name: _conditions(run, shared) for run in compared}
    lines = []
    for name, known in conditions.items():
        silent = [
            key for key in known if not _says(known, key) and any(_says(others, key) for others in conditions.values())
        ]
        if silent:
            lines.append(f"{name} does not say: {', '.join(silent)}")
    return lines


def _says(conditions: Mapping[str, Any], key: str) -> bool:
    return conditions.get(key, UNKNOWN) is not UNKNOWN


def of_the_policies(compared: Sequence[EvaluatedRun]) -> list[str]:
    """In what the policies were run otherwise: no reason to refuse, but what a difference may come from."""
    out = []
    for key in OF_THE_POLICY:
        values = {run.name: run.plan.settings.get(key) for run in compared}
        if len({json.dumps(value) for value in values.values()}) > 1:
            out.append(f"the policies differ in {key}: {', '.join(f'{name} {v}' for name, v in values.items())}")
    return out


def _conditions(run: EvaluatedRun, shared: AbstractSet[TaskKey]) -> dict[str, Any]:
    """What the scores of these tasks depend on beside the policy; UNKNOWN where the run does not say."""
    settings = run.plan.settings
    domains = {domain for domain, _ in shared}
    out: dict[str, Any] = {"tau2": run.plan.tau2}
    for s in run.plan.sets:
        if s.domain in domains:
            if s.task_set_sha256 is not None:
                out[f"version of the task set {s.domain}"] = s.task_set_sha256
            out[f"tasks_sha256 of {s.domain}"] = s.tasks_sha256
            out |= {} if s.retrieval is None else {f"retrieval of {s.domain}": s.retrieval}
    out |= {key: settings.get(key, UNKNOWN) for key in ("max_steps", "max_errors", "user")}
    if settings.get("user_model") is not None:
        out |= {key: settings.get(key, UNKNOWN) for key in OF_A_MODEL}
    if any(JUDGED in basis for key, basis in _bases(run).items() if key in shared):
        out["judge_model"] = settings.get("judge_model", UNKNOWN)
    return out


def _bases(run: EvaluatedRun) -> dict[TaskKey, list[str]]:
    """{task: what its reward is made of}, as its scored records say."""
    scored = (r for r in run.records if r["reward"] is not None and r["reward_basis"])
    return {(r["domain"], r["task_id"]): sorted(r["reward_basis"]) for r in scored}


def _runs_table(compared: Sequence[EvaluatedRun]) -> Table:
    shown = sorted({k for run in compared for k in range(1, run.plan.attempts + 1)})
    table = Table(title="Runs (%, 95 % CI over tasks)", title_justify="left")
    table.add_column("")
    columns: list[dict[str, Estimate]] = []
    for run in compared:
        table.add_column(run.name, justify="right", overflow="fold")
        average = estimators.bootstrap_mean(list(run.rates.values()), of=len(run.successes))
        columns.append({"avg": average, **estimators.summarise(run.successes, shown)})
    table.add_row("tasks", *(str(len(run.successes)) for run in compared))
    for name in ("scored", "excluded", "not_run"):
        last = name == "not_run"
        table.add_row(
            f"attempts {name.replace('_', ' ')}",
            *(str(getattr(run.coverage, name)) for run in compared),
            end_section=last,
        )
    for name in ("avg", *(f"pass@{k}" for k in shown[1:]), *(f"pass^{k}" for k in shown[1:])):
        table.add_row(name, *(cell(column.get(name)) for column in columns))
    table.caption = tables.note(e for column in columns for e in column.values())
    return table


def _differences_table(baseline: EvaluatedRun, others: Sequence[EvaluatedRun], shared: AbstractSet[TaskKey]) -> Table:
    table = Table(title=f"Against {baseline.name}, paired by task (points, 95 % CI)", title_justify="left")
    for column in ("", "tasks", "difference in avg", "better, worse", "sign test p", "could have shown"):
        table.add_column(column, justify="left" if column == "" else "right")
    for other in others:
        for name, a, b in _rows(baseline, other, shared):
            table.add_row(*_difference(f"{other.name}{name}", a, b))
    table.caption = "`could have shown`: the true difference that so many tasks and attempts show four times in five"
    return table


Rates = dict[TaskKey, float]


def _rows(a: EvaluatedRun, b: EvaluatedRun, shared: AbstractSet[TaskKey]) -> list[tuple[str, Rates, Rates]]:
    """(suffix of the row's name, both runs' rates): all tasks, and each domain where there are several."""
    domains = sorted({domain for domain, _ in shared})
    parts = [("", shared), *((f", {d}", {k for k in shared if k[0] == d}) for d in domains if len(domains) > 1)]
    return [(name, {k: a.rates[k] for k in keys}, {k: b.rates[k] for k in keys}) for name, keys in parts]


def _difference(name: str, a: Rates, b: Rates) -> tuple[str, ...]:
    difference, sign = estimators.paired_difference(a, b), estimators.sign_test(a, b)
    return (
        name,
        str(difference.tasks),
        points(difference),
        f"{sign.better}, {sign.worse}",
        f"{sign.p:.2g}",
        f"{100 * estimators.smallest_difference(a, b):.1f}",
    )
