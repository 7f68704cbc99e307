"""Which tasks train nothing: those of `test`, and those of `val` for whoever does not ask for the whole of tau2's
train.
"""

from __future__ import annotations

from functools import cache

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.episode.splits import TEST, TRAIN, VAL, WHOLE
from slime_tau2.errors import ConfigError

NAMES = {TEST: "of test tasks", VAL: "of val tasks"}
"""What such rows are counted as."""


@cache
def held_out(domain: str, split: str = TRAIN) -> dict[str, str]:
    """{task id: `test` or `val`} of a domain's tasks that may not train; empty for a domain without these splits.

    Args:
        split: `train+val` lets the val tasks train.
    """
    world = worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL)
    return {
        t: name
        for name in ((TEST,) if split == WHOLE else (TEST, VAL))
        if name in world.splits
        for t in world.task_ids(name)
    }


def training_split(split: str) -> str:
    """The split, where it is one of the two that say what may train.

    Raises:
        ConfigError: it is another.
    """
    if split not in (TRAIN, WHOLE):
        raise ConfigError(f"--split {split}: {TRAIN}, or {WHOLE}, which takes the val tasks too")
    return split


def check_source(domain: str, split: str) -> None:
    """Fail before anything is sampled where not one task of a split may train.

    Raises:
        ConfigError: all of its tasks are held out.
    """
    held, ids = held_out(domain, split), worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL).task_ids(split)
    if ids and all(t in held for t in ids):
        raise ConfigError(
            f"--split {split} of {domain}: none of its tasks may train; use {TRAIN}, or {WHOLE} with the val "
            "tasks among them"
        )
