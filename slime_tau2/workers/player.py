"""What a worker is made of, whatever carries its jobs: a player in an event loop of its own.

A `Player` is made within the worker by a function that was sent there. Jobs go in, finished episodes come out as bytes,
and with each what was counted since the last: nothing has to be asked for.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from slime_tau2.errors import LedgerError, UserError
from slime_tau2.types import Episode
from slime_tau2.workers import wire


class Player(Protocol):
    """Plays episodes in its process, many at a time."""

    async def play(self, job: Any, aborted: Callable[[], bool]) -> Episode:
        """Play one episode to its end. `aborted` is asked before each turn of the agent's."""

    def prepare(self, task: Any) -> None:
        """Make what episodes of a task begin with, before the first asks for it."""

    def take_counts(self) -> Counter[str]:
        """What was counted since the last call: failed requests and the like."""

    def silences(self) -> dict[str, float]:
        """{server: seconds since its last answer while somebody waits for one; 0.0 while nobody does}."""

    async def close(self) -> None:
        """Close what belongs to the event loop."""


Make: TypeAlias = Callable[[int, int], Player]
"""(number of the worker, how many there are) -> its player. It is pickled, so a function of a module, or a partial of
one."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What comes back for a job: an episode, or the error that no other episode would escape.

    Attributes:
        episode: packed; `wire.NOTHING` where there is an error.
        error: pickled.
    """

    episode: wire.Packed = wire.NOTHING
    error: bytes = b""
    counts: Counter[str]

    def check(self) -> None:
        """Raise the error, where it is one."""
        if self.error:
            raise wire.from_bytes(self.error)


class Host:
    """A player within its worker. Every carrier calls these methods, in the worker's event loop."""

    def __init__(self, player: Player):
        self.player = player
        self._aborted = False
        self._packer = wire.Packer()

    async def play(self, job: Any) -> Answer:
        try:
            packed = self._packer.pack(await self.player.play(job, lambda: self._aborted))
        except Exception as error:  # the parent raises it; here it would end the worker, and its other episodes
            return Answer(error=sent(error), counts=self.player.take_counts())
        return Answer(episode=packed, counts=self.player.take_counts())

    def abort(self, aborted: bool) -> None:
        """Say whether the rollout is aborted."""
        self._aborted = aborted

    def head(self, digest: bytes) -> bytes:
        """`Packer.head` of what an answer named."""
        return self._packer.head(digest)

    def prepare(self, task: Any) -> None:
        self.player.prepare(task)

    def silences(self) -> dict[str, float]:
        return self.player.silences()


def sent(error: Exception) -> bytes:
    """An error as bytes: one of ours as it is, another with where it was raised."""
    if isinstance(error, UserError | LedgerError):
        return wire.to_bytes(error)
    where = "".join(traceback.format_exception(error))
    return wire.to_bytes(RuntimeError(f"{type(error).__name__} in a worker: {error}\n{where}"))
