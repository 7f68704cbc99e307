"""Which tasks are worth sampling: a pure state machine over the success rate of each task.

Each task holds a decayed Beta posterior of its success rate. A task's weight is p(1-p), the variance of its reward,
with a floor, so that no task is ever forgotten. Knows no tasks, clients or clocks; the state is a plain dict.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Pool = Literal["unseen", "learnable", "solved", "hopeless"]
POOLS: tuple[Pool, ...] = ("unseen", "learnable", "solved", "hopeless")
DECAY = 0.9
"""Weight of earlier evidence at each new group of a task: the policy moves, old evidence fades. (By attempt it would
fade too fast: no task could ever be seen to fail as often as HOPELESS asks.)
"""
FLOOR = 0.05
"""Smallest weight, relative to the largest possible (0.25)."""
SOLVED, HOPELESS = 0.9, 0.11
"""Posterior means above and below which a task is solved or hopeless: eight failures are enough to be hopeless. A bound
that takes several groups to reach comes too late where a training meets a task two or three times.
"""
SEEN = 4.0
"""Evidence (decayed attempts) that a task needs to leave `unseen`."""


@dataclass
class Curriculum:
    """`counts` is {task name: (successes, failures)}, decayed."""

    counts: dict[str, tuple[float, float]] = field(default_factory=dict)

    def observe(self, name: str, successes: int, attempts: int) -> None:
        """Count a group of `attempts` attempts at a task, of which `successes` succeeded."""
        won, lost = self.counts.get(name, (0.0, 0.0))
        self.counts[name] = (DECAY * won + successes, DECAY * lost + attempts - successes)

    def rate(self, name: str) -> float:
        """Posterior mean of the success rate under a uniform prior."""
        won, lost = self.counts.get(name, (0.0, 0.0))
        return (won + 1) / (won + lost + 2)

    def pool(self, name: str) -> Pool:
        """In which pool a task is, by evidence and posterior mean."""
        if sum(self.counts.get(name, (0.0, 0.0))) < SEEN:
            return "unseen"
        rate = self.rate(name)
        if rate > SOLVED:
            return "solved"
        return "hopeless" if rate < HOPELESS else "learnable"

    def weight(self, name: str) -> float:
        """How often a task is drawn, relative to others."""
        rate = self.rate(name)
        return max(rate * (1 - rate), FLOOR * 0.25)

    def draw(self, names: Sequence[str], count: int, rng: random.Random) -> list[str]:
        """`count` different tasks, weighted; all of them, shuffled, when `count` is larger."""
        drawn = sorted(names, key=lambda name: rng.random() ** (1 / self.weight(name)), reverse=True)
        return drawn[:count]

    def pools(self, names: Sequence[str]) -> dict[Pool, int]:
        """How many of these tasks are in each pool."""
        sizes = dict.fromkeys(POOLS, 0)
        for name in names:
            sizes[self.pool(name)] += 1
        return sizes

    def state_dict(self) -> dict[str, Any]:
        """The counts, as JSON."""
        return {"counts": {name: list(pair) for name, pair in self.counts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.counts = {name: (float(pair[0]), float(pair[1])) for name, pair in state["counts"].items()}
