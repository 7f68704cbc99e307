"""Which task sets this process has open: a set is opened by its path, and has then its name wherever a domain has one.

Opening reads the manifest alone, so that options can be resolved without tau2. The set's traits are its domain's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slime_tau2 import traits
from slime_tau2.errors import ConfigError
from slime_tau2.tasksets import manifest
from slime_tau2.tasksets.manifest import SetManifest


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A set that is open.

    Attributes:
        directory: where it lies.
        manifest: what it is.
        version: tells one reading of it from another, verification included.
    """

    directory: Path
    manifest: SetManifest
    version: str


_open: dict[str, Opened] = {}
_lost: set[str] = set()
"""Names that `stand_in` gave traits to."""


def is_path(value: str) -> bool:
    """Whether an option's value is a set's path: it has a separator in it, or is a directory with a manifest.

    A domain whose traits are known goes before a directory of its name: write `./airline` for that.
    """
    if os.sep in value or value in (".", ".."):
        return True
    return not traits.known(value) and (Path(value) / manifest.FILE).is_file()


def open_set(directory: str | Path) -> Opened:
    """Open the set in a directory, anew if it has changed.

    Raises:
        ConfigError: no set is there, it takes a domain's name, or another set of this name is open.
    """
    place = Path(directory).expanduser()
    if not place.is_dir():
        raise ConfigError(f"{directory}: no such directory of a task set; `slime-tau2 import-tasks` makes one")
    place = place.resolve()
    found = manifest.read(place)
    before = _open.get(found.name)
    if before is None and found.name not in _lost and traits.known(found.name):
        raise ConfigError(
            f"{place / manifest.FILE}: name: {found.name!r} is a domain's; give the set a name of its own"
        )
    if before is not None and before.directory != place and before.manifest.sha256 != found.sha256:
        raise ConfigError(
            f"{place} and {before.directory} are two task sets named {found.name!r}; give one of them another name in "
            f"its {manifest.FILE}"
        )
    version = hashlib.sha256(found.model_dump_json().encode()).hexdigest()
    _open[found.name] = Opened(directory=place, manifest=found, version=version)
    traits.register(found.name, traits.of(found.domain))
    return _open[found.name]


def open_version(directory: Path, sha256: str | None) -> Opened:
    """As `open_set`, of one version.

    Raises:
        ConfigError: as there, or another version lies there.
    """
    if directory.is_dir() and manifest.read(directory).sha256 != sha256:
        raise ConfigError(f"{directory} is another version of the task set: not sha256 {sha256}")
    return open_set(directory)


def stand_in(name: str, domain: str) -> None:
    """Let the name of a set that is not there have its domain's traits."""
    if not traits.known(name):
        traits.register(name, traits.of(domain))
        _lost.add(name)


def find(value: str) -> Opened | None:
    """The set that a path or a name of an open set says; None where it is a domain's name.

    Raises:
        ConfigError: as `open_set`.
    """
    if is_path(value):
        return open_set(value)
    return _open.get(value)


def opened(name: str) -> Opened | None:
    """The open set of a name."""
    return _open.get(name)


def names(values: Iterable[str]) -> list[str]:
    """The names of domains and sets; opens the sets.

    Raises:
        ConfigError: as `open_set`, or one is named twice.
    """
    out: list[str] = []
    for value in values:
        found = find(value)
        name = value if found is None else found.manifest.name
        if name in out:
            raise ConfigError(f"{name} is named twice; name each domain and each task set once")
        out.append(name)
    return out


def close_all() -> None:
    """Forget every set, for tests."""
    for name in {*_open, *_lost}:
        traits.forget(name)
    _open.clear()
    _lost.clear()
