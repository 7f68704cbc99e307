"""The life of a group: served, then either closed or taken back to be served again. Nothing is lost, nothing is served
twice.

    state     the group                                              comes here by              leaves by
    out       is being generated, or is finished and waits           `served`                   `close`, `take_back`
    closed    trained, or the dynamic filter dropped it: it counts,  `close`                    `take_back`
              and the curriculum has heard of it, once, whole
    returned  waits to be served again                               `take_back`                `served`, `close`

`settle` and `take_back_thrown_away` decide between the three when a rollout is over. Whoever hands a closed group back
wants it served again, and gets that. What slime does to a group, and where that brings it: docs/hooks.md, "The life of
a group".

A group keeps its index and its samples' indices for life, over restarts too. So every index that was ever given is in
exactly one of the three states, and `out` and `returned` together are what a saved state must remember. Pure
bookkeeping: no IO, no lock.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from slime_tau2.hooks.compat import Sample, restart
from slime_tau2.hooks.samples import task_name
from slime_tau2.record import MessageRecord

OVER = (Sample.Status.COMPLETED, Sample.Status.TRUNCATED, Sample.Status.FAILED)
"""Statuses of an episode that will not be tried again."""


CUT_OFF = "the end of the rollout cut it off"
SPOILED = "infrastructure spoiled it"
SURPLUS = "the batch was full"
THROWN_AWAY = "slime threw it away"


@dataclass
class Settled:
    """What became of the groups that were left when a rollout ended."""

    dropped: list[list[Sample]] = field(default_factory=list)
    """Those that the filter dropped."""
    returned: list[tuple[list[Sample], str]] = field(default_factory=list)
    """Those that are served again, and why."""


class GroupState(TypedDict):
    """What a saved state remembers of a group: what it takes to make it again, as JSON."""

    group: int
    """The group's index."""
    index: int
    """The index of the first sample."""
    size: int
    """How many samples."""
    task: str
    """The task, `domain/task_id`."""
    prefix: NotRequired[list[MessageRecord]]
    """Behind which messages the group begins, where not at the beginning."""


class GroupBook:
    """The groups that are not closed.

    Attributes:
        out: those that are being generated, or wait to be trained on, by index.
        returned: those that wait to be served again, in the order in which they came back. The buffer filter decides
            which goes first.
    """

    def __init__(self, group_size: int):
        self.group_size = group_size
        self.out: dict[int, list[Sample]] = {}
        self.returned: list[list[Sample]] = []
        self._passed_over: dict[int, int] = {}
        """How many rollouts have ended since a group was finished and nobody trained it."""

    def served(self, groups: Iterable[list[Sample]]) -> None:
        """These groups are being generated. Clears what an aborted try left: tau2's environment cannot be resumed."""
        for group in groups:
            for s in group:
                if s.status is Sample.Status.ABORTED:
                    _begin_anew(s)
            self.out[key_of(group)] = group

    def take_back(self, group: list[Sample], anew: bool) -> None:
        """Have a group served again; one that is `returned` already is not taken twice.

        `anew` serves copies without its finished episodes, so that weights of one age sample all of it (slime may still
        hold the samples themselves, and train on them); without, slime serves those episodes as they are.

        Raises:
            ValueError: it is no whole group.
        """
        if len(group) != self.group_size:
            raise ValueError(f"a returned group has {len(group)} samples, not {self.group_size}")
        key = key_of(group)
        self._passed_over.pop(key, None)
        self.out.pop(key, None)
        if all(key_of(g) != key for g in self.returned):
            self.returned.append([_another_try(s) for s in group] if anew else group)

    def close(self, key: int) -> bool:
        """A group will not be served again, though it may have come back; False where it was closed before, or never
        served by this book.
        """
        self._passed_over.pop(key, None)
        others = [group for group in self.returned if key_of(group) != key]
        came_back = len(others) < len(self.returned)
        self.returned[:] = others
        was_out = self.out.pop(key, None) is not None
        return was_out or came_back

    def settle(self, keeps: Callable[[list[Sample]], bool]) -> Settled:
        """A rollout is over in which nothing is in flight any more, and what trained is closed. The rest is served
        again (cut off, spoiled, or one more than the batch holds) or was dropped by the filter, whose verdict is
        `keeps`.
        """
        settled = Settled()
        for group in list(self.out.values()):
            why = CUT_OFF if unfinished(group) else SPOILED if spoiled(group) else SURPLUS if keeps(group) else None
            if why is None:
                settled.dropped.append(group)
            else:
                self.take_back(group, anew=True)
                settled.returned.append((group, why))
        return settled

    def take_back_thrown_away(self) -> list[list[Sample]]:
        """Take back finished groups that two whole rollouts have passed over, and return them; call it once at the end
        of each rollout.

        slime v0.3.1's fully-async rollout takes all that is finished and keeps a batch of it; the rest is gone. A
        rollout begins with what its predecessor left finished, so what has not trained after the second one was thrown
        away.
        """
        finished = [key for key, group in self.out.items() if not unfinished(group)]
        self._passed_over = {key: self._passed_over.get(key, 0) + 1 for key in finished}
        thrown_away = [self.out[key] for key, rollouts in self._passed_over.items() if rollouts > 2]
        for group in thrown_away:
            self.take_back(group, anew=True)
        return thrown_away

    def state(self) -> list[GroupState]:
        """What a resumed run must serve again, oldest first: what it takes to make each group again."""
        return [_state(g) for g in sorted([*self.returned, *self.out.values()], key=key_of)]


def key_of(group: list[Sample]) -> int:
    """The group's index."""
    index: int | None = group[0].group_index
    if index is None:
        raise ValueError(
            f"a group of {group[0].prompt!r} has no group_index; only groups that the data source served can come back"
        )
    return index


def spoiled(group: list[Sample]) -> bool:
    """Infrastructure ended so much of it that nothing can be learned: fewer than two samples are left to compare."""
    usable = sum(s.status not in (Sample.Status.ABORTED, Sample.Status.FAILED) for s in group)
    return any(s.status is Sample.Status.ABORTED for s in group) and usable < min(2, len(group))


def unfinished(group: list[Sample]) -> bool:
    """Not each of its episodes has ended."""
    return any(s.status not in OVER for s in group)


def _begin_anew(sample: Sample) -> Sample:
    """Make it as if it had never been served, and another conversation: no server may take it for the one before."""
    restart(sample)
    sample.session_id = None
    return sample


def _another_try(sample: Sample) -> Sample:
    """A copy of the sample that begins anew."""
    again = copy.copy(sample)
    again.metadata = {**sample.metadata}
    return _begin_anew(again)


def _state(group: list[Sample]) -> GroupState:
    first = group[0]
    state = GroupState(group=key_of(group), index=first.index or 0, size=len(group), task=task_name(first))
    if "prefix" in first.metadata:
        state["prefix"] = first.metadata["prefix"]
    return state
