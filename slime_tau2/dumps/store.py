"""Dumps on the disk: each file is written beside its place and then moved there, so that a reader finds it whole or not
at all.

A run that resumes makes some rollouts again. Its files replace those of the same rollout. What it had made beyond, and
has not made again yet, stays, and is older than what it now writes: `written` in the files says so.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from slime_tau2 import files
from slime_tau2.dumps.format import FORMAT, RolloutPart, TrainerPart
from slime_tau2.errors import ConfigError

FOLDER = "tau2_rollouts"
ROLLOUT = "rollout.json.gz"
_NAME = re.compile(r"\d{8,}")
_ROLLOUT: TypeAdapter[RolloutPart] = TypeAdapter(RolloutPart)
_TRAINER: TypeAdapter[TrainerPart] = TypeAdapter(TrainerPart)
T = TypeVar("T")


@dataclass(frozen=True)
class Dump:
    """The dump in one `tau2_rollouts` folder."""

    directory: Path

    def _folder(self, rollout: int) -> Path:
        return self.directory / f"{rollout:08d}"

    def write_rollout(self, part: RolloutPart) -> int:
        """Write a rollout's own part, and remove what trainers said of an earlier try of it; returns its bytes.

        Raises:
            OSError: it cannot be written.
        """
        folder = self._folder(part["rollout"])
        for stale in folder.glob("trainer-*.json.gz"):
            stale.unlink(missing_ok=True)
        return _write(folder / ROLLOUT, part)

    def write_trainer(self, part: TrainerPart, rank: int) -> int:
        """Write what one trainer says of a rollout; returns its bytes.

        Raises:
            OSError: it cannot be written.
        """
        return _write(self._folder(part["rollout"]) / f"trainer-{rank:05d}.json.gz", part)

    def written(self) -> list[int]:
        """The rollouts that have a part of their own, in order."""
        if not self.directory.is_dir():
            return []
        return sorted(
            int(f.name) for f in self.directory.iterdir() if _NAME.fullmatch(f.name) and (f / ROLLOUT).exists()
        )

    def stamp(self, rollout: int) -> tuple[tuple[str, int, int], ...]:
        """What changes when a file of a rollout does: names, times and sizes."""
        return files.stamp(sorted(self._folder(rollout).glob("*.json.gz")))

    def rollout(self, rollout: int) -> RolloutPart:
        """A rollout's own part.

        Raises:
            ConfigError: absent, broken, or of another format; names the file.
        """
        return _read(self._folder(rollout) / ROLLOUT, _ROLLOUT)

    def trainers(self, rollout: int) -> list[TrainerPart]:
        """What trainers say of a rollout, as far as they have.

        Raises:
            ConfigError: a file is broken, or of another format; names it.
        """
        return [_read(file, _TRAINER) for file in sorted(self._folder(rollout).glob("trainer-*.json.gz"))]


def _write(path: Path, value: Mapping[str, Any]) -> int:
    data = gzip.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)
    files.write_shared(path, data)
    return len(data)


def _read(path: Path, kind: TypeAdapter[T]) -> T:
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (EOFError, zlib.error, UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise ConfigError(
            f"{path}: not a whole gzip file of JSON ({files.one_line(error)}); remove it to read the others"
        ) from error
    except OSError as error:
        raise files.unreadable(path, error) from error
    value = files.parsed(text, str(path))
    number = value.get("format") if isinstance(value, dict) else None
    if number != FORMAT:
        raise ConfigError(
            f"{path}: of format {number!r}, and this slime_tau2 reads format {FORMAT}; read it with the version that "
            "wrote it"
        )
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{path}: {files.first_error(error)}; {files.ANOTHER}") from error
