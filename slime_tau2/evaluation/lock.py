"""One process at a time writes a run's directory: two would do the same work twice and mix their records."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slime_tau2.errors import ConfigError

log = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a directory while the context lasts; the kernel lets go of it when the process ends, however it ends.

    Raises:
        ConfigError: another process holds it; names that one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
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
        yield
