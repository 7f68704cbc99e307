"""The inside of a worker that is a process: its event loop, which reads calls of `Host`'s methods from a socket.

A message is a pickled tuple behind its length. (number, method, argument) comes in, (number, result) goes out. When the
socket closes, the worker ends.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from slime_tau2.workers.player import Host, Make
from slime_tau2.workers.wire import LENGTH, framed, from_bytes

CANCEL = "cancel"
"""Instead of a method: the call of that number is not waited for any more."""


async def serve(connection: socket.socket, make: Make, number: int, count: int) -> None:
    """Play what comes, until the socket closes."""
    reader, writer = await asyncio.open_connection(sock=connection)
    player = make(number, count)
    host, running = Host(player), dict[int, asyncio.Task[None]]()

    async def play(call: int, job: Any) -> None:
        try:
            answer = await host.play(job)
        finally:
            running.pop(call, None)
        write(writer, (call, answer))
        with suppress(ConnectionError):  # whoever asked has gone, and the loop below ends
            await writer.drain()

    with suppress(asyncio.IncompleteReadError, OSError):
        while True:
            call, method, argument = await read(reader)
            if method == "play":
                running[call] = asyncio.create_task(play(call, argument))
            elif method == CANCEL:
                if call in running:
                    running[call].cancel()
            else:
                write(writer, (call, getattr(host, method)(*(() if argument is None else (argument,)))))
    for task in list(running.values()):
        task.cancel()
    await asyncio.gather(*running.values(), return_exceptions=True)
    await player.close()


def write(writer: asyncio.StreamWriter, message: tuple[Any, ...]) -> None:
    """Send a message."""
    writer.write(framed(message))


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return from_bytes(await reader.readexactly(length))
