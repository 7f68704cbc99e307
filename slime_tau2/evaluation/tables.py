"""Tables of estimates for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table

from slime_tau2.evaluation.estimators import Estimate

NOTE = "w: Wilson's interval (all tasks alike, where resampling sees no variance)"


def cell(estimate: Estimate | None) -> str:
    """`62.3 [55.1, 69.2]` in per cent; a dash where there is nothing.

    `w` behind it: see NOTE. `(19 of 20)`: the tasks that it is over.
    """
    if estimate is None or estimate.tasks == 0:
        return "–"
    mark = "w" if estimate.method == "wilson" else ""
    some = f" ({estimate.tasks} of {estimate.of})" if estimate.tasks < estimate.of else ""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]{mark}{some}"


def points(difference: Estimate) -> str:
    """`+8.8 [+6.3, +11.5]`: a difference of rates in percentage points, with its 95 % interval."""
    mark = "w" if difference.method == "wilson" else ""
    return f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]{mark}"


def note(estimates: Iterable[Estimate]) -> str | None:
    """The caption that a table needs for its marks."""
    return NOTE if any(e.method == "wilson" for e in estimates) else None


def metrics_table(title: str, tables: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Rows: overall and each family or domain; columns: the metrics they have."""
    metrics = [m for m in next(iter(tables.values()), {}) if m != "pass^1"]  # it is pass@1
    table = Table(title=f"{title} (%, 95 % CI over tasks)", title_justify="left")
    table.add_column("")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, row in tables.items():
        table.add_row(name, *(cell(row.get(m)) for m in metrics))
    table.caption = note(e for row in tables.values() for e in row.values())
    return table


def stages_table(stages: Mapping[str, Mapping[str, Mapping[str, Estimate]]], metrics: list[str]) -> Table:
    """The model card's table: one row per stage and family."""
    table = Table(title="Held-out tasks (%, 95 % CI over tasks)", title_justify="left")
    table.add_column("stage")
    table.add_column("tasks")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for stage, families in stages.items():
        for n, (name, row) in enumerate(families.items()):
            table.add_row(
                stage if n == 0 else "", name, *(cell(row.get(m)) for m in metrics), end_section=n == len(families) - 1
            )
    table.caption = note(e for families in stages.values() for row in families.values() for e in row.values())
    return table
