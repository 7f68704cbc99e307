"""What a profile will need of the machine, computed before the job: disk for its checkpoints, host memory, GPUs and
CPUs of Ray.

The figures are arithmetic over the model's parameters, in slime's and Megatron's own terms. In bytes per parameter:

* a checkpoint: 2 for bf16 weights, 12 for Adam's fp32 state;
* host memory: 2 / TP per trainer for a pinned copy of its weights, and what torch's allocator of pinned memory takes
  more, which rounds each tensor up to a power of two: 2.4 as measured for a 4B;
* host memory for Adam's state, shared by all trainers: 12 while another process has the GPU (`colocate`), or 16 all the
  time, with a pinned copy of the gradients (`cpu_optimizer`): 17.5 as measured, for the same reason.

Measured means by `tests/bench/one_gpu.py` on an H100 (docs/training.md).
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, fields
from pathlib import Path

from slime_tau2.doctor.findings import Finding, fail, ok, warn
from slime_tau2.errors import ConfigError

GIB = 2.0**30
CHECKPOINT_BYTES = 14
WEIGHT_BYTES = 2.4
ADAM_BYTES = 12
CPU_ADAM_BYTES = 17.5
MAY_BE_ZERO = ("engines", "colocate", "cpu_optimizer", "kept", "workers")
PROCESS_GIB = 6.0
"""Taken for each process with torch and CUDA, beside what is computed: a trainer's, measured; SGLang's is taken to be
alike."""
WORKER_GIB = 0.7
"""Taken for each worker, with all domains loaded: 712 MiB as measured inside slime (tests/bench/workers.py)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes of the machine, which has `nodes` × `gpus_per_node` GPUs."""

    nodes: int = 1
    gpus_per_node: int = 8
    gpus: int = 8
    """Those that the run uses."""
    trainers: int = 8
    """Megatron's ranks, one per GPU."""
    trainer_nodes: int = 1
    """The nodes that they are on."""
    engines: int = 0
    """GPUs of SGLang."""
    tp: int = 1
    """Tensor parallelism of the trainers."""
    colocate: int = 0
    """1: trainers and engines take turns on the same GPUs."""
    cpu_optimizer: int = 0
    """1: Adam's state lives in host memory."""
    kept: int = 2
    """Checkpoints on the disk at most: two where the run deletes old ones, for it writes the next one first."""
    workers: int = 0
    """`tau2_workers`: Ray actors that play the episodes, a CPU each."""

    @classmethod
    def parse(cls, text: str) -> Plan:
        """`nodes=1,tp=2,…` -> Plan.

        Raises:
            ConfigError: a name that is none of the fields, no whole number, or one that is too small.
        """
        known = {f.name for f in fields(cls)}
        values: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            least = 0 if name in MAY_BE_ZERO else 1
            if name not in known or not value.isdecimal() or int(value) < least:
                names = ", ".join(n if n in MAY_BE_ZERO else f"{n} (at least 1)" for n in sorted(known))
                raise ConfigError(f"--plan {part}: expected NAME=NUMBER with one of {names}")
            values[name] = int(value)
        return cls(**values)

    def checkpoint_gib(self, parameters: int) -> float:
        """Size of one checkpoint of Megatron's, with the optimizer."""
        return parameters * CHECKPOINT_BYTES / GIB

    def host_gib(self, parameters: int) -> float:
        """What the trainers keep in host memory, on the busiest node."""
        trainers = math.ceil(self.trainers / self.trainer_nodes)
        adam = 0.0
        if self.cpu_optimizer:
            adam = CPU_ADAM_BYTES
        elif self.colocate:
            adam = ADAM_BYTES
        return parameters * (WEIGHT_BYTES * trainers / self.tp + adam * trainers / self.trainers) / GIB

    def processes_gib(self) -> float:
        """Host memory of the processes themselves, on the busiest node."""
        heavy, workers = (math.ceil(n / self.nodes) for n in (self.trainers + self.engines, self.workers))
        return PROCESS_GIB * heavy + WORKER_GIB * workers


def parameters(model: Path) -> int | None:
    """How many a Hugging Face directory's safetensors hold, from their headers; None where they cannot be read."""
    count = 0
    try:
        for shard in sorted(model.glob("*.safetensors")):
            with shard.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, shard.stat().st_size)))
            for name, tensor in header.items():
                if name != "__metadata__":
                    count += math.prod(tensor["shape"])
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return count or None


def disk_gib(plan: Plan, count: int, output: Path) -> tuple[float, str]:
    """(GiB that checkpoints will still take, how that is computed). Those that lie there have taken theirs already."""
    there = len([p for p in (output / "checkpoints").glob("iter_*") if re.fullmatch(r"iter_\d{7}", p.name)])
    new = max(1, plan.kept - there)  # even a run that deletes writes the next one first
    each = plan.checkpoint_gib(count)
    how = f"{new} more checkpoint{'s' if new > 1 else ''} of {each:.0f} GiB"
    return new * each, f"{how} beside the {there} there" if there else how


def host_memory(
    plan: Plan, count: int, meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> Finding:
    """Whether this node's memory holds what the busiest node's trainers keep; all nodes are taken to be alike.

    Args:
        count: the model's parameters.
        meminfo, limit: where the machine and the container say how much memory there is.
    """
    what = "host memory"
    pinned, beside = plan.host_gib(count), plan.processes_gib()
    need = pinned + beside
    try:
        lines = (line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        gib = {name: int(value.split()[0]) / 2**20 for name, value in lines}  # the file has kB
        total, free = gib["MemTotal"], gib["MemAvailable"]
        bound = limit.read_text().strip() if limit.exists() else "max"
        if bound.isdigit():
            total = min(total, int(bound) / GIB)
            free = min(free, total)
    except (OSError, ValueError, KeyError, IndexError) as error:
        return warn(what, f"cannot be read ({error!r})", f"this run needs about {need:.0f} GiB on each node")
    text = (
        f"{need:.0f} GiB wanted on each node ({pinned:.0f} of weights and optimizer, {beside:.0f} taken for processes)"
    )
    if total < need:
        fix = "a node with more, or another profile" + ("; CPU_OPTIMIZER=0 needs less" if plan.cpu_optimizer else "")
        return fail(what, f"{text}, this one has {total:.0f}", fix)
    if free < need:
        text = f"{text}, {free:.0f} of {total:.0f} are free now"
        return warn(what, text, "what holds the rest will compete with this run")
    return ok(what, f"{text}, {free:.0f} are free")
