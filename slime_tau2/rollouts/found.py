"""Which dump a directory holds: ours, or slime's own."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from slime_tau2.dumps.format import RolloutPart, TrainerPart
from slime_tau2.dumps.store import FOLDER, Dump
from slime_tau2.errors import ConfigError
from slime_tau2.rollouts.slime_dumps import SlimeDump
from slime_tau2.tokenizer import load_tokenizer

DEPTH, NAMED = 5, 6
"""Folders within each other that are looked through (a study has four), and trainings that an error names."""


class Rollouts(Protocol):
    """The rollouts of a training, as they are read while it goes on."""

    @property
    def directory(self) -> Path:
        """Where they lie."""

    def written(self) -> list[int]:
        """Those that are there, in order."""

    def stamp(self, rollout: int) -> tuple[tuple[str, int, int], ...]:
        """What changes when one of its files does."""

    def rollout(self, rollout: int) -> RolloutPart:
        """What the process that rolled out wrote. Raises ConfigError: broken, or of another format."""

    def trainers(self, rollout: int) -> list[TrainerPart]:
        """What trainers wrote. Raises ConfigError: broken, or of another format."""


def find(directory: Path, tokenizer: Path | None = None) -> Rollouts:
    """The rollouts in a run's directory.

    Args:
        tokenizer: directory of the model; slime's own dumps have token ids alone.

    Raises:
        ConfigError: there is no such directory, no dump in it, or more than one; says what to name instead.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory; name the one that the training writes to")
    if directory.name == FOLDER:
        return Dump(directory)
    ours = sorted(found for depth in range(DEPTH) for found in directory.glob("*/" * depth + FOLDER))
    if len(ours) > 1:
        names = ", ".join(str(found.parent) for found in ours[:NAMED]) + (", …" if len(ours) > NAMED else "")
        raise ConfigError(f"{directory} holds the rollouts of {len(ours)} trainings; name one: {names}")
    if ours:
        return Dump(ours[0])
    slimes = SlimeDump.folder(directory)
    if slimes is None:
        raise ConfigError(
            f"{directory} holds no rollouts: no {FOLDER}, and no ROLLOUT.pt of slime's --save-debug-rollout-data; a "
            "training writes them where tau2_dump is above 0 and it has --save or --dump-details"
        )
    if tokenizer is None:
        raise ConfigError(f"{slimes} holds slime's own dumps, which have token ids alone: add --tokenizer MODEL_DIR")
    return SlimeDump(slimes, load_tokenizer(tokenizer))
