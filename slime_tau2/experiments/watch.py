"""Progress of a long run for whoever watches: bars on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn


@dataclass
class Progress:
    """What a run tells whoever watches; by default nobody does."""

    start: Callable[[str, int], None] = lambda title, total: None
    """(title, total): something begins."""
    advance: Callable[[int, str], None] = lambda done, note: None
    """(done, note): so much of it is done."""
    end: Callable[[str], None] = lambda note: None
    """(note): it has ended."""


@contextmanager
def watching(console: Console) -> Iterator[Progress]:
    """What to hand to a pipeline; shows it while the context lasts."""
    if not console.is_terminal:
        lines = _Lines(console)
        yield Progress(lines.start, lines.advance, lines.end)
        return
    columns = (
        TextColumn("{task.description:<27}"),
        BarColumn(10),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=console) as shown:
        bars = _Bars(shown)
        yield Progress(bars.start, bars.advance, bars.end)


class _Bars:
    """One progress bar per stage; only the current one moves."""

    def __init__(self, bars: rich_progress.Progress):
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
    """For logs: one line when a stage starts, one when it ends."""

    def __init__(self, console: Console):
        self.console, self.started, self.note = console, 0.0, ""

    def start(self, title: str, total: int) -> None:
        self.started, self.note = time.perf_counter(), ""
        self.console.print(f"{title}: {total} …", highlight=False)

    def advance(self, done: int, note: str) -> None:
        self.note = note

    def end(self, note: str) -> None:
        self.console.print(f"  {time.perf_counter() - self.started:.0f} s  {note or self.note}", highlight=False)
