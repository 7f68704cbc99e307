"""`slime-tau2 export-hf`: a Megatron torch_dist checkpoint -> a Hugging Face model directory.

Streams: at any time one Megatron tensor (a layer's, or the embedding) is in memory, whatever the model's size. The
output appears whole or not at all.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from slime_tau2 import files
from slime_tau2.checkpoints.qwen3 import Group, Qwen3
from slime_tau2.checkpoints.torch_dist import TorchDist
from slime_tau2.errors import CheckpointError

DTYPES = {"bfloat16": (torch.bfloat16, "BF16"), "float32": (torch.float32, "F32"), "float16": (torch.float16, "F16")}
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth", ".distcp")


@dataclass(frozen=True)
class Exported:
    """What was written: tensors, bytes of weights, files."""

    tensors: int
    size: int
    shards: int


def export(
    checkpoint: Path,
    hf_config: Path,
    output: Path,
    *,
    dtype: str | None = None,
    shard_bytes: int = 2 << 30,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write a model directory.

    Args:
        hf_config: directory with `config.json`; its tokenizer and generation files are copied.
        dtype: of the weights; None is the checkpoint's.
        shard_bytes: most bytes of weights in a file; a single larger tensor gets a file of its own.
        progress: called with (bytes written, bytes in all).

    Raises:
        CheckpointError: the checkpoint is incomplete, or disagrees with config.json; nothing is written then.
    """
    path = hf_config / "config.json"
    if not path.exists():
        raise CheckpointError(f"{path} is absent; name the Hugging Face directory that training started from")
    if output.exists() and any(output.iterdir()):
        raise CheckpointError(f"{output} is not empty; name another output, or delete it")
    config = files.read_object(path)
    model = Qwen3(TorchDist(checkpoint), config)
    name = dtype or str(model.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise CheckpointError(f"dtype {name!r} is none of {', '.join(DTYPES)}")
    torch_dtype, code = DTYPES[name]
    shards = _shards(list(model.groups()), torch_dtype.itemsize, shard_bytes)
    total = sum(_size(g, torch_dtype.itemsize) for shard in shards for g in shard)
    staging = output.with_name(f".{output.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    places: dict[str, str] = {}
    done = 0
    for n, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{n:05d}-of-{len(shards):05d}.safetensors"
        places |= {entry: file for group in shard for entry, _ in group.entries}
        for written in _write(staging / file, shard, torch_dtype, code):
            done += written
            progress(done, total)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (staging / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    for file_path in hf_config.iterdir():
        if file_path.is_file() and not file_path.name.endswith(WEIGHTS):
            shutil.copy(file_path, staging)
    (staging / "config.json").write_text(
        json.dumps({**config, "dtype": name, "torch_dtype": name}, indent=2), encoding="utf-8"
    )
    if output.exists():
        output.rmdir()
    staging.rename(output)
    return Exported(len(places), total, len(shards))


def _size(group: Group, item: int) -> int:
    return sum(math.prod(shape) * item for _, shape in group.entries)


def _shards(groups: Sequence[Group], item: int, most: int) -> list[list[Group]]:
    shards: list[list[Group]] = [[]]
    filled = 0
    for group in groups:
        size = _size(group, item)
        if shards[-1] and filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(group)
        filled += size
    return shards


def _write(path: Path, groups: Sequence[Group], dtype: torch.dtype, code: str) -> Iterator[int]:
    """Write one safetensors file (format: huggingface.co/docs/safetensors), group by group; yields each one's bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for group in groups:
        for name, shape in group.entries:
            start, end = end, end + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for group in groups:
            written = 0
            for (name, shape), tensor in zip(group.entries, group.read(), strict=True):
                if tuple(tensor.shape) != shape:
                    raise CheckpointError(f"{name} came out as {tuple(tensor.shape)}, not {shape}")
                data = tensor.to(dtype).contiguous().view(-1).view(torch.uint8).numpy().data
                file.write(data)
                written += len(data)
            yield written
        file.flush()
        os.fsync(file.fileno())
