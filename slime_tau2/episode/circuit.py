"""Whether anybody is there at all: after enough tries in a row without any answer, only one request at a time still
asks.

A server that hangs would otherwise cost every episode of a rollout all its time-outs, an hour and more, before the run
may say that the user simulator is dead. An answer of any status closes the circuit: a server that refuses or errs is
there, and its requests are tried again as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

OPENS_AFTER = 8
PROBE_EVERY_S = 30.0


@dataclass
class Circuit:
    """The circuit of one server, shared by all that ask it. `silent` counts the tries since the last answer."""

    clock: Callable[[], float] = time.monotonic
    silent: int = 0
    _next_probe: float = field(default=0.0, init=False)
    _waiting: int = field(default=0, init=False)
    _heard: float = field(default=0.0, init=False)

    def __enter__(self) -> None:
        """Around a request, its retries and pauses included: somebody waits."""
        if not self._waiting:
            self._heard = self.clock()
        self._waiting += 1

    def __exit__(self, *_: object) -> None:
        self._waiting -= 1

    def silence(self) -> float:
        """Seconds since the last answer of any status while somebody waits for one; 0.0 while nobody does."""
        return self.clock() - self._heard if self._waiting else 0.0

    def answered(self) -> None:
        self.silent, self._heard = 0, self.clock()

    def unanswered(self) -> None:
        self.silent += 1
        if self.silent == OPENS_AFTER:
            self._next_probe = self.clock() + PROBE_EVERY_S

    @property
    def open(self) -> bool:
        return self.silent >= OPENS_AFTER

    def lets_through(self) -> bool:
        """Whether a try may be made now: always while closed; while open, one every PROBE_EVERY_S."""
        if not self.open:
            return True
        now = self.clock()
        if now < self._next_probe:
            return False
        self._next_probe = now + PROBE_EVERY_S
        return True
