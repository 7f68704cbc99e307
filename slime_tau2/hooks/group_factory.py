"""Makes groups of samples: fresh ones for the tasks that `TaskOrder` names next, and again those that a saved state
remembers.

Indices are given once and never again: a group, and each of its samples, has one name for the whole training, over
restarts too.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.task_order import TaskOrder
from slime_tau2.types import TaskRef

log = logging.getLogger(__name__)


class GroupFactory:
    """`tasks` by name, `domain/task_id`."""

    def __init__(self, config: Tau2Config, tasks: dict[str, TaskRef], group_size: int):
        self.tasks, self.group_size = tasks, group_size
        self.order = TaskOrder(config, list(tasks))
        self.next_group, self.next_index = 0, 0

    def fresh(self, count: int) -> list[list[Sample]]:
        """Groups for the next `count` tasks."""
        return [self.group(self.tasks[key]) for key in self.order.draw(count)]

    def group(self, task: TaskRef) -> list[Sample]:
        """The next group, for a task."""
        prefix = self.order.prefix(str(task), self.next_group)
        group = self._samples(task, self.next_group, self.next_index, {} if prefix is None else {"prefix": prefix})
        self.next_group, self.next_index = self.next_group + 1, self.next_index + self.group_size
        return group

    def again(self, remembered: list[Any]) -> list[list[Sample]]:
        """The groups of `GroupBook.state()`, under their own indices. Those whose tasks are gone are left out, with a
        warning.
        """
        entries = [
            {"task": r} if isinstance(r, str) else r for r in remembered
        ]  # states before version 2 kept the tasks alone
        gone = [r["task"] for r in entries if r["task"] not in self.tasks]
        if gone:
            log.warning(
                "%d groups that came back are dropped, their tasks are no longer there: %s",
                len(gone),
                ", ".join(gone[:5]),
            )
        return [self._again(r) for r in entries if r["task"] in self.tasks]

    def _again(self, r: dict[str, Any]) -> list[Sample]:
        if (
            "group" not in r or r.get("size", self.group_size) != self.group_size
        ):  # of another --n-samples-per-prompt: its indices do not fit
            return self.group(self.tasks[r["task"]])
        return self._samples(
            self.tasks[r["task"]], r["group"], r["index"], {"prefix": r["prefix"]} if "prefix" in r else {}
        )

    def _samples(self, task: TaskRef, group: int, index: int, more: dict[str, Any]) -> list[Sample]:
        metadata = {"domain": task.domain, "task_id": task.task_id, **more}
        return [
            Sample(group_index=group, index=index + n, prompt=str(task), metadata={**metadata})
            for n in range(self.group_size)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {
            **self.order.state_dict(),
            "next_group": self.next_group,
            "next_index": self.next_index,
            "tasks": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        counters = {name: state[name] for name in ("epoch", "position", "next_group", "next_index")}
        bad = {name: value for name, value in counters.items() if type(value) is not int or value < 0}
        if bad:
            raise ValueError(", ".join(f"{name} is {value!r}, and not a whole number" for name, value in bad.items()))
        self.order.load_state_dict(state)
        if state.get("tasks", self._fingerprint()) != self._fingerprint():
            log.warning(
                "the tasks are not those of the saved state: their order begins anew, what is known of each task stays"
            )
            self.order.position = 0
        self.next_group, self.next_index = state["next_group"], state["next_index"]

    def _fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self.tasks).encode()).hexdigest()[:16]
