"""Workers that are processes of this machine, for `eval` and `collect`: forked from one nursery, without Ray."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from slime_tau2.workers.nursery import END_S, Closed, Nursery
from slime_tau2.workers.player import Answer, Make
from slime_tau2.workers.pool import WorkerDied
from slime_tau2.workers.serve import CANCEL, read, write

T = TypeVar("T")


class Processes:
    """Starts the workers of one pool, and the nursery before the first.

    Args:
        make: makes a player, once in the nursery, where it loads what all share, and then in each worker.
    """

    def __init__(self, make: Make, count: int):
        self._make, self._count = make, count
        self._nursery: Nursery | None = None
        self._turn = asyncio.Lock()

    async def start(self, number: int) -> ProcessWorker:
        """A worker whose player is ready.

        Raises:
            WorkerDied: the nursery ended.
            UserError: what the player raised as it was made.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                pid = await self._forked(number, theirs)
        except BaseException:  # cancelled, too: a worker that was forked all the same ends with its connection
            ours.close()
            raise
        return await ProcessWorker.connected(self, pid, ours)

    async def _forked(self, number: int, connection: socket.socket) -> int:
        async with self._turn:
            try:
                if self._nursery is None:
                    self._nursery = Nursery(self._make, self._count)
                    await _whole(self._nursery, self._nursery.check)
                return await _whole(self._nursery, self._nursery.fork, number, connection)
            except Closed:
                raise WorkerDied(f"the process that it is forked from: {await self._forget()}") from None
            except Exception:  # its player cannot be made, and it has ended
                await self._forget()
                raise

    async def end(self, pid: int) -> str:
        """See that a worker whose connection was closed ends; how it did."""
        code = None
        async with self._turn:
            if self._nursery is not None:
                try:
                    code = await _whole(self._nursery, self._nursery.end, pid)
                except Closed:
                    await self._forget()
        if code is None:  # the nursery that forked it has died, and another one cannot wait for it
            await _orphan_ended(pid)
        return _how(code)

    async def close(self) -> None:
        """End the nursery."""
        async with self._turn:
            await self._forget()

    async def _forget(self) -> str:
        """End the nursery, where there is one; how it ended."""
        nursery, self._nursery = self._nursery, None
        return "" if nursery is None else _how(await _whole(nursery, nursery.close))


async def _whole(nursery: Nursery, call: Callable[..., T], *arguments: Any) -> T:
    """What a call of a nursery's returns, in a thread.

    Whoever is cancelled ends the nursery (a pool cancels as it closes), and waits until the thread has returned: the
    next one would read the same socket.
    """
    thread = asyncio.get_running_loop().run_in_executor(None, call, *arguments)  # no task: it cannot be cancelled
    cancelled: asyncio.CancelledError | None = None
    while not thread.done():
        try:
            await asyncio.wait([thread])
        except asyncio.CancelledError as error:
            cancelled = error
            nursery.shut()
    if cancelled is None:
        return thread.result()
    thread.exception()  # seen
    raise cancelled


async def _orphan_ended(pid: int) -> None:
    """See that a process ends that is no child of this one's; it has as long as a nursery gives."""
    until = time.monotonic() + END_S
    with suppress(ProcessLookupError, PermissionError):  # it has ended, and its number may be another user's
        while time.monotonic() < until:
            os.kill(pid, 0)
            await asyncio.sleep(0.005)
        os.kill(pid, signal.SIGKILL)


def _how(code: int | None) -> str:
    if code is None:
        return "its connection broke"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class ProcessWorker:
    """One worker. All methods belong to the event loop that it was connected in."""

    def __init__(self, processes: Processes, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.pid = pid
        self._processes, self._reader, self._writer = processes, reader, writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._end = ""
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def connected(cls, processes: Processes, pid: int, connection: socket.socket) -> ProcessWorker:
        reader, writer = await asyncio.open_connection(sock=connection)
        return cls(processes, pid, reader, writer)

    async def play(self, job: Any) -> Answer:
        answer: Answer = await self._call("play", job)
        return answer

    async def head(self, digest: bytes) -> bytes:
        ids: bytes = await self._call("head", digest)
        return ids

    async def prepare(self, task: Any) -> None:
        await self._call("prepare", task)

    async def abort(self, aborted: bool) -> None:
        await self._call("abort", aborted)

    async def silences(self) -> dict[str, float]:
        silences: dict[str, float] = await self._call("silences", None)
        return silences

    async def close(self) -> None:
        """End it: first gently, so that it closes its connections."""
        self._writer.close()
        await self._listener

    def kill(self) -> None:
        """End it at once. How it ended is known only when it has."""
        if not self._end:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _call(self, method: str, argument: Any) -> Any:
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(number, method, argument)
            return await future
        except asyncio.CancelledError:
            with suppress(WorkerDied):
                await self._send(number, CANCEL, None)
            raise
        finally:
            del self._waiting[number]

    async def _send(self, number: int, method: str, argument: Any) -> None:
        try:
            if not self._listener.done():
                write(self._writer, (number, method, argument))
                await self._writer.drain()
        except OSError:
            await asyncio.shield(self._listener)
        if self._listener.done():
            raise self._death()

    async def _listen(self) -> None:
        """Hand results to those who wait for them, until the worker ends."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                number, result = await read(self._reader)
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(result)
        self._writer.close()
        self._end = await self._processes.end(self.pid)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._death())
                future.exception()  # seen: a caller that met the death as it was sending does not await this one

    def _death(self) -> WorkerDied:
        return WorkerDied(f"process {self.pid}: {self._end}")
