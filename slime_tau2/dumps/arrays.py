"""Numbers as the dumps hold them: little-endian, four bytes each, in base64."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

_IDS, _FLOATS = np.dtype("<i4"), np.dtype("<f4")


def pack_ids(ids: Sequence[int]) -> str:
    """Token ids as int32."""
    return _packed(np.asarray(ids, dtype=_IDS))


def pack_floats(values: Sequence[float]) -> str:
    """Floats as float32: what a trainer works with."""
    return _packed(np.asarray(values, dtype=_FLOATS))


def unpack_ids(text: str) -> list[int]:
    """Raises ValueError: it is no such array."""
    return list(map(int, _unpacked(text, _IDS)))


def unpack_floats(text: str) -> list[float]:
    """Raises ValueError: it is no such array."""
    return list(map(float, _unpacked(text, _FLOATS)))


def checksum(ids: Sequence[int]) -> int:
    """CRC-32 of ids as they are packed: which tokens a number belongs to, whoever writes it down."""
    return zlib.crc32(np.asarray(ids, dtype=_IDS).tobytes())


def _packed(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _unpacked(text: str, kind: Any) -> Any:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64 ({error})") from error
    if len(data) % kind.itemsize:
        raise ValueError(f"{len(data)} bytes are no whole number of {kind.itemsize}")
    return np.frombuffer(data, dtype=kind)
