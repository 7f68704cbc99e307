"""One episode works in one turn of the event loop, so that a burst of replies, or of starts, queues here and not in the
loop (invariant 6).

With 512 live episodes the loop's lag fell from 180 to 9 ms (p99) when this was made, at the same throughput. Whoever
comes while nobody has worked in this turn of the loop goes on at once.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque


class _Gate:
    """The turnstile of one event loop, to which it holds no reference."""

    def __init__(self) -> None:
        self._taken = False  # somebody works in this turn, or may in the next
        self._waiting: deque[asyncio.Future[None]] = deque()

    def go(self) -> asyncio.Future[None] | None:
        """None: go on. Else wait for it."""
        loop = asyncio.get_running_loop()
        if self._taken:
            ticket = loop.create_future()
            self._waiting.append(ticket)
            return ticket
        self._taken = True
        loop.call_soon(self._next)
        return None

    def _next(self) -> None:
        """A turn later: let one through, to work in the turn that follows; it sees to the next."""
        while self._waiting:
            ticket = self._waiting.popleft()
            if not ticket.done():  # it was not cancelled
                ticket.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False


_gates: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Gate] = weakref.WeakKeyDictionary()


async def turnstile() -> None:
    """Wait until no other episode works in this turn of the loop."""
    loop = asyncio.get_running_loop()
    gate = _gates.get(loop)
    if gate is None:
        gate = _gates[loop] = _Gate()
    ticket = gate.go()
    if ticket is not None:
        await ticket
