"""Files as they come from a user's disk: each way in which one can be broken is one line with the file and the place.

A file of ours may be older, cut off by a full disk, saved by an editor in another encoding, or not ours at all. Whoever
reads one begins here, so that every command says the same of it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slime_tau2.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
ANOTHER = "is it the file that you mean?"


def read_text(path: Path) -> str:
    """Raises ConfigError: no such file, a folder, not readable, not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return _decoded(data, str(path))


def read_json(path: Path) -> Any:
    """Raises ConfigError: as `read_text`, or not JSON."""
    return parsed(read_text(path), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """Raises ConfigError: as `read_json`, or no JSON object."""
    return _object(read_json(path), str(path))


def read_as(path: Path, kind: type[Model], complete: bool = False) -> Model:
    """A JSON object as the model that it should be.

    Args:
        complete: a field that is not in the file is an error, though the model has a default: the file says what was
            used.

    Raises:
        ConfigError: as `read_object`, or a field of it is missing, unknown or of another type; names the field.
    """
    try:
        value = kind.model_validate(read_object(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error)}; {ANOTHER}") from error
    if complete:
        for name in kind.model_fields:
            if name not in value.model_fields_set:
                raise ConfigError(f"{path}: {name}: not in it; another version of slime_tau2 wrote it")
    return value


def read_lines(path: Path, torn_end: bool = False) -> Iterator[tuple[int, str]]:
    """(line number, text) of each line.

    Args:
        torn_end: a last line without its end is what a kill left: it is left out, not refused.

    Raises:
        ConfigError: as `read_text`; names the line that is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):  # bytes end at \n alone; text would also at U+2028 within a message
                if torn_end and line.startswith(b"{") and not line.endswith(b"\n"):
                    return
                yield number, _decoded(line, f"{path}, line {number}")
    except OSError as error:
        raise unreadable(path, error) from error


def read_jsonl(path: Path, needed: Iterable[str] = (), torn_end: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line.

    Args:
        needed: keys that every object must have.
        torn_end: as for `read_lines`.

    Raises:
        ConfigError: as `read_lines`, or a line that is no JSON object with these keys; names the line.
    """
    for number, line in read_lines(path, torn_end):
        where = f"{path}, line {number}"
        value = _object(parsed(line, where), where)
        for key in needed:
            if key not in value:
                raise ConfigError(f"{where}: no {key} in it; {ANOTHER}")
        yield number, value


def write_whole(path: Path, text: str | Iterable[str]) -> None:
    """Write a file whole or not at all, so that neither a kill nor a power cut leaves half of it.

    Args:
        text: all of it, or its parts in order.
    """
    parts = [text] if isinstance(text, str) else text
    _write(path, path.with_name(f"{path.name}.part"), (part.encode("utf-8") for part in parts))


def write_shared(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, where processes of several nodes may write the same one."""
    _write(path, path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}"), [data])


def _write(path: Path, staging: Path, parts: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with staging.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def stamp(paths: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """What changes when one of these files does: names, times and sizes of those that are there."""
    out = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:  # replaced a moment ago
            continue
        out.append((path.name, status.st_mtime_ns, status.st_size))
    return tuple(out)


def one_line(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def first_error(error: ValidationError) -> str:
    """The first thing that a check of types found: `field: what is wrong with it`."""
    first = error.errors()[0]
    return ": ".join((*([".".join(map(str, first["loc"]))] if first["loc"] else []), complaint(error)))


def complaint(error: ValidationError) -> str:
    """What is wrong with the first field that a check of types refuses."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def unreadable(path: Path, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"{path} does not exist")
    return ConfigError(f"{path} cannot be read: {error.strerror or error}")


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: not UTF-8 (byte {data[error.start]:#04x} at position {error.start}); {ANOTHER} iconv converts it"
        ) from error


def parsed(text: str, where: str) -> Any:
    """The value of a JSON text. Raises ConfigError, which begins with `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON ({error or 'nested too deeply'})") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: no JSON object in it; {ANOTHER}")
    return value
