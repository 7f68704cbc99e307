"""Which tasks are worth sampling: a pure state machine over per-task success.

Each task holds a decayed Beta posterior of its success rate. Its weight is p(1-p), the variance of the reward, with a
floor, so that no task is ever forgotten. Owns no tasks, clients or clocks; its state is a plain dict.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DECAY = 0.9
"""Weight of what was known before, at each new observation of a task: the policy moves, old evidence fades."""
FLOOR = 0.05
"""Smallest weight, relative to the largest possible (0.25)."""
SOLVED, HOPELESS, SEEN = 0.9, 0.05, 4.0
"""Pool borders: posterior mean above, below, and the evidence that a task needs to leave `unseen`."""


@dataclass
class Curriculum:
    """{task key: (successes, failures)}, decayed."""

    counts: dict[str, tuple[float, float]] = field(default_factory=dict)

    def observe(self, key: str, successes: int, attempts: int) -> None:
        won, lost = self.counts.get(key, (0.0, 0.0))
        self.counts[key] = DECAY * won + successes, DECAY * lost + attempts - successes

    def rate(self, key: str) -> float:
        """Posterior mean under a uniform prior."""
        won, lost = self.counts.get(key, (0.0, 0.0))
        return (won + 1) / (won + lost + 2)

    def pool(self, key: str) -> str:
        """unseen, learnable, solved or hopeless."""
        if sum(self.counts.get(key, (0.0, 0.0))) < SEEN:
            return "unseen"
        rate = self.rate(key)
        return "solved" if rate > SOLVED else "hopeless" if rate < HOPELESS else "learnable"

    def weight(self, key: str) -> float:
        rate = self.rate(key)
        return max(rate * (1 - rate), FLOOR * 0.25)

    def draw(self, keys: Sequence[str], count: int, rng: random.Random) -> list[str]:
        """`count` different keys, weighted; all of them, shuffled, when count is larger."""
        drawn = sorted(keys, key=lambda k: rng.random() ** (1 / self.weight(k)), reverse=True)
        return drawn[:count]

    def pools(self, keys: Sequence[str]) -> dict[str, int]:
        out = dict.fromkeys(("unseen", "learnable", "solved", "hopeless"), 0)
        for key in keys:
            out[self.pool(key)] += 1
        return out

    def state_dict(self) -> dict[str, Any]:
        return {"counts": {k: list(v) for k, v in self.counts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = {k: (float(v[0]), float(v[1])) for k, v in state["counts"].items()}
