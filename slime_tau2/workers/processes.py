"""Workers that are processes of this machine, each behind a socket: for `eval` and `collect`, without Ray.

A message is a pickled tuple behind its length. To a worker go (number, method of `Host`, argument); (number, result)
comes back. A worker whose parent is gone sees its socket close, and ends.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import signal
import socket
import struct
import sys
from asyncio.subprocess import Process
from collections import Counter
from contextlib import suppress
from typing import Any

from slime_tau2.workers.player import Answer, Host, Make, sent
from slime_tau2.workers.pool import WorkerDied

_BEGIN = """
import sys
sys.path[:] = sys.argv[2:]
from slime_tau2.workers.processes import main
main(int(sys.argv[1]))
"""
"""A worker's whole program. It finds modules where its parent does: plugins among them."""
_LENGTH = struct.Struct("!Q")
_READY, _CANCEL = 0, "cancel"
CLOSE_S = 5.0
"""How long a worker may take to close its connections before it is killed."""


class ProcessWorker:
    """One worker; `start` makes it. All methods belong to the event loop that started it."""

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ):
        self.process = process
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(_READY + 1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, make: Make, number: int, count: int) -> ProcessWorker:
        """A worker whose player is ready.

        Raises:
            WorkerDied: it ended before.
            UserError: what its player raised.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _BEGIN, str(theirs.fileno()), *sys.path, pass_fds=[theirs.fileno()]
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(process, reader, writer)
        try:
            await worker._send(_READY, "make", (make, number, count))
            ready: Answer = await worker._answer(_READY)
            ready.check()
        except BaseException:
            await worker.close()
            raise
        return worker

    async def play(self, job: Any) -> Answer:
        answer: Answer = await self._call("play", job)
        return answer

    async def abort(self, aborted: bool) -> None:
        await self._call("abort", aborted)

    async def silences(self) -> dict[str, float]:
        silences: dict[str, float] = await self._call("silences", None)
        return silences

    async def close(self) -> None:
        """End it: first gently, so that it closes its connections."""
        self._listener.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _call(self, method: str, argument: Any) -> Any:
        number = next(self._numbers)
        await self._send(number, method, argument)
        try:
            return await self._answer(number)
        except asyncio.CancelledError:
            with suppress(WorkerDied):
                await self._send(number, _CANCEL, None)
            raise

    async def _send(self, number: int, method: str, argument: Any) -> None:
        if self._listener.done():
            raise self._death()
        try:
            _write(self._writer, (number, method, argument))
            await self._writer.drain()
        except OSError as error:
            raise self._death() from error

    async def _answer(self, number: int) -> Any:
        if self._listener.done():
            raise self._death()
        future = self._waiting.setdefault(number, asyncio.get_running_loop().create_future())
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def _listen(self) -> None:
        try:
            while True:
                number, result = await _read(self._reader)
                future = self._waiting.get(number)
                if number == _READY and future is None:
                    future = self._waiting.setdefault(number, asyncio.get_running_loop().create_future())
                if future is not None and not future.done():
                    future.set_result(result)
        except (asyncio.IncompleteReadError, OSError):
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self.process.wait()  # how it ended is worth a moment
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._death())

    def _death(self) -> WorkerDied:
        code = self.process.returncode
        how = "its connection broke" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerDied(f"process {self.process.pid}: {how}")


def main(connection: int) -> None:
    """A worker's process; `connection` is the file descriptor of its socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which closes the socket
    with suppress(asyncio.IncompleteReadError, OSError):  # the parent is gone
        asyncio.run(_serve(socket.socket(fileno=connection)))


async def _serve(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    _, _, (make, number, count) = await _read(reader)
    try:
        player = make(number, count)
    except Exception as error:
        _write(writer, (_READY, Answer(error=sent(error), counts=Counter())))
        await writer.drain()
        return
    _write(writer, (_READY, Answer(counts=Counter())))
    host, running = Host(player), dict[int, asyncio.Task[None]]()

    async def play(call: int, job: Any) -> None:
        try:
            answer = await host.play(job)
        finally:
            running.pop(call, None)
        _write(writer, (call, answer))
        await writer.drain()

    with suppress(asyncio.IncompleteReadError, OSError):
        while True:
            call, method, argument = await _read(reader)
            if method == "play":
                running[call] = asyncio.create_task(play(call, argument))
            elif method == _CANCEL:
                if call in running:
                    running[call].cancel()
            else:
                _write(writer, (call, getattr(host, method)(*(() if argument is None else (argument,)))))
    for task in list(running.values()):
        task.cancel()
    await asyncio.gather(*running.values(), return_exceptions=True)
    await player.close()


def _write(writer: asyncio.StreamWriter, message: tuple[Any, ...]) -> None:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    writer.write(_LENGTH.pack(len(body)) + body)


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))
