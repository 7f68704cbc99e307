"""Reads Megatron's torch_dist checkpoints: no GPU, no process group, no Megatron.

A checkpoint is a folder `iter_0000001` (or its parent, which names the newest) with `.metadata`, `__<rank>_<n>.distcp`
and `common.pt`. Tensors are stored in chunks, whatever the parallelism they were written under; layers are stacked on
dimension 0 or stored one by one. Only what is asked for is read.
"""

from __future__ import annotations

import argparse
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from slime_tau2 import files
from slime_tau2.checkpoints.saved import PICKLE_MODULE, Unpickler, mapped_tensor
from slime_tau2.errors import CheckpointError

NOT_WEIGHTS = ("optimizer", "rng_state", "rerun")


Shape = tuple[int, ...]


class Place(Protocol):
    """Where a chunk lies, as the metadata says it: bytes of a file in the checkpoint's folder."""

    relative_path: str
    offset: int
    length: int


@dataclass(frozen=True)
class Chunk:
    """A box of a tensor: where it begins, how large it is, and where it lies (None: the metadata does not say)."""

    offsets: Shape
    sizes: Shape
    place: Place | None


@dataclass(frozen=True)
class Stored:
    """One tensor: its whole shape, and the chunks that it is made of."""

    shape: Shape
    dtype: torch.dtype
    chunks: tuple[Chunk, ...]


class TorchDist:
    """A checkpoint. `tensors` has everything in it, by name; `weights()` are the names of the model's own.

    Raises:
        CheckpointError: it has no metadata, or such as cannot be read.
    """

    def __init__(self, path: Path):
        self.path = newest(path)
        try:
            with (self.path / ".metadata").open("rb") as file:
                metadata = Unpickler(file).load()
            places, entries = metadata.storage_data, metadata.state_dict_metadata
        except (OSError, pickle.UnpicklingError, EOFError, AttributeError) as error:
            raise CheckpointError(f"{self.path}/.metadata cannot be read: {type(error).__name__}: {error}") from error
        by_name: dict[str, dict[Shape | None, Place]] = {}
        for index, place in places.items():
            offset = None if index.offset is None else tuple(index.offset)
            by_name.setdefault(index.fqn, {})[offset] = place
        self.tensors: dict[str, Stored] = {}
        for name, entry in entries.items():
            if hasattr(entry, "chunks"):
                chunks = [
                    Chunk(tuple(c.offsets), tuple(c.sizes), by_name[name].get(tuple(c.offsets))) for c in entry.chunks
                ]
                self.tensors[name] = Stored(tuple(entry.size), entry.properties.dtype, tuple(chunks))

    def weights(self) -> list[str]:
        """Names of the model's tensors: without the optimizer's and the random states."""

        def is_weight(name: str) -> bool:
            return not name.startswith(NOT_WEIGHTS) and "_extra_state" not in name and ".optimizer." not in name

        return [name for name in self.tensors if is_weight(name)]

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
        # the box [low, high) that is wanted
        low, high = [0] * len(stored.shape), list(stored.shape)
        if layer is not None:
            low[0], high[0] = layer, layer + 1
        wanted = [last - first for first, last in zip(low, high)]
        out: torch.Tensor | None = None
        filled = 0
        for chunk in stored.chunks:
            # what the chunk has of it: [start, stop)
            start = [max(o, first) for o, first in zip(chunk.offsets, low)]
            stop = [min(o + s, last) for o, s, last in zip(chunk.offsets, chunk.sizes, high)]
            if any(a >= b for a, b in zip(start, stop)):
                continue
            part = self._chunk(name, chunk)[_box(start, stop, chunk.offsets)]
            filled += part.numel()
            if list(part.shape) == wanted:
                out = part  # the file's own memory: nothing is copied
                continue
            if out is None:
                out = torch.empty(wanted, dtype=stored.dtype)
            out[_box(start, stop, low)].copy_(part)
        if out is None or filled != out.numel():
            whole = math.prod(wanted)
            raise CheckpointError(
                f"{self.path}: {name}: its chunks hold {filled} of {whole} elements; the checkpoint is incomplete"
            )
        return out if layer is None else out[0]

    def _chunk(self, name: str, chunk: Chunk) -> torch.Tensor:
        if chunk.place is None:
            raise CheckpointError(f"{self.path}: {name}: the metadata names no place for one of its chunks")
        path = self.path / chunk.place.relative_path
        try:
            tensor = mapped_tensor(path, chunk.place.offset, chunk.place.length)
        except Exception as error:
            raise CheckpointError(
                f"{path}: {name} cannot be read ({type(error).__name__}: {error}); the file is absent or cut short"
            ) from error
        if tuple(tensor.shape) != chunk.sizes:
            raise CheckpointError(
                f"{path}: {name} has a chunk of shape {tuple(tensor.shape)} where the metadata says {chunk.sizes}"
            )
        return tensor


def _box(start: Sequence[int], stop: Sequence[int], origin: Sequence[int]) -> tuple[slice, ...]:
    """[start, stop) as an index into a tensor that begins at `origin`."""
    return tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, origin))


def newest(path: Path) -> Path:
    """The iteration's folder: `path` itself, or the one that its tracker file names.

    Raises:
        CheckpointError: neither is there.
    """
    if (path / ".metadata").exists():
        return path
    tracker = path / "latest_checkpointed_iteration.txt"
    if not tracker.exists():
        raise CheckpointError(f"{path} is no torch_dist checkpoint: it has neither .metadata nor {tracker.name}")
    name = files.read_text(tracker).strip()
    folder = path / (f"iter_{int(name):07d}" if name.isdigit() else name)  # `release` is its own name
    if not (folder / ".metadata").exists():
        raise CheckpointError(f"{tracker} names {name!r}, but {folder} is no torch_dist checkpoint")
    return folder
