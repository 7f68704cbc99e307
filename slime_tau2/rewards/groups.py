"""GRPO's group normalisation. Pure.

Samples that infrastructure spoiled are outside the group: they do not move its mean, and their advantage is 0.
Mean-only is the default (dividing by the standard deviation weighs easy and hard tasks up; arXiv 2503.20783).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

EPSILON = 1e-6


def normalise(
    rewards: Sequence[float], groups: Sequence[Hashable], valid: Sequence[bool], kind: str = "mean"
) -> list[float]:
    """Advantage of each sample within its group.

    Args:
        kind: `mean` subtracts the mean of the valid ones; `std` then divides by their unbiased standard deviation.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for n, (group, ok) in enumerate(zip(groups, valid, strict=True)):
        if ok:
            members[group].append(n)
    out = [0.0] * len(rewards)
    for indices in members.values():
        mean = sum(rewards[n] for n in indices) / len(indices)
        scale = 1.0
        if kind == "std" and len(indices) > 1:
            scale = math.sqrt(sum((rewards[n] - mean) ** 2 for n in indices) / (len(indices) - 1)) + EPSILON
        for n in indices:
            out[n] = (rewards[n] - mean) / scale
    return out
