"""One directory, one run: begin it, resume it or refuse it, and let no second process in.

Every command that fills a directory says in one file what it is doing there: `plan.json` of an evaluation,
`settings.json` of a pipeline, `study.json` of a study. That file is a `Manifest`. `claim` locks the directory, reads
the manifest that is there, asks the new one whether the run may go on, and writes what it goes on under.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from slime_tau2 import files
from slime_tau2.errors import ConfigError

log = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_held: set[Path] = set()
"""The directories that this process holds."""


class DirectoryBusy(ConfigError):
    """Another process holds a directory."""


class Manifest(BaseModel):
    """What a directory says about the run in it. Each subclass is one kind of run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    FILE: ClassVar[str]
    """Name of the manifest's file."""
    KIND: ClassVar[str]
    """What errors call such a run."""

    @classmethod
    def of(cls, directory: Path) -> Self | None:
        """The manifest in a directory; None where no such run was begun.

        Raises:
            ConfigError: the file is broken, or another version wrote it.
        """
        path = directory / cls.FILE
        return files.read_as(path, cls, complete=True) if path.exists() else None

    def resuming(self, before: Self, directory: Path) -> Self:
        """What the run in `directory`, begun under `before`, goes on under when it is asked to be this one.

        Raises:
            ConfigError: the two are different runs; names what differs.
        """
        changed = [name for name in type(self).model_fields if getattr(self, name) != getattr(before, name)]
        if changed:
            raise ConfigError(
                f"{directory} holds a {self.KIND} with other settings ({', '.join(changed)}); use another --output "
                "or delete it"
            )
        return before

    def write(self, directory: Path) -> None:
        """Write the file, whole or not at all."""
        files.write_whole(directory / self.FILE, self.model_dump_json(indent=1))


M = TypeVar("M", bound=Manifest)


@contextmanager
def claim(directory: Path, wanted: M) -> Iterator[M]:
    """Hold a directory for one run while the context lasts; yields the manifest that the run goes on under.

    Raises:
        DirectoryBusy: another process holds the directory.
        ConfigError: it cannot be written, or it holds another run.
    """
    with held(directory):
        before = type(wanted).of(directory)
        manifest = wanted if before is None else wanted.resuming(before, directory)
        if manifest != before:
            manifest.write(directory)
        yield manifest


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Lock a directory while the context lasts; the kernel unlocks it when the process ends, however it ends.

    A process may lock again what it has locked: the outer context unlocks.

    Raises:
        DirectoryBusy: another process holds it; names that one.
        ConfigError: it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, PermissionError) as error:
        raise ConfigError(f"cannot write to {directory}: {error.strerror}") from error
    place = directory.resolve()
    if place in _held:
        yield
        return
    with (directory / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise DirectoryBusy(
                f"{directory} is being written by {file.read().strip() or 'another process'}; wait for it, or use "
                "another --output"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning(
                "%s: this file system has no locks (%s); see that no other process writes there",
                directory,
                error.strerror,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _held.add(place)
        try:
            yield
        finally:
            _held.discard(place)
