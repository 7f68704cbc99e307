"""Turn-level credit: which turns of an episode its advantage is due to. Pure.

Each turn brings a gain, the increment of the strict partial score; with a discount it is also credited with what the
turns after it bring, as the discounted mean of the gains from it on. Within an episode the advantage of turn t becomes
`A + s (g_t - g)`, where g is the mean of these over the episode's trained tokens: turns that moved the task forward get
more, the rest less, and the sum over tokens stays that of the plain episode advantage. The scale s is a quarter of the
gap, in the group, between the least advantage of a success and the largest of a failure; a gain and its mean differ by
at most 2, so no turn of a failed episode ever gets more than any turn of a successful one. In a group of one outcome
only, s is the group's own spread.

Equal gains give exactly the episode's advantage. Turn spans are the runs of ones in the loss mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from slime_tau2.masks import spans


@dataclass(frozen=True)
class Credited:
    """What the credit of one sample is made from. `gains` has one number a span of `loss_mask`, in order."""

    advantage: float
    success: bool
    valid: bool
    loss_mask: Sequence[int]
    gains: Sequence[float]


def to_go(gains: Sequence[float], discount: float) -> list[float]:
    """For each turn the discounted mean of its gain and those after it; equal gains stay what they are, 0.0 changes
    nothing.
    """
    out, total, weight = [], 0.0, 0.0
    for gain in reversed(gains):
        total, weight = gain + discount * total, 1 + discount * weight
        out.append(total / weight)
    return out[::-1]


def token_advantages(
    samples: Sequence[Credited], groups: Sequence[Hashable], discount: float = 0.0
) -> list[list[float]]:
    """One advantage a response token of each sample, 0.0 where the mask is 0; samples that do not count get zeros.

    Args:
        discount: of the gains after a turn, a turn; 0.0 credits each turn with its own gain alone.
    """
    members: dict[Hashable, list[Credited]] = defaultdict(list)
    for sample, group in zip(samples, groups, strict=True):
        if sample.valid:
            members[group].append(sample)
    scales = {group: _scale(part) for group, part in members.items()}
    return [
        _spread(sample, scales[group], discount) if sample.valid else [0.0] * len(sample.loss_mask)
        for sample, group in zip(samples, groups, strict=True)
    ]


def _scale(group: Sequence[Credited]) -> float:
    won, lost = [s.advantage for s in group if s.success], [s.advantage for s in group if not s.success]
    if won and lost:
        return max(0.0, min(won) - max(lost)) / 4
    return (max(s.advantage for s in group) - min(s.advantage for s in group)) / 4


def _spread(sample: Credited, scale: float, discount: float) -> list[float]:
    own = spans(sample.loss_mask)
    out = [0.0] * len(sample.loss_mask)
    gains = to_go(sample.gains, discount)
    if len(gains) != len(own):  # a record without its turns: nothing to tell them apart by
        gains = [0.0] * len(own)
    tokens = sum(end - start for start, end in own)
    mean = sum(g * (end - start) for g, (start, end) in zip(gains, own)) / tokens if tokens else 0.0
    for gain, (start, end) in zip(gains, own):
        out[start:end] = [sample.advantage + scale * (gain - mean)] * (end - start)
    return out
