"""Two hosts on one machine: network namespaces with a cable between them, and everything gone afterwards.

Each host has `lan0` or `lan1` with an address that the other one reaches, and `mgmt0` with one that nobody does. The
file system is the machine's, but where a command is told to hide a folder. Needs root and `ip`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path


def why_not() -> str:
    """Why there can be no hosts here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip`: apt install iproute2"
    name = f"tau2-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if made.returncode == 0 else f"no network namespaces here: {made.stderr.strip()}"


class Host:
    def __init__(self, name: str, address: str, interface: str):
        self.name, self.address, self.interface = name, address, interface

    def start(
        self, command: list[str], log: Path, environment: dict[str, str], hidden: Path | None = None
    ) -> subprocess.Popen:
        """A process of this host; `hidden` is an empty folder for it, as where something is not mounted."""
        if hidden is not None:
            command = [
                "unshare",
                "-m",
                "sh",
                "-c",
                f"mount -t tmpfs none {shlex.quote(str(hidden))} && exec {shlex.join(command)}",
            ]
        with log.open("wb") as sink:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def run(
        self, command, log: Path, environment, hidden: Path | None = None, timeout_s: float = 900.0
    ) -> tuple[int, str]:
        """(exit code, what it said) of a command that ends; what it leaves in the background stays."""
        process = self.start(command, log, environment, hidden)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(
                f"{shlex.join(command)} did not end within {timeout_s} s:\n{log.read_text(errors='replace')[-3000:]}"
            ) from None
        return code, log.read_text(errors="replace")

    def pids(self) -> list[int]:
        told = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(p) for p in told.stdout.split()]

    def power_off(self) -> None:
        """Every process of this host is killed, as if it lost its current."""
        for _ in range(50):
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids:
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.name} keeps running {self.pids()}")


@contextlib.contextmanager
def two_hosts():
    """(first, second), connected; at the end their processes are killed and they are taken away, whatever happened."""
    number = os.getpid()
    network = f"10.{77 + number % 100}.{number // 100 % 250}"
    hosts = [Host(f"tau2-{number}-{n}", f"{network}.{n + 1}", f"lan{n}") for n in range(2)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        for host in hosts:
            ip("netns", "add", host.name)
            ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", host.name, "link", "add", "mgmt0", "type", "veth", "peer", "name", "mgmt1")
            ip("-n", host.name, "addr", "add", "192.168.77.1/24", "dev", "mgmt0")
            ip("-n", host.name, "link", "set", "mgmt0", "up")
            ip("-n", host.name, "link", "set", "mgmt1", "up")
        first, second = hosts
        ip(
            "link",
            "add",
            first.interface,
            "netns",
            first.name,
            "type",
            "veth",
            "peer",
            "name",
            second.interface,
            "netns",
            second.name,
        )
        for host in hosts:
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.interface)
            ip("-n", host.name, "link", "set", host.interface, "up")
        yield first, second
    finally:
        for host in hosts:
            if subprocess.run(["ip", "netns", "pids", host.name], capture_output=True).returncode == 0:
                with contextlib.suppress(AssertionError):
                    host.power_off()
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True)
