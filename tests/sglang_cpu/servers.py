"""Real SGLang servers and the real sglang-router, as child processes on a CPU.

`SLIME_TAU2_SGLANG_PYTHON` names the interpreter of a venv that has them (requirements.txt beside this file).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from slime_tau2.local.process import free_port

PYTHON = os.environ.get("SLIME_TAU2_SGLANG_PYTHON", "")
REASON = "SLIME_TAU2_SGLANG_PYTHON does not name a Python with SGLang (tests/sglang_cpu/requirements.txt)"
STUBS = Path(__file__).with_name("stubs")
CPU = """--device cpu --attention-backend torch_native --sampling-backend pytorch --grammar-backend none --dtype float32
 --disable-overlap-schedule --disable-cuda-graph --skip-server-warmup --max-total-tokens 16384 --mem-fraction-static 0.3
 --tool-call-parser qwen25""".split()
START_S = 180.0


class Process:
    """`with Process("sglang.launch_server", [...], log) as server:`; `server.url`, `server.get(path)`,
    `server.post(path, body)`.
    """

    health = "/health"

    def __init__(self, module: str, options: list[str], log: Path):
        self.port, self.log = free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [PYTHON, "-m", module, "--host", "127.0.0.1", "--port", str(self.port), *options]

    def start(self) -> Process:
        environment = {
            **os.environ,
            "PYTHONPATH": str(STUBS),
            "SGLANG_USE_CPU_ENGINE": "1",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                self.command, stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        return self

    def __enter__(self) -> Process:
        if not hasattr(self, "process"):
            self.start()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.get(self.health)
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        self.__exit__()
        raise RuntimeError(f"{self.command[2]} did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def __exit__(self, *exc) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # SGLang's scheduler and detokenizer are processes of its own
        except ProcessLookupError:
            pass

    def get(self, path: str):
        return self._call(urllib.request.Request(self.url + path))

    def post(self, path: str, body: dict):
        return self._call(
            urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        )

    def _call(self, request: urllib.request.Request):
        with urllib.request.urlopen(request, timeout=120) as reply:
            raw = reply.read()
        try:
            return json.loads(raw or b"null")
        except ValueError:  # some answer with plain text
            return raw.decode()


def sglang(model: Path, log: Path) -> Process:
    """A server, not yet awaited: start several, then enter each."""
    return Process("sglang.launch_server", ["--model-path", str(model), *CPU], log).start()


def router(workers: list[Process], log: Path) -> Process:
    """PyPI's router knows no `consistent_hashing`, which slime's fork has; `manual` follows the same routing key."""
    options = [
        "--policy",
        "manual",
        "--prometheus-port",
        str(free_port()),
        "--log-level",
        "warn",
        "--worker-urls",
        *(w.url for w in workers),
    ]
    return Process("sglang_router.launch_router", options, log)
