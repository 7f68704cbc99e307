"""The engine's thread: it owns the model, so that nothing of the event loop ever waits for it.

Everything crosses through one inbox, in order; results come back as futures of the loop that asked. New weights end
what is being sampled.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Literal

from slime_tau2.local.engine import Engine, Request

log = logging.getLogger(__name__)

Kind = Literal["generate", "abort", "weights", "flush"]
"""What is asked, by what goes with it: a Request; a rid or None for all; the directory of a model; None."""


class EngineThread:
    """Runs an Engine in a thread.

    Args:
        load_weights: replaces the model's weights by those of a directory; runs in the thread.
    """

    def __init__(self, engine: Engine, load_weights: Callable[[str], None]):
        self.engine = engine
        self.inbox: queue.SimpleQueue[tuple[Kind, Any, asyncio.Future[Any]]] = queue.SimpleQueue()
        self.loop = asyncio.get_running_loop()
        self._load_weights = load_weights
        self._futures: dict[str, asyncio.Future[Any]] = {}  # of the requests under way, by rid
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, kind: Kind, value: Any) -> asyncio.Future[Any]:
        """The answer to come: for `generate` the ended Request, for `abort` how many were ended, else None."""
        future = self.loop.create_future()
        self.inbox.put((kind, value, future))
        return future

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _answer(self, future: asyncio.Future[Any], result: Any) -> None:
        def deliver() -> None:
            if future.done():  # cancelled meanwhile
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

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

    def _handle(self, kind: Kind, value: Any, future: asyncio.Future[Any]) -> None:
        engine = self.engine
        try:
            if kind == "generate":
                engine.admit(value)
                self._futures[value.rid] = future
            elif kind == "abort":
                aborted = engine.abort(value)
                self._finish(aborted)
                self._answer(future, len(aborted))
            elif kind == "weights":
                self._finish(engine.abort())
                self._load_weights(value)
                engine.flush()
                self._answer(future, None)
            elif kind == "flush":
                engine.flush()
                self._answer(future, None)
        except Exception as error:
            self._answer(future, error)
