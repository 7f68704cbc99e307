"""Invariant 7: every sampling seed derives from what it is for: run, task, attempt, turn."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """A 31-bit seed from any parts, by their text."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:4]) >> 1


def of_sample(run: int, domain: str, task_id: str, index: object, *, evaluation: bool = False, attempt: int = 0) -> int:
    """The seed of the episode that a sample of slime's becomes.

    Args:
        run: `tau2_seed`.
        index: the sample's.
        attempt: 0 for the first; an episode that infrastructure ended is played again under another seed.
    """
    return derive_seed(run, domain, task_id, index, "eval" if evaluation else "train", attempt)
