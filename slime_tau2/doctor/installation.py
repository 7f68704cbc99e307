"""This machine: Python, packages, GPUs, tau2 and its data, disk, ports, keys."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import sys
from pathlib import Path

from slime_tau2 import traits, vintage
from slime_tau2.doctor.findings import Finding, fail, ok, warn
from slime_tau2.errors import UserError

VERIFIED = {"sglang": "0.5.15.post1", "megatron-core": "0.17.1", "transformer-engine": "2.16.1"}
"""What the GPU path was written for (docs/training.md, "The stack")."""
IDLE_BYTES = 2 * 2**30
"""Memory that is taken on a GPU which nobody uses: the driver's, and a display's."""


def python() -> Finding:
    """Which Python runs this."""
    return ok("python", f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")


def torch_and_gpus(needed: int) -> list[Finding]:
    """torch, and the GPUs that it sees against those that the run needs."""
    try:
        import torch
    except ImportError:
        return [warn("torch", "not installed", "pip install -e '.[local]'; evaluation of servers alone needs none")]
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    out = [ok("torch", torch.__version__)]
    if seen < needed:
        fix = "choose another --profile, or set CUDA_VISIBLE_DEVICES; the bare machine's way in is launch/quickstart.sh"
        out.append(fail("gpus", f"this run wants {needed}, torch sees {seen}", fix))
    for n in range(seen):
        free, total = torch.cuda.mem_get_info(n)
        text = f"{torch.cuda.get_device_name(n)}, {total / 2**30:.0f} GiB, {free / 2**30:.0f} free"
        if total - free > IDLE_BYTES:
            out.append(warn(f"gpu {n}", text, "who holds the rest will compete with this run"))
        else:
            out.append(ok(f"gpu {n}", text))
    return out


def package(name: str, module: str, *, needed: bool, fix: str) -> Finding:
    """Whether a package is there, and whether its version is the one that was verified.

    Args:
        name: the distribution's.
        module: what is imported of it.
    """
    locations = vintage.locations(module)
    if not locations:
        return fail(name, "not installed", fix) if needed else ok(name, "not installed; only the GPU path needs it")
    version = vintage.distribution_version(name)
    text = f"{version or 'of no version'} at {locations[0]}"
    verified = VERIFIED.get(name)
    if verified is not None and version is not None and version != verified:
        return warn(name, text, f"verified with {verified}")
    return ok(name, text)


def tau2() -> list[Finding]:
    """Which tau2, and the sha256 of each benchmark's task file (what a score depends on)."""
    try:
        found = vintage.find()
    except UserError as error:
        return [fail("tau2", str(error), "")]
    out = [ok("tau2", str(found))]
    for domain in traits.BENCHMARKS:
        path = found.data_dir / "tau2" / "domains" / domain / "tasks.json"
        path = path if path.exists() else found.data_dir / "domains" / domain / "tasks.json"
        if not path.exists():
            out.append(fail(f"tau2 {domain}", f"{path} is absent", "set TAU2_DATA_DIR to tau2-bench's data folder"))
            continue
        out.append(ok(f"tau2 {domain}", f"tasks {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"))
    return [*out, *(finding for domain in traits.names(lambda t: t.retrieval) for finding in _searched(found, domain))]


def _searched(found: vintage.Vintage, domain: str) -> list[Finding]:
    """A domain whose documents the agent searches: how many tasks, and whether they can be searched here. Nothing of a
    domain that this tau2 has not.
    """
    folder = found.data_dir / "tau2" / "domains" / domain
    if found.name != "v1" or not folder.is_dir():
        return []
    search = "tau2_retrieval: bm25, which needs no key, can run"
    if importlib.util.find_spec("rank_bm25") is None:
        search = (
            "rank_bm25 is not installed, and only this domain's searches need it: pip install rank-bm25, or "
            "tau2_retrieval: no_knowledge"
        )
    count = sum(1 for _ in folder.glob("tasks/task_*.json"))
    return [ok(f"tau2 {domain}", f"{count} tasks; {search}")]


def disk(directory: Path, gib: float, how: str = "") -> Finding:
    """Room at the nearest folder that exists. `how` says what the figure is made of."""
    existing = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        return fail("disk", f"{existing} cannot be written to", "name a directory that can")
    free = shutil.disk_usage(existing).free / 2**30
    if free < gib:
        made_of = f": {how}" if how else ""
        text = f"{free:.0f} GiB free at {existing}, and this needs about {gib:.0f}{made_of}"
        return fail("disk", text, "make room, or write elsewhere")
    return ok("disk", f"{free:.0f} GiB free at {existing}")


def port(number: int) -> Finding:
    """Whether nobody listens there on this machine."""
    with socket.socket() as probe:
        probe.settimeout(2.0)
        taken = probe.connect_ex(("127.0.0.1", number)) == 0
    if taken:
        return fail(f"port {number}", "is taken", "choose another one, or stop what listens there")
    return ok(f"port {number}", "is free")


def key(variable: str, *, needed: bool) -> Finding:
    """Whether a key is in the environment; it is never shown."""
    if os.environ.get(variable):
        return ok(variable, "is set")
    if needed:
        return fail(variable, "is not set", "export it")
    return ok(variable, "is not set; nothing that was asked about needs it")
