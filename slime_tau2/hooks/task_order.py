"""Which task the next group is for: each once an epoch in shuffled order, or drawn by curriculum.

Every draw derives from seed and position, so that a resumed run goes on as the one that it resumes would have.
"""

from __future__ import annotations

import random
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.data import prefixes
from slime_tau2.rewards.curriculum import Curriculum


class TaskOrder:
    """`keys` are the tasks' names, `domain/task_id`."""

    def __init__(self, config: Tau2Config, keys: list[str]):
        self.config, self.keys, self._known = config, keys, frozenset(keys)
        self.curriculum = Curriculum()
        self.epoch, self.position = 0, 0
        self._successes = prefixes.load(config.prefix_starts, keys)

    def draw(self, count: int) -> list[str]:
        """The next `count` tasks."""
        out: list[str] = []
        while len(out) < count:
            if self.config.curriculum:
                rng = random.Random(f"{self.config.seed}:{self.epoch}:{self.position}")
                out += self.curriculum.draw(self.keys, count - len(out), rng)
                self.position += count
                continue
            order = random.Random(f"{self.config.seed}:{self.epoch}").sample(self.keys, len(self.keys))
            taken = order[self.position : self.position + count - len(out)]
            out += taken
            self.position += len(taken)
            if self.position >= len(self.keys):
                self.epoch, self.position = self.epoch + 1, 0
        return out

    def prefix(self, key: str, group: int) -> list[dict] | None:
        """What a group begins behind: part of a success of a task that the policy never solves, for about every other
        such group.
        """
        known = self._successes.get(key)
        rng = random.Random(f"{self.config.seed}:prefix:{group}")
        if not self.config.curriculum or not known or self.curriculum.pool(key) != "hopeless" or rng.random() < 0.5:
            return None
        return prefixes.cut(rng.choice(known), rng)

    def observe(self, key: str, success: bool, eased: bool) -> None:
        """One episode's outcome, for the curriculum. One that began within a success (`eased`) says nothing of the task
        itself.
        """
        if key in self._known and not eased:
            self.curriculum.observe(key, int(success), 1)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position, "curriculum": self.curriculum.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self.curriculum.load_state_dict(state["curriculum"])
