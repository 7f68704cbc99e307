"""How late the event loop runs: a task asks for 10 ms naps and records by how much each was overslept (invariant 6)."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

NAP_S = 0.01


class LoopLag:
    """`async with LoopLag() as lag: …`; then `lag.lags_ms`, one figure per nap."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []

    async def __aenter__(self) -> LoopLag:
        self._task = asyncio.ensure_future(self._watch())
        return self

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(NAP_S)
            self.lags_ms.append(max(0.0, loop.time() - asked - NAP_S) * 1e3)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
