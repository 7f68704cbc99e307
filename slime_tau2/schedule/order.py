"""Which task the next group is for: each once per epoch in shuffled order, or drawn by curriculum.

Every draw derives from seed and position, so that a resumed run goes on exactly as the run that it resumes would have.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.episode import worlds
from slime_tau2.record import MessageRecord
from slime_tau2.schedule import prefixes
from slime_tau2.schedule.curriculum import Curriculum
from slime_tau2.types import TaskRef

log = logging.getLogger(__name__)
_COUNTERS = ("epoch", "position")


def training_tasks(config: Tau2Config) -> dict[str, TaskRef]:
    """The tasks that a training serves, by name (`domain/task_id`): `config.split` of each of `config.domains`.

    Raises:
        UserError: no such domain, or no such split of it.
    """
    tasks: dict[str, TaskRef] = {}
    for domain in config.domains:
        world = worlds.load(domain, retail_basis=config.retail_basis, retrieval=config.retrieval)
        for task_id in world.task_ids(config.split):
            task = TaskRef(domain, task_id)
            tasks[str(task)] = task
    return tasks


class TaskOrder:
    """The order of `tasks`, as names (`domain/task_id`).

    Attributes:
        epoch: passes over all tasks that are complete.
        position: tasks drawn since; under the curriculum, since the beginning.
        curriculum: what is known of each task; it decides only with `tau2_curriculum`.
    """

    def __init__(self, config: Tau2Config, tasks: Mapping[str, TaskRef]):
        self.config = config
        self.tasks = tasks
        self.curriculum = Curriculum()
        self.epoch = 0
        self.position = 0
        self._names = list(tasks)
        self._successes = prefixes.load(config.prefix_starts, tasks.keys())

    def draw(self, count: int) -> list[str]:
        """The names of the next `count` tasks."""
        drawn: list[str] = []
        while len(drawn) < count:
            if self.config.curriculum:
                drawn += self._by_curriculum(count, count - len(drawn))
            else:
                drawn += self._in_order(count - len(drawn))
        return drawn

    def _by_curriculum(self, count: int, missing: int) -> list[str]:
        rng = random.Random(f"{self.config.seed}:{self.epoch}:{self.position}")
        drawn = self.curriculum.draw(self._names, missing, rng)
        self.position += count
        return drawn

    def _in_order(self, missing: int) -> list[str]:
        """At most `missing` tasks: what is left of this epoch."""
        order = random.Random(f"{self.config.seed}:{self.epoch}").sample(self._names, len(self._names))
        drawn = order[self.position : self.position + missing]
        self.position += len(drawn)
        if self.position >= len(self._names):
            self.epoch += 1
            self.position = 0
        return drawn

    def prefix(self, name: str, group: int) -> list[MessageRecord] | None:
        """The messages behind which group number `group` begins; None for the beginning of the conversation.

        About every other group of a task that the policy never solves begins within a recorded success of it.
        """
        successes = self._successes.get(name)
        if not self.config.curriculum or not successes or self.curriculum.pool(name) != "hopeless":
            return None
        rng = random.Random(f"{self.config.seed}:prefix:{group}")
        if rng.random() < 0.5:
            return None
        return prefixes.cut(rng.choice(successes), rng)

    def observe(self, name: str, success: bool, eased: bool) -> None:
        """Count the outcome of one episode. An episode that began within a success (`eased`) says nothing of the task
        itself.
        """
        if name in self.tasks and not eased:
            self.curriculum.observe(name, int(success), 1)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to draw on as this one would: JSON."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "curriculum": self.curriculum.state_dict(),
            "tasks": self._fingerprint(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Where the tasks are others by now, their order begins anew, with a warning.

        Raises:
            KeyError, TypeError, ValueError: it is no such state.
        """
        counters = {name: whole_number(name, state[name]) for name in _COUNTERS}
        self.curriculum.load_state_dict(state["curriculum"])
        self.epoch = counters["epoch"]
        self.position = counters["position"]
        if state.get("tasks", self._fingerprint()) != self._fingerprint():  # states before version 2 have none
            log.warning(
                "the tasks are not those of the saved state: their order begins anew, what is known of each task stays"
            )
            self.position = 0

    def _fingerprint(self) -> str:
        return hashlib.sha256("\n".join(self._names).encode()).hexdigest()[:16]


def whole_number(name: str, value: object) -> int:
    """A counter of a saved state.

    Raises:
        ValueError: it is no whole number, or below 0; names it.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}, and not a whole number")
    return value
