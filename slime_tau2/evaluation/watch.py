"""Progress of a long run for whoever watches: bars on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from slime_tau2.local import episodes


@contextmanager
def watching(console: Console) -> Iterator[episodes.Progress]:
    """What to hand to a pipeline; shows it while the context lasts."""
    if not console.is_terminal:
        lines = _Lines(console)
        yield episodes.Progress(lines.start, lines.advance, lines.end)
        return
    columns = (
        TextColumn("{task.description:<27}"), BarColumn(10), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bars = _Bars(progress)
        yield episodes.Progress(bars.start, bars.advance, bars.end)


class _Bars:
    """One progress bar a stage; only the current one moves."""

    def __init__(self, bars: Progress):
        self.bars, self.current, self.note = bars, TaskID(0), ""

    def start(self, title: str, total: int) -> None:
        self.current, self.note = self.bars.add_task(title, total=total, note=""), ""

    def advance(self, done: int, note: str) -> None:
        self.note = note
        self.bars.update(self.current, completed=done, note=note)

    def end(self, note: str) -> None:
        total = self.bars.tasks[self.bars.task_ids.index(self.current)].total
        self.bars.update(self.current, completed=total, note=note or self.note)


class _Lines:
    """For logs: a line when a stage starts, one when it ends."""

    def __init__(self, console: Console):
        self.console, self.started, self.note = console, 0.0, ""

    def start(self, title: str, total: int) -> None:
        self.started, self.note = time.perf_counter(), ""
        self.console.print(f"{title}: {total} …", highlight=False)

    def advance(self, done: int, note: str) -> None:
        self.note = note

    def end(self, note: str) -> None:
        self.console.print(f"  {time.perf_counter() - self.started:.0f} s  {note or self.note}", highlight=False)
