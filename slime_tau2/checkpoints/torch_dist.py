"""Reads Megatron's torch_dist checkpoints: no GPU, no process group, no Megatron.

A checkpoint is a folder `iter_0000001` (or its parent, which names the newest) with `.metadata`, `__<rank>_<n>.distcp`
and `common.pt`. Tensors are stored in chunks, whatever the parallelism they were written under; layers are stacked on
dimension 0 or stored one by one. Only what is asked for is read.
"""

from __future__ import annotations

import argparse
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slime_tau2 import files
from slime_tau2.checkpoints.saved import PICKLE_MODULE, Unpickler, mapped_tensor
from slime_tau2.errors import CheckpointError

NOT_WEIGHTS = ("optimizer", "rng_state", "rerun")


@dataclass(frozen=True)
class Stored:
    """One tensor: its whole shape and its chunks as (offsets, sizes, where)."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    chunks: tuple[tuple[tuple[int, ...], tuple[int, ...], Any], ...]


class TorchDist:
    """`tensors`: {name: Stored} of everything; `weights()`: the names of the model's."""

    def __init__(self, path: Path):
        self.path = newest(path)
        try:
            with (self.path / ".metadata").open("rb") as file:
                metadata = Unpickler(file).load()
            stored, tensors = metadata.storage_data, metadata.state_dict_metadata
        except (OSError, pickle.UnpicklingError, EOFError, AttributeError) as error:
            raise CheckpointError(f"{self.path}/.metadata cannot be read: {type(error).__name__}: {error}") from error
        places: dict[str, dict] = {}
        for index, where in stored.items():
            places.setdefault(index.fqn, {})[tuple(index.offset) if index.offset is not None else None] = where
        self.tensors: dict[str, Stored] = {}
        for name, entry in tensors.items():
            if hasattr(entry, "chunks"):
                chunks = tuple(
                    (tuple(c.offsets), tuple(c.sizes), places[name].get(tuple(c.offsets))) for c in entry.chunks
                )
                self.tensors[name] = Stored(tuple(entry.size), entry.properties.dtype, chunks)

    def weights(self) -> list[str]:
        return [
            k
            for k in self.tensors
            if not k.startswith(NOT_WEIGHTS) and "_extra_state" not in k and ".optimizer." not in k
        ]

    def arguments(self) -> dict[str, Any]:
        """The trainer's arguments, as far as they are plain values; {} where the checkpoint has none."""
        path = self.path / "common.pt"
        if not path.exists():
            return {}
        try:
            common = torch.load(path, map_location="cpu", pickle_module=PICKLE_MODULE, weights_only=False)
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        return dict(vars(common["args"])) if isinstance(common.get("args"), argparse.Namespace) else {}

    def read(self, name: str, layer: int | None = None) -> torch.Tensor:
        """A whole tensor, or slice `layer` of one that is stacked on dimension 0.

        Raises:
            CheckpointError: a chunk is absent or cut short; names the tensor and the file.
        """
        stored = self.tensors[name]
        low = [0] * len(stored.shape) if layer is None else [layer, *[0] * (len(stored.shape) - 1)]
        high = list(stored.shape) if layer is None else [layer + 1, *stored.shape[1:]]
        wanted = [last - first for first, last in zip(low, high)]
        out, filled = None, 0
        for offsets, sizes, where in stored.chunks:
            start = [max(o, first) for o, first in zip(offsets, low)]
            stop = [min(o + s, last) for o, s, last in zip(offsets, sizes, high)]
            if any(a >= b for a, b in zip(start, stop)):
                continue
            chunk = self._chunk(name, where, sizes)
            part = chunk[tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, offsets))]
            filled += part.numel()
            if list(part.shape) == wanted:
                out = part  # the file's own memory: nothing is copied
                continue
            out = torch.empty(wanted, dtype=stored.dtype) if out is None else out
            out[tuple(slice(a - first, b - first) for a, b, first in zip(start, stop, low))].copy_(part)
        if out is None or filled != out.numel():
            whole = math.prod(wanted)
            raise CheckpointError(
                f"{self.path}: {name}: its chunks hold {filled} of {whole} elements; the checkpoint is incomplete"
            )
        return out if layer is None else out[0]

    def _chunk(self, name: str, where: Any, sizes: tuple[int, ...]) -> torch.Tensor:
        if where is None:
            raise CheckpointError(f"{self.path}: {name}: the metadata names no place for one of its chunks")
        path = self.path / where.relative_path
        try:
            tensor = mapped_tensor(path, where.offset, where.length)
        except Exception as error:
            raise CheckpointError(
                f"{path}: {name} cannot be read ({type(error).__name__}: {error}); the file is absent or cut short"
            ) from error
        if tuple(tensor.shape) != sizes:
            raise CheckpointError(
                f"{path}: {name} has a chunk of shape {tuple(tensor.shape)} where the metadata says {sizes}"
            )
        return tensor


def newest(path: Path) -> Path:
    """The iteration's folder: `path` itself, or the one that its tracker file names."""
    if (path / ".metadata").exists():
        return path
    tracker = path / "latest_checkpointed_iteration.txt"
    if not tracker.exists():
        raise CheckpointError(f"{path} is no torch_dist checkpoint: it has neither .metadata nor {tracker.name}")
    name = files.read_text(tracker).strip()
    found = path / ("release" if name == "release" else f"iter_{int(name):07d}" if name.isdigit() else name)
    if not (found / ".metadata").exists():
        raise CheckpointError(f"{tracker} names {name!r}, but {found} is no torch_dist checkpoint")
    return found
