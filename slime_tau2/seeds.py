"""Invariant 7: every sampling seed derives from what it is for: run, task, attempt, turn."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """A 31-bit seed from any parts, by their text."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:4]) >> 1
