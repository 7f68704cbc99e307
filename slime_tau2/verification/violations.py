"""Check 8: what is done beside gold, though nobody asks for it, must lose the reward.

Who makes the attempts knows the domain; here each is made where gold leaves the databases. One that fails, or changes
nothing, is no attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.verification.plays import Fork, Step


class Attempts(Protocol):
    """What makes writes that nobody asks for in a task."""

    def owner(self, task: bench.Task, environment: bench.Environment) -> str | None:
        """Whom a task is about; None where nobody is to be found, and nothing is tried."""

    def of(self, world: World, environment: bench.Environment, *, owner: str) -> Iterable[Sequence[Step]]:
        """Attempts, each one or more calls to be made after gold's.

        Args:
            environment: where gold leaves it.
        """


def rewarded(fork: Fork, attempts: Iterable[Sequence[Step]], words: Sequence[str]) -> Iterator[Sequence[Step]]:
    """The attempts that change something after gold and keep the whole reward."""
    scene, environments = fork.scene, fork.scene.stage.environments
    before = environments.state(fork.trunk.environment)
    for calls in attempts:
        played = fork.play(calls, words)
        if played.errs[0] or environments.same(before, environments.state(played.environment)):
            continue
        if float(scene.grade(played).reward) == 1.0:
            yield calls
