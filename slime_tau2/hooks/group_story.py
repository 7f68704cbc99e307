"""What happened to the groups of a rollout, and why: which task was served, what the filter said, what became of it.

slime tells each of its hooks a part of this. The hooks note theirs here, and the log hook, which sees the rollout end,
takes it all (`hooks.rollout_rows`). One story per process, as there is one data source; locked, because under
fully-async rollout another thread serves. Bounded: where nobody takes the story, the oldest groups are forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from slime_tau2.dumps.format import SampleRow, ServedRow
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import task_name

MOST = 4000
"""Groups that are remembered."""


@dataclass(kw_only=True)
class GroupStory:
    """One group, since it was served last."""

    task: str
    """The task, `domain/task_id`."""
    served: ServedRow
    """Why it came next."""
    verdict: str = ""
    """What the dynamic filter said."""
    fate: str = ""
    """`trained`, `dropped` or `returned`; empty while it is out."""
    why: str = ""
    """Why that, in words."""
    rows: list[SampleRow] = field(default_factory=list)
    """Its samples as the filter saw them."""


class Story:
    """The groups that were served and not told of yet, by index."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[int, GroupStory] = {}
        self._came_back: dict[int, str] = {}

    def begin(self) -> None:
        """Forget everything: another data source gives its own indices."""
        with self._lock:
            self._groups.clear()
            self._came_back.clear()

    def served(self, groups: Iterable[tuple[list[Sample], ServedRow]]) -> None:
        """These groups are being generated, for these reasons."""
        with self._lock:
            for group, why in groups:
                key = group[0].group_index
                if key is None:
                    continue
                after = self._came_back.pop(key, None)
                if after is not None:
                    why = ServedRow(by="returned", after=after)
                if "prefix" in group[0].metadata:
                    why = {**why, "prefix": len(group[0].metadata["prefix"])}
                self._groups.pop(key, None)  # so that the order is that of serving
                self._groups[key] = GroupStory(task=task_name(group[0]), served=why)
            _forget(self._groups)
            _forget(self._came_back)

    def judged(self, group: list[Sample], verdict: str, rows: list[SampleRow]) -> None:
        """The dynamic filter has looked at a finished group."""
        story = self._of(group)
        if story is not None:
            story.verdict, story.rows = verdict, rows

    def became(self, group: list[Sample], fate: str, why: str = "") -> None:
        """A group is settled: `trained`, `dropped` or `returned`."""
        story = self._of(group)
        if story is None:
            return
        story.fate, story.why = fate, why
        if fate == "returned":
            with self._lock:
                self._came_back[group[0].group_index or 0] = why

    def _of(self, group: list[Sample]) -> GroupStory | None:
        key = group[0].group_index if group else None
        if key is None:
            return None
        with self._lock:
            if key not in self._groups:
                self._groups[key] = GroupStory(task=task_name(group[0]), served=ServedRow(by=""))
            return self._groups[key]

    def take(self) -> tuple[dict[int, GroupStory], int]:
        """(what is settled, in the order of serving; how many groups are still out). What is taken is forgotten."""
        with self._lock:
            settled = {key: story for key, story in self._groups.items() if story.fate}
            self._groups = {key: story for key, story in self._groups.items() if not story.fate}
            return settled, len(self._groups)


def _forget(groups: dict[int, GroupStory] | dict[int, str]) -> None:
    while len(groups) > MOST:
        del groups[next(iter(groups))]


story = Story()
"""This process's."""
