"""The data source's state as it was when each rollout ended: one JSON file per rollout id, beside slime's checkpoints.

slime saves the model first and asks the data source later: under `train_async.py` behind the whole next rollout, and
after a kill never. So a state is written when its rollout ends, before the model trains on it; `keep` then marks those
that belong to a checkpoint, and the others are pruned. A file is whole or absent.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)
UNKEPT = 3
"""States of rollouts without a checkpoint that stay: a kill may fall between the model's checkpoint and the call that
keeps its state.
"""
_NAME = re.compile(r"tau2_data_source_(\d+)\.json")


class RolloutStates:
    """States under `directory`/rollout."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory) / "rollout"
        self._unkept: dict[int, dict[str, Any] | None] = {}
        """States that no checkpoint has asked for, by rollout id; None where the file is written."""

    def path(self, rollout_id: int) -> Path:
        return self.directory / f"tau2_data_source_{rollout_id}.json"

    def write(self, rollout_id: int, state: dict[str, Any]) -> None:
        """Write one state, and prune what this process wrote and no checkpoint asked for.

        A full disk stops no rollout: the state is held, and `keep` tries again.
        """
        self._unkept.pop(rollout_id, None)
        try:
            self._write(rollout_id, state)
            self._unkept[rollout_id] = None
        except CheckpointError as error:
            log.error("%s", error)
            self._unkept[rollout_id] = state
        while len(self._unkept) > UNKEPT:
            oldest = next(iter(self._unkept))
            del self._unkept[oldest]
            self.path(oldest).unlink(missing_ok=True)

    def keep(self, rollout_id: int) -> bool:
        """A checkpoint of this rollout exists: its state stays. False where none was written.

        Raises:
            CheckpointError: it could not be written before, and cannot now.
        """
        if rollout_id not in self._unkept:
            return False
        held = self._unkept[rollout_id]
        if held is not None:
            self._write(rollout_id, held)
        del self._unkept[rollout_id]
        return True

    def _write(self, rollout_id: int, state: dict[str, Any]) -> None:
        path = self.path(rollout_id)
        try:
            files.write_whole(path, json.dumps(state))
        except OSError as error:
            raise CheckpointError(
                f"cannot save the data source to {path}: {error.strerror}; the previous state is untouched"
            ) from error

    def _written(self) -> list[int]:
        """The rollouts whose states are there."""
        names = [_NAME.fullmatch(path.name) for path in self.directory.glob("tau2_data_source_*.json")]
        return [int(name[1]) for name in names if name is not None]

    def restore(self, rollout_id: int, load: Callable[[dict[str, Any]], None]) -> None:
        """Give `load` the state as of the end of a rollout.

        Where it is absent, `load` gets the newest older one, with a warning, and without any it is not called.

        Raises:
            CheckpointError: the file is not what was written.
        """
        path = self.path(rollout_id)
        if not path.exists():
            older = max((n for n in self._written() if n < rollout_id), default=None)
            if older is None:
                log.warning(
                    "%s is absent, and so is every older one: the data source starts afresh, at the first task "
                    "of its first epoch",
                    path,
                )
                return
            log.warning(
                "%s is absent: the data source goes on from rollout %d; what was served since is served again",
                path,
                older,
            )
            path = self.path(older)
        try:
            load(files.read_object(path))
        except (ConfigError, ValueError) as error:
            reason = files.one_line(error).removeprefix(f"{path}: ")
            raise CheckpointError(
                f"{path} is corrupt ({reason}); remove it to go on from the state before it"
            ) from error
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}; remove it to go on from the state before it") from error
