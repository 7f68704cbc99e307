"""What hooks read of a sample that `generate` has filled, and of the nested lists in which slime hands samples over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slime_tau2.hooks.compat import Sample


def info(sample: Sample) -> dict[str, Any]:
    """What `generate` left about the sample's episode; {} where none has run."""
    return sample.metadata.get("tau2") or {}


def flatten(samples: Iterable[Any]) -> list[Sample]:
    """The samples of nested groups, in order (a fan-out makes an element of a group a list)."""
    flat: list[Sample] = []
    for element in samples:
        flat += flatten(element) if isinstance(element, list) else [element]
    return flat
