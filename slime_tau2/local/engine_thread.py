"""The engine's thread: it owns the model, so that nothing of the event loop ever waits for it.

Everything crosses through one inbox, in order; results come back as futures of the loop that asked. New weights end
what is being sampled.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from typing import Any

from slime_tau2.local.engine import Engine, Request

log = logging.getLogger(__name__)


class EngineThread:
    """Runs an Engine in a thread; everything crosses through one inbox, results come back as futures."""

    def __init__(self, engine: Engine, load_weights: Any):
        self.engine, self._load = engine, load_weights
        self.inbox: queue.SimpleQueue[tuple[str, Any, asyncio.Future]] = queue.SimpleQueue()
        self._futures: dict[str, asyncio.Future] = {}
        self.loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, kind: str, value: Any) -> asyncio.Future:
        future = self.loop.create_future()
        self.inbox.put((kind, value, future))
        return future

    def _answer(self, future: asyncio.Future, result: Any) -> None:
        def deliver() -> None:
            if not future.done():
                future.set_exception(result) if isinstance(result, Exception) else future.set_result(result)

        self.loop.call_soon_threadsafe(deliver)

    def _finish(self, requests: list[Request]) -> None:
        for request in requests:
            self._answer(self._futures.pop(request.rid), request)

    def _run(self) -> None:
        engine = self.engine
        while True:
            idle = not engine.waiting and not engine.running
            while idle or not self.inbox.empty():
                self._handle(*self.inbox.get())
                idle = not engine.waiting and not engine.running and self.inbox.empty()
            try:
                self._finish(engine.step())
            except Exception as error:  # a failed forward pass must not silence every later request
                log.exception("engine step failed")
                for request in engine.abort():
                    self._answer(self._futures.pop(request.rid), error)
                engine.flush()

    def _handle(self, kind: str, value: Any, future: asyncio.Future) -> None:
        engine = self.engine
        try:
            if kind == "generate":
                engine.admit(value)
                self._futures[value.rid] = future
            elif kind == "abort":
                hit = engine.abort(value)
                self._finish(hit)
                self._answer(future, len(hit))
            elif kind == "weights":
                self._finish(engine.abort())
                self._load(value)
                engine.flush()
                self._answer(future, None)
            elif kind == "flush":
                engine.flush()
                self._answer(future, None)
        except Exception as error:
            self._answer(future, error)
