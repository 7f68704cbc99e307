"""Runs the policy server as a child process of its own, so that the driver's loop never waits for torch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from slime_tau2.errors import ConfigError, PolicyError

START_S = 120.0
REFUSED = 2
"""The command line's exit code for bad input."""
BAD_REQUEST = 400
"""What the server answers to weights that it cannot load."""


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class ServerProcess:
    """`with ServerProcess(model_dir, log_path) as server:`; then `server.url`, `server.load(model_dir)`,
    `server.info()`.

    Raises:
        ConfigError: the server refused what it was given, e.g. a directory without a model; says what it said.
        PolicyError: it died, or did not answer within START_S seconds.
    """

    def __init__(self, model: Path, log: Path, port: int | None = None, threads: int = 1, device: str | None = None):
        self.model = Path(model)
        self.log = Path(log)
        self.port = port or free_port()
        self.threads = threads
        self.device = device
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ServerProcess:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "slime_tau2.cli", "serve", str(self.model)]
        command += ["--port", str(self.port), "--threads", str(self.threads), "--with-parent", str(os.getpid())]
        if self.device is not None:
            command += ["--device", self.device]
        with self.log.open("ab") as sink:
            # its own session: Ctrl-C reaches the pipeline, which then stops the server in order
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            self.check()
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.__exit__(None, None, None)
        raise PolicyError(
            f"the local server did not answer at {self.url} within {START_S:.0f} s; its log is {self.log}"
        )

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        return self.process.poll() is None

    def check(self) -> None:
        """See that the server lives.

        Raises:
            ConfigError: it refused what it was given and ended.
            PolicyError: it died. The same command resumes.
        """
        code = self.process.poll()
        if code is None:
            return
        last_words = " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
        message = (
            f"the local server exited with code {code}: {last_words} (log: {self.log}); run the same command to resume"
        )
        raise ConfigError(message) if code == REFUSED else PolicyError(message)

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.loads(reply.read() or b"{}")
        except urllib.error.HTTPError as error:
            if error.code == BAD_REQUEST:  # the same command would meet the same again
                raise ConfigError(
                    f"{json.loads(error.read())['message']}; if a stage of a run has written that, remove the stage's "
                    "folder and run the same command again"
                ) from error
            raise PolicyError(f"{path}: HTTP {error.code} {error.read()[:300]!r}") from error
        except (urllib.error.URLError, OSError) as error:
            self.check()
            raise PolicyError(f"{self.url}{path}: {error}") from error

    def load(self, model: Path) -> None:
        """Serve other weights of the same architecture.

        Raises:
            ConfigError: they cannot be read, or do not fit; the server serves what it served before.
            PolicyError: the server does not answer, or died.
        """
        self._call("/update_weights_from_disk", {"model_path": str(model)})

    def info(self) -> dict[str, Any]:
        """The server's `/server_info`."""
        info: dict[str, Any] = self._call("/server_info")
        return info

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
