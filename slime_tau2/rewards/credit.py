"""Credit by turn and by call: how much of an episode's advantage each of its tokens gets. Pure.

**By turn.** Each turn brings a gain, the increment of the strict partial score. With a discount a turn is also credited
with what the turns after it bring: its gain becomes the discounted mean of the gains from it on. Within an episode the
advantage of turn t becomes `A + s (g_t - g)`, where g is the mean of these gains over the episode's trained tokens.
Turns that moved the task forward get more, the rest less, and the sum over tokens stays that of the plain episode
advantage.

The scale s is a quarter of the group's gap between the least advantage of a success and the largest of a failure. No
token is further than 2 from the mean, so no token of a failed episode gets more than any token of a successful one. In
a group of one outcome, s is a quarter of the group's spread of advantages.

**By call.** A turn may hold several calls, each with a gain of its own (`episode.call_watch`). The tokens of call i get
`A + s (g_t - g + c_i - c)`, where c is the mean of the calls' gains over the tokens of the turn's calls. So calls of
one turn differ by what each did to the score, on the scale on which turns differ; the turn's sum stays, and calls of
equal gain get what `turn` gives them. All else of a turn is its text and gets the turn's: thoughts, words, the space
between calls, the end of the turn. What differs within a turn is shrunk where it would lead further than 2 from the
mean; only scores that fall can lead there.

A call that a check proves wrong gets at most A. What it would have had above is taken off what lies below A, all in
proportion, so that the sum over tokens stays.

Equal gains give exactly the episode's advantage. Only tokens whose mask is 1 count, and those of a turn need not be
together: a thought may be masked, or ended in the policy's stead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from slime_tau2.types import CallGain

FURTHEST = 2.0
"""Most that a token's gain may differ from the episode's mean: two gains of turns differ by no more."""


@dataclass(frozen=True, kw_only=True)
class Credited:
    """What the credit of one sample is made from.

    Attributes:
        advantage: of the whole episode.
        success: whether the episode earned the task reward.
        valid: whether the sample counts; infrastructure may have spoiled it.
        loss_mask: one number per response token, of all segments one behind the other.
        turns: [start, end) of each turn in those tokens; one that lies in several segments is there several times.
        gains: one number per turn, in order.
        calls: for each of `turns` its calls in order, by response token; empty for credit by turn.
        of: for each of `turns` its place in `gains`; empty where they are one each, in order.
    """

    advantage: float
    success: bool
    valid: bool
    loss_mask: Sequence[int]
    turns: Sequence[tuple[int, int]]
    gains: Sequence[float]
    calls: Sequence[Sequence[CallGain]] = ()
    of: Sequence[int] = ()


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


@dataclass
class _Part:
    """Some tokens that share an advantage.

    Attributes:
        tokens: [start, end) of each run of them, in response tokens.
        count: how many of them train.
        above: how far their gain lies above the episode's mean.
        wrong: whether they are a call that a check proves wrong.
    """

    tokens: Sequence[tuple[int, int]]
    count: int
    above: float
    wrong: bool = False


def _spread(sample: Credited, scale: float, discount: float) -> list[float]:
    turns, before = sample.turns, list(accumulate(sample.loss_mask, initial=0))

    def trained(start: int, end: int) -> int:
        return before[end] - before[start]

    gains = to_go(sample.gains, discount)
    if sample.of:
        gains = [gains[place] for place in sample.of]
    if len(gains) != len(turns):  # a record without its turns: nothing distinguishes them
        gains = [0.0] * len(turns)
    tokens = sum(trained(*turn) for turn in turns)
    weighted = sum(gain * trained(*turn) for gain, turn in zip(gains, turns))
    mean = weighted / tokens if tokens else 0.0
    calls = sample.calls if len(sample.calls) == len(turns) else [()] * len(turns)
    parts = [part for turn, gain, own in zip(turns, gains, calls) for part in _parts(turn, gain - mean, own, trained)]
    _withhold(parts)
    advantages = [0.0] * len(sample.loss_mask)
    for part in parts:
        for start, end in part.tokens:
            advantages[start:end] = [sample.advantage + scale * part.above] * (end - start)
    return [advantage if bit else 0.0 for advantage, bit in zip(advantages, sample.loss_mask)]


def _parts(
    turn: tuple[int, int], above: float, calls: Sequence[CallGain], trained: Callable[[int, int], int]
) -> list[_Part]:
    """A turn's calls and the text around them. Their mean over trained tokens is `above`, the turn's."""
    calls = [call for call in calls if turn[0] <= call.start <= call.end <= turn[1] and trained(call.start, call.end)]
    if not calls:
        return [_Part([turn], trained(*turn), above)]
    lengths = [trained(call.start, call.end) for call in calls]
    mean = sum(call.gain * length for call, length in zip(calls, lengths)) / sum(lengths)
    most = max(abs(call.gain - mean) for call in calls)
    room = FURTHEST - abs(above)
    share = room / most if most > room else 1.0
    borders = [turn[0], *(border for call in calls for border in (call.start, call.end)), turn[1]]
    text = list(zip(borders[::2], borders[1::2]))
    return [
        _Part(text, sum(trained(*piece) for piece in text), above),
        *(
            _Part([(c.start, c.end)], length, above + share * (c.gain - mean), bool(c.wrong))
            for c, length in zip(calls, lengths)
        ),
    ]


def _withhold(parts: Sequence[_Part]) -> None:
    """Take from calls that are proven wrong what lies above the mean, and as much off what the others owe."""
    taken = sum(part.above * part.count for part in parts if part.wrong and part.above > 0)
    if taken == 0.0:
        return
    owed = -sum(part.above * part.count for part in parts if part.above < 0)
    for part in parts:
        if part.above < 0:
            part.above *= max(0.0, 1 - taken / owed) if owed else 0.0
        elif part.wrong:
            part.above = 0.0
