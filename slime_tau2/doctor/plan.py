"""What a profile will need of the machine, computed before the job: disk for its checkpoints, host memory, GPUs and
CPUs of Ray.

The figures are arithmetic over the model's parameters, in slime's and Megatron's own terms: a checkpoint holds bf16
weights and Adam's fp32 state (2 + 12 bytes a parameter); the trainers keep a copy of their weights in pinned host
memory (2 bytes / TP each), and Adam's state too while another process has the GPU (`colocate`, 12 bytes) or all the
time (`cpu_optimizer`, with a copy of the gradients, 16 bytes).
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, fields
from pathlib import Path

from slime_tau2.doctor.findings import Finding, fail, ok, warn
from slime_tau2.errors import ConfigError

GIB = 2.0**30
CHECKPOINT_BYTES, WEIGHT_BYTES, ADAM_BYTES, CPU_ADAM_BYTES = 14, 2, 12, 16
MAY_BE_ZERO = ("engines", "colocate", "cpu_optimizer", "kept")
PROCESS_GIB = 4.0
"""Taken for each process with torch and CUDA, beside what is computed: an assumption, not measured."""


@dataclass(frozen=True)
class Plan:
    """`nodes` × `gpus_per_node` is the machine.

    `trainers` Megatron ranks (on `trainer_nodes`) and `engines` SGLang GPUs run on `gpus` of them.

    `kept` checkpoints lie on the disk at most: two where the run deletes old ones, for it writes the next one first.
    """

    nodes: int = 1
    gpus_per_node: int = 8
    gpus: int = 8
    trainers: int = 8
    trainer_nodes: int = 1
    engines: int = 0
    tp: int = 1
    colocate: int = 0
    cpu_optimizer: int = 0
    kept: int = 2

    @classmethod
    def parse(cls, text: str) -> Plan:
        """`nodes=1,tp=2,…` -> Plan.

        Raises:
            ConfigError: a name that is none of the fields, no whole number, or one that is too small.
        """
        known, values = {f.name for f in fields(cls)}, {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in known or not value.isdecimal() or int(value) < (name not in MAY_BE_ZERO):
                names = ", ".join(n if n in MAY_BE_ZERO else f"{n} (at least 1)" for n in sorted(known))
                raise ConfigError(f"--plan {part}: expected NAME=NUMBER with one of {names}")
            values[name] = int(value)
        return cls(**values)

    def checkpoint_gib(self, parameters: int) -> float:
        """One checkpoint of Megatron's, with the optimizer."""
        return parameters * CHECKPOINT_BYTES / GIB

    def host_gib(self, parameters: int) -> float:
        """Pinned host memory of the busiest node."""
        trainers = -(-self.trainers // self.trainer_nodes)
        adam = CPU_ADAM_BYTES if self.cpu_optimizer else ADAM_BYTES if self.colocate else 0
        return parameters * (WEIGHT_BYTES * trainers / self.tp + adam * trainers / self.trainers) / GIB

    def processes_gib(self) -> float:
        return PROCESS_GIB * -(-(self.trainers + self.engines) // self.nodes)


def parameters(model: Path) -> int | None:
    """Of the safetensors in a Hugging Face directory, from their headers; None where they cannot be read."""
    count = 0
    try:
        for shard in sorted(model.glob("*.safetensors")):
            with shard.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, shard.stat().st_size)))
            for name, tensor in header.items():
                if name != "__metadata__":
                    size = 1
                    for extent in tensor["shape"]:
                        size *= extent
                    count += size
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return count or None


def disk_gib(plan: Plan, count: int, output: Path) -> tuple[float, str]:
    """(GiB that checkpoints will still take, how that is computed): those that lie there already are on the disk."""
    there = len([p for p in (output / "checkpoints").glob("iter_*") if re.fullmatch(r"iter_\d{7}", p.name)])
    new = max(1, plan.kept - there)  # even a run that deletes writes the next one first
    one = plan.checkpoint_gib(count)
    return new * one, f"{new} more checkpoint{'s' * (new > 1)} of {one:.0f} GiB" + (
        f" beside the {there} there" if there else ""
    )


def host_memory(
    plan: Plan, count: int, meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> Finding:
    """Whether this node's memory holds what the trainers keep there (the busiest node's share; every node is taken to
    be alike).
    """
    what = "host memory"
    pinned, beside = plan.host_gib(count), plan.processes_gib()
    need = pinned + beside
    try:
        told = {
            k: int(v.split()[0]) / 2**20
            for k, v in (line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        }
        total, free = told["MemTotal"], told["MemAvailable"]
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
        return warn(
            what, f"{text}, {free:.0f} of {total:.0f} are free now", "what holds the rest will compete with this run"
        )
    return ok(what, f"{text}, {free:.0f} are free")
