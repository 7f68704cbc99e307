"""Turn-level credit: how much of an episode's advantage each of its turns gets. Pure.

Each turn brings a gain, the increment of the strict partial score. With a discount a turn is also credited with what
the turns after it bring: its gain becomes the discounted mean of the gains from it on. Within an episode the advantage
of turn t becomes `A + s (g_t - g)`, where g is the mean of these gains over the episode's trained tokens. Turns that
moved the task forward get more, the rest less, and the sum over tokens stays that of the plain episode advantage.

The scale s is a quarter of the group's gap between the least advantage of a success and the largest of a failure. A
gain and its mean differ by at most 2, so no turn of a failed episode gets more than any turn of a successful one. In a
group of one outcome, s is a quarter of the group's spread of advantages.

Equal gains give exactly the episode's advantage. A turn is a run of ones in the loss mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from slime_tau2.masks import spans


@dataclass(frozen=True, kw_only=True)
class Credited:
    """What the credit of one sample is made from.

    Attributes:
        advantage: of the whole episode.
        success: whether the episode earned the task reward.
        valid: whether the sample counts; infrastructure may have spoiled it.
        loss_mask: one number per response token.
        gains: one number per turn, a turn being a run of ones in `loss_mask`, in order.
    """

    advantage: float
    success: bool
    valid: bool
    loss_mask: Sequence[int]
    gains: Sequence[float]


def to_go(gains: Sequence[float], discount: float) -> list[float]:
    """For each turn the discounted mean of its gain and those after it.

    Equal gains stay as they are; a discount of 0.0 changes nothing.
    """
    means: list[float] = []
    total = 0.0
    weight = 0.0
    for gain in reversed(gains):
        total = gain + discount * total
        weight = 1 + discount * weight
        means.append(total / weight)
    return means[::-1]


def token_advantages(
    samples: Sequence[Credited], groups: Sequence[Hashable], discount: float = 0.0
) -> list[list[float]]:
    """One advantage per response token of each sample, 0.0 where the mask is 0; samples that do not count get zeros.

    Args:
        groups: the group of each sample.
        discount: factor per turn of the gains after a turn; 0.0 credits each turn with its own gain alone.
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
    won = [s.advantage for s in group if s.success]
    lost = [s.advantage for s in group if not s.success]
    if won and lost:
        return max(0.0, min(won) - max(lost)) / 4
    return (max(s.advantage for s in group) - min(s.advantage for s in group)) / 4


def _spread(sample: Credited, scale: float, discount: float) -> list[float]:
    turns = spans(sample.loss_mask)
    gains = to_go(sample.gains, discount)
    if len(gains) != len(turns):  # a record without its turns: nothing distinguishes them
        gains = [0.0] * len(turns)
    tokens = sum(end - start for start, end in turns)
    weighted = sum(gain * (end - start) for gain, (start, end) in zip(gains, turns))
    mean = weighted / tokens if tokens else 0.0
    advantages = [0.0] * len(sample.loss_mask)
    for gain, (start, end) in zip(gains, turns):
        advantages[start:end] = [sample.advantage + scale * (gain - mean)] * (end - start)
    return advantages
