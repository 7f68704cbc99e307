"""The process that workers of this machine are forked from: it has loaded what they play with, and does nothing else.

So a machine holds databases, tokenizer and libraries once, and a worker that replaces a dead one is there at once. It
has no event loop and no threads, which a fork would not take along. It ends with its parent.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from slime_tau2.workers import memory
from slime_tau2.workers.player import Answer, Make, sent
from slime_tau2.workers.serve import serve
from slime_tau2.workers.wire import LENGTH, framed, from_bytes

_BEGIN = """
import sys
sys.path[:] = sys.argv[2:]
from slime_tau2.workers.nursery import main
main(int(sys.argv[1]))
"""
"""Its whole program. It finds modules where its parent does: plugins among them."""
END_S = 5.0
"""How long a worker may take to close its connections, and a nursery to end, before it is killed."""


class Closed(Exception):
    """The other side of a connection has ended."""


class Nursery:
    """The parent's side. Its methods block, and take turns: call them in a thread, under a lock that is kept until the
    thread has returned. `shut` is for whoever will not wait.
    """

    def __init__(self, make: Make, count: int):
        """Start it; it is ready when `check` returns."""
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # threads of its own would not be forked
        with theirs:
            arguments = [sys.executable, "-c", _BEGIN, str(theirs.fileno()), *sys.path]
            self.pid = os.posix_spawn(sys.executable, arguments, environment, file_actions=_kept(theirs))
        self._control = ours
        self._first = (make, count)

    def check(self) -> None:
        """Wait until it has loaded everything.

        Raises:
            Closed: it ended before.
            UserError: what the player raised as it was made.
        """
        _send(self._control, self._first)
        answer: Answer = _receive(self._control)
        answer.check()

    def fork(self, number: int, connection: socket.socket) -> int:
        """The process id of a new worker, which serves the other end of a connection. Raises Closed."""
        _send(self._control, ("fork", number))
        try:
            socket.send_fds(self._control, [b"!"], [connection.fileno()])
        except OSError as error:
            raise Closed from error
        pid: int = _receive(self._control)
        return pid

    def end(self, pid: int) -> int | None:
        """See that a worker whose connection was closed ends; its exit code, or minus the signal that ended it. None
        where it is not this nursery's.

        Raises Closed.
        """
        _send(self._control, ("end", pid))
        code: int | None = _receive(self._control)
        return code

    def shut(self) -> None:
        """End its connection: what waits for it in a thread raises Closed, and it ends when it looks there next."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def close(self) -> int | None:
        """End it; its exit code, or minus the signal that ended it. One that has not ended within `END_S`, because it
        still loads say, is killed. Workers that are left end with their sockets.
        """
        self.shut()
        self._control.close()
        return _ended(self.pid)


def _kept(theirs: socket.socket) -> list[tuple[int, int, int]]:
    """What makes a descriptor outlive exec: it is duplicated onto itself."""
    theirs.set_inheritable(True)
    return [(os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno())]


def main(descriptor: int) -> None:
    """The nursery's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which closes the socket
    control = socket.socket(fileno=descriptor)
    with suppress(Closed):
        make, count = _receive(control)
        try:
            make(0, count)
        except Exception as error:
            _send(control, Answer(error=sent(error), counts=Counter()))
            return
        memory.give_back()
        gc.freeze()  # a collection in a worker would write to, and so copy, the pages that all share
        _send(control, Answer(counts=Counter()))
        while True:
            what, value = _receive(control)
            if what == "end":
                _send(control, _ended(value))
                continue
            _, (connection,), _, _ = socket.recv_fds(control, 1, 1)
            pid = os.fork()
            if not pid:
                control.close()
                _work(socket.socket(fileno=connection), make, value, count)
            os.close(connection)
            _send(control, pid)


def _work(connection: socket.socket, make: Make, number: int, count: int) -> None:
    """A worker's whole life; it does not return."""
    code = 1
    try:
        random.seed()  # siblings would draw the same pauses
        asyncio.run(serve(connection, make, number, count))
        code = 0
    finally:
        os._exit(code)


def _ended(pid: int) -> int | None:
    """How a child has ended, which is killed after `END_S`; None where it is no child of this process."""
    until = time.monotonic() + END_S
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _send(connection: socket.socket, message: Any) -> None:
    try:
        connection.sendall(framed(message))
    except OSError as error:
        raise Closed from error


def _receive(connection: socket.socket) -> Any:
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return from_bytes(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = connection.recv(count - len(parts))
        except OSError as error:
            raise Closed from error
        if not part:
            raise Closed
        parts += part
    return bytes(parts)
