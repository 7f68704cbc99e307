"""Which tasks train nothing: those of `test`, and those of `val` for whoever does not ask for the whole of tau2's
train. Of a task set also those of `held-out`, and those that did not pass verification.
"""

from __future__ import annotations

from functools import cache

from slime_tau2.episode import worlds
from slime_tau2.episode.splits import HELD_OUT, TEST, TRAIN, VAL, WHOLE
from slime_tau2.errors import ConfigError
from slime_tau2.tasksets import openings

UNVERIFIED = "unverified"
NAMES = {
    TEST: "of test tasks",
    VAL: "of val tasks",
    HELD_OUT: "of held-out tasks",
    UNVERIFIED: "of unverified tasks",
}
"""What such rows are counted as."""
COUNTED = (NAMES[TEST], NAMES[VAL])
"""Those of them that every count names; the others exist in task sets alone, and are named where there are some."""


def held_out(domain: str, split: str = TRAIN, unverified: bool = False) -> dict[str, str]:
    """{task id: `test`, `val`, `held-out` or `unverified`} of the tasks of a domain or a task set that may not train.

    Args:
        split: `train+val` lets the val tasks train.
        unverified: let tasks train that did not pass verification (the option `tau2_unverified`).

    Raises:
        ConfigError: a task set that was never verified, and not `unverified`.
    """
    opened = openings.find(domain)
    return _held_out(domain if opened is None else opened.manifest.name, split, unverified, opened and opened.version)


@cache
def _held_out(name: str, split: str, unverified: bool, version: str | None) -> dict[str, str]:
    splits, found = worlds.task_splits(name), worlds.task_set(name)
    held = [TEST] if split == WHOLE else [TEST, VAL]
    if found is not None:
        held.append(HELD_OUT)
    out = {task_id: part for part in held for task_id in splits.get(part, ())}
    if found is None or unverified:
        return out
    if found.unverified is None:
        raise ConfigError(
            f"task set {found.manifest.name} was never verified, so that none of its tasks trains: run `slime-tau2 "
            f"verify-tasks {found.directory}`, or say tau2_unverified: true"
        )
    return {**dict.fromkeys(found.unverified, UNVERIFIED), **out}


def training_split(split: str) -> str:
    """The split, where it is one of the two that say what may train.

    Raises:
        ConfigError: it is another.
    """
    if split not in (TRAIN, WHOLE):
        raise ConfigError(f"--split {split}: {TRAIN}, or {WHOLE}, which takes the val tasks too")
    return split


def check_source(domain: str, split: str, unverified: bool = False) -> None:
    """Fail before anything is sampled where not one task of a split may train.

    Raises:
        ConfigError: all of its tasks are held out.
    """
    held, ids = held_out(domain, split, unverified), worlds.split(domain, split)
    if ids and all(t in held for t in ids):
        raise ConfigError(
            f"--split {split} of {domain}: none of its tasks may train; use {TRAIN}, or {WHOLE} with the val "
            "tasks among them"
        )
