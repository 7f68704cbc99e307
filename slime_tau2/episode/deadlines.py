"""Time-outs of one length, with one timer of the event loop for all that wait.

A timer per request is set, ordered among thousands and taken back, though one in a thousand ever rings. Time-outs of
equal length end in the order in which they began: a queue and a timer for its first are enough.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Deadlines:
    """The time-outs of one event loop, each `seconds` long: `async with deadlines.next():` raises TimeoutError as
    `asyncio.timeout(seconds)` does.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._waiting: deque[_Deadline] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def next(self) -> _Deadline:
        """One time-out, from when it is entered."""
        return _Deadline(self)

    def _enter(self, deadline: _Deadline) -> None:
        loop = asyncio.get_running_loop()
        deadline.at = loop.time() + self.seconds
        self._waiting.append(deadline)
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._ring)

    def _exit(self, deadline: _Deadline) -> None:
        deadline.over = True
        while self._waiting and self._waiting[0].over:
            self._waiting.popleft()  # the timer stays: it finds out who is first when it rings

    def _ring(self) -> None:
        """End those whose time has come, and set the timer for the first of the others."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._waiting:
            first = self._waiting[0]
            if not first.over and first.at > loop.time():
                self._timer = loop.call_at(first.at, self._ring)
                return
            self._waiting.popleft()
            if not first.over:
                first.timeout.reschedule(loop.time())


class _Deadline:
    """One time-out. asyncio's Timeout cancels, and makes a TimeoutError of that; it has no timer before it is due."""

    __slots__ = ("at", "deadlines", "over", "timeout")

    def __init__(self, deadlines: Deadlines):
        self.deadlines, self.timeout = deadlines, asyncio.timeout(None)
        self.at, self.over = 0.0, False

    async def __aenter__(self) -> None:
        await self.timeout.__aenter__()
        self.deadlines._enter(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.deadlines._exit(self)
        await self.timeout.__aexit__(kind, error, trace)
