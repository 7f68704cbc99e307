"""Time-outs of one length, with one timer of the event loop for all that wait.

A timer per request is set, ordered among thousands and taken back, though one in a thousand ever rings. Time-outs of
equal length end in the order in which they began: a queue and a timer for its first are enough.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict
from types import TracebackType


class Deadlines:
    """The time-outs of one event loop, each `seconds` long: `async with deadlines.next():` raises TimeoutError as
    `asyncio.timeout(seconds)` does.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._waiting: OrderedDict[_Deadline, None] = OrderedDict()  # in order of their ends
        self._timer: asyncio.TimerHandle | None = None
        self._context = contextvars.Context()  # a timer keeps its context: not that of one of those who wait

    def next(self) -> _Deadline:
        """One time-out, from when it is entered."""
        return _Deadline(self)

    def _enter(self, deadline: _Deadline) -> None:
        loop = asyncio.get_running_loop()
        deadline.at = loop.time() + self.seconds
        self._waiting[deadline] = None
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._ring, context=self._context)

    def _exit(self, deadline: _Deadline) -> None:
        self._waiting.pop(deadline, None)  # the timer finds out who is first when it rings
        if not self._waiting and self._timer is not None:
            self._timer.cancel()  # it holds the loop
            self._timer = None

    def _ring(self) -> None:
        """End those whose time has come, and set the timer for the first of the others."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._waiting:
            first = next(iter(self._waiting))
            if first.at > loop.time():
                self._timer = loop.call_at(first.at, self._ring, context=self._context)
                return
            del self._waiting[first]
            first.timeout.reschedule(loop.time())


class _Deadline:
    """One time-out. asyncio's Timeout cancels, and makes a TimeoutError of that; it has no timer before it is due."""

    __slots__ = ("at", "deadlines", "timeout")

    def __init__(self, deadlines: Deadlines):
        self.deadlines, self.timeout = deadlines, asyncio.timeout(None)
        self.at = 0.0

    async def __aenter__(self) -> None:
        await self.timeout.__aenter__()
        self.deadlines._enter(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.deadlines._exit(self)
        await self.timeout.__aexit__(kind, error, trace)
