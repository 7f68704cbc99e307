"""The records of attempts, `attempts.jsonl`: each line is checked against `record.AttemptRecord` as it is read.

One JSON object per attempt, appended as it finishes. A killed run may leave half a line at the end. An attempt that
infrastructure ended has a second record when it was tried again: a scored one wins, and of two scored ones the first.

A line without a number of its format was written by slime_tau2 0.1 or 0.2 and is brought into today's format, if it has
what is needed. A line of a later format is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.record import FORMAT, AttemptRecord
from slime_tau2.terminations import Disposition

FILE = "attempts.jsonl"


_CHECK = TypeAdapter(AttemptRecord)
_FORMAT_1: dict[str, Any] = {
    "partial": None,
    "components": {},
    "sampled_tokens": 0,
    "policy_s": 0.0,
    "usage": {},
    "reward_basis": [],
    "user_stopped_early": False,
    "reasoning": [],
}
"""What a record without a number of its format may leave out."""


def read(path: Path, torn_end: bool = False) -> list[AttemptRecord]:
    """Records of a run, one per attempt, by domain, task and attempt, whatever order they finished in.

    Args:
        torn_end: a last line without its end is what a kill left: it is left out, not refused.

    Raises:
        ConfigError: the file cannot be read, or a line is no record, or of a later format; names line, field and what
            is wrong with it.
    """
    by_key: dict[tuple[str, str, int], AttemptRecord] = {}
    for record in every(path, torn_end):
        key = record["domain"], record["task_id"], record["attempt"]
        before = by_key.get(key)
        if before is None or before["reward"] is None:
            by_key[key] = record
    return [by_key[key] for key in sorted(by_key)]


def so_far(path: Path) -> list[AttemptRecord]:
    """The records of a run that may have been killed, as `read`; [] where it has not begun."""
    return read(path, torn_end=True) if path.exists() else []


def every(path: Path, torn_end: bool = False) -> Iterator[AttemptRecord]:
    """All lines of a file of records, in order."""
    for number, record in files.read_jsonl(path, torn_end=torn_end):
        yield _checked(record, f"{path}, line {number}")


def _checked(record: dict[str, Any], where: str) -> AttemptRecord:
    """The record in today's format; fields of tau2's that no type names are still in it."""
    record = _upgraded(record)
    number = record["format"]
    if type(number) is int and number > FORMAT:
        raise ConfigError(
            f"{where}: written by a later slime_tau2 (records of format {number}, this one reads up to {FORMAT}); "
            "read it with that version"
        )
    try:
        _CHECK.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: no record of an attempt: {name}: {first['msg']}; {files.ANOTHER}") from error
    checked = cast(AttemptRecord, record)
    reward, info = checked["reward"], checked["reward_info"]
    if (reward is None) != (info is None):
        raise ConfigError(
            f"{where}: no record of an attempt: reward {reward} without its reward_info, or the other way round"
        )
    if reward is not None and info is not None and abs(info["reward"] - reward) > 1e-9:
        raise ConfigError(
            f"{where}: no record of an attempt: reward {reward}, and its reward_info says {info['reward']}"
        )
    return checked


def _upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A record of format 1 in today's; any other as it is."""
    if "format" in record:
        return record
    record = {**_FORMAT_1, "format": FORMAT, **record}
    disposition = record.pop("policy", None)
    if disposition is None:
        disposition = (Disposition.RETRY if record.get("reward") is None else Disposition.SCORE).value
    record["disposition"] = disposition
    return record
