"""Reads what `torch.save` wrote without trusting it, and without copying it.

A pickle is read by an unpickler that knows the plain containers of torch and Python. Everything else in it (Megatron's
enums, a trainer's arguments) becomes an inert stub. A tensor is built on the file's own mapped memory.
"""

from __future__ import annotations

import argparse
import io
import mmap
import pickle
import struct
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
}


class _Stub:
    """Stands for an object whose class is not to be imported."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: object) -> None:
        self.__dict__["state"] = state

    def __hash__(self) -> int:
        return id(self)


class Unpickler(pickle.Unpickler):
    """Resolves torch's and Python's plain containers; everything else becomes an inert stub."""

    _CONTAINERS = frozenset(
        "set frozenset dict list tuple int float bool str bytes bytearray slice complex object".split()
    )

    def find_class(self, module: str, name: str) -> Any:
        if module == "builtins":
            return super().find_class(module, name) if name in self._CONTAINERS else _Stub
        if (module, name) == ("argparse", "Namespace"):
            return argparse.Namespace
        if module.split(".")[0] in ("collections", "pathlib", "_codecs"):
            return super().find_class(module, name)
        if module in ("torch", "torch.serialization", "torch._utils", "torch.storage") or module.startswith(
            "torch.distributed.checkpoint"
        ):
            known = super().find_class(module, name)
            plain = isinstance(known, type | torch.dtype | torch.layout | torch.memory_format)
            return known if plain or module == "torch._utils" or name.startswith("_get_layout") else _Stub
        return _Stub


PICKLE_MODULE = types.SimpleNamespace(
    Unpickler=Unpickler, load=lambda file, **_: Unpickler(file).load(), __name__="restricted_pickle"
)
"""In place of `pickle`: the `pickle_module` of torch.load."""


class _TensorUnpickler(Unpickler):
    """Rebuilds a tensor on the memory that `storage(key)` gives for a storage's key."""

    def __init__(self, file: IO[bytes], storage: Callable[[str], memoryview]):
        super().__init__(file)
        self._storage = storage

    def persistent_load(self, saved: tuple[str, torch.dtype, str, str, int]) -> torch.Tensor:
        _, dtype, key, _, _ = saved  # "storage", what `find_class` made of its class, its key, its device, its length
        return torch.frombuffer(self._storage(key), dtype=torch.uint8).view(dtype)

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return _DTYPES[name]
        rebuild = (module, name) == ("torch._utils", "_rebuild_tensor_v2")
        return _rebuild if rebuild else super().find_class(module, name)


def _rebuild(
    flat: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> torch.Tensor:
    return flat.as_strided(size, stride, offset)


class _View(io.RawIOBase):
    """A memoryview as a file, without a copy."""

    def __init__(self, view: memoryview):
        self._view = view
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._view))[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        part = self._view[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def mapped_tensor(path: Path, offset: int, length: int) -> torch.Tensor:
    """The tensor that `torch.save` wrote into bytes [offset, offset + length) of a file, on the file's own mapped
    memory.

    `torch.load` maps whole files only, and elsewhere copies thrice; a checkpoint's tensors lie one behind the other in
    few files. The mapping lives as long as the tensor. It is private: writing to the tensor does not reach the file.
    """
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), offset + length - start, access=mmap.ACCESS_COPY, offset=start)
    view = memoryview(mapped)[offset - start :]
    with zipfile.ZipFile(_View(view)) as archive:
        root = archive.namelist()[0].split("/")[0]

        def storage(key: str) -> memoryview:
            # torch stores them uncompressed, so that the bytes lie in the file as they are, behind the entry's header:
            # 30 bytes, whose last four are the lengths of the name and of the extra field that follow
            entry = archive.getinfo(f"{root}/data/{key}")
            name, extra = struct.unpack_from("<HH", view, entry.header_offset + 26)
            data = entry.header_offset + 30 + name + extra
            return view[data : data + entry.file_size]

        tensor: torch.Tensor = _TensorUnpickler(io.BytesIO(archive.read(f"{root}/data.pkl")), storage).load()
        return tensor
