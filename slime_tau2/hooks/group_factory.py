"""Makes groups of samples: fresh ones for the tasks that `TaskOrder` names next, and again those of a saved state.

Indices are given once and never again: a group, and each of its samples, keeps its index for the whole training, over
restarts too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2.hooks.compat import Sample
from slime_tau2.record import MessageRecord
from slime_tau2.schedule.order import TaskOrder, whole_number
from slime_tau2.types import TaskRef

log = logging.getLogger(__name__)


class GroupFactory:
    """Groups of `group_size` samples for the tasks of `order`."""

    def __init__(self, order: TaskOrder, group_size: int):
        self.order = order
        self.group_size = group_size
        self.next_group = 0
        self.next_index = 0

    def fresh(self, count: int) -> list[list[Sample]]:
        """Groups for the next `count` tasks."""
        return [self.group(self.order.tasks[name]) for name in self.order.draw(count)]

    def group(self, task: TaskRef) -> list[Sample]:
        """The next group, for a task."""
        prefix = self.order.prefix(str(task), self.next_group)
        group = self._samples(task, self.next_group, self.next_index, prefix)
        self.next_group += 1
        self.next_index += self.group_size
        return group

    def again(self, remembered: Sequence[Any]) -> list[list[Sample]]:
        """The groups of `GroupBook.state()`, under their own indices.

        Groups whose tasks are gone are left out, with a warning.
        """
        # states before version 2 kept the names of the tasks alone
        entries = [{"task": entry} if isinstance(entry, str) else entry for entry in remembered]
        gone = [entry["task"] for entry in entries if entry["task"] not in self.order.tasks]
        if gone:
            log.warning(
                "%d groups that came back are dropped, their tasks are no longer there: %s",
                len(gone),
                ", ".join(gone[:5]),
            )
        return [self._again(entry) for entry in entries if entry["task"] in self.order.tasks]

    def _again(self, entry: Mapping[str, Any]) -> list[Sample]:
        task = self.order.tasks[entry["task"]]
        # a group of another --n-samples-per-prompt has indices that do not fit
        if "group" not in entry or entry.get("size", self.group_size) != self.group_size:
            return self.group(task)
        return self._samples(task, entry["group"], entry["index"], entry.get("prefix"))

    def _samples(
        self, task: TaskRef, group_index: int, first_index: int, prefix: list[MessageRecord] | None
    ) -> list[Sample]:
        metadata: dict[str, Any] = {"domain": task.domain, "task_id": task.task_id}
        if prefix is not None:
            metadata["prefix"] = prefix
        return [
            Sample(group_index=group_index, index=first_index + n, prompt=str(task), metadata={**metadata})
            for n in range(self.group_size)
        ]

    def state_dict(self) -> dict[str, Any]:
        """The next indices, as JSON."""
        return {"next_group": self.next_group, "next_index": self.next_index}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`.

        Raises:
            KeyError, ValueError: it is no such state.
        """
        next_group = whole_number("next_group", state["next_group"])
        self.next_index = whole_number("next_index", state["next_index"])
        self.next_group = next_group
