"""The records of attempts, `attempts.jsonl`: each line is checked against `record.AttemptRecord` as it is read.

One JSON object per attempt, appended as it finishes. A killed run may leave half a line at the end. An attempt that
infrastructure ended has a second record when it was tried again: a scored one wins, and of two scored ones the first.

A line of an earlier format is brought into today's, if it has what is needed; one without a number of its format was
written by slime_tau2 0.1 or 0.2. A line of a later format is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.record import FORMAT, AttemptRecord
from slime_tau2.terminations import Disposition

FILE = "attempts.jsonl"
_CHECK = TypeAdapter(AttemptRecord)
_LACKING_IN_1: dict[str, Any] = {
    "partial": None,
    "components": {},
    "sampled_tokens": 0,
    "policy_s": 0.0,
    "usage": {},
    "reward_basis": [],
    "user_stopped_early": False,
    "reasoning": [],
}
"""What a record of format 1 may leave out."""


def _from_1(record: dict[str, Any]) -> dict[str, Any]:
    """A record of format 1, of slime_tau2 0.1 or 0.2, in format 2."""
    record = {**_LACKING_IN_1, **record, "format": 2}
    disposition = record.pop("policy", record.get("disposition"))
    if disposition is None:
        disposition = (Disposition.RETRY if record.get("reward") is None else Disposition.SCORE).value
    record["disposition"] = disposition
    return record


def _from_2(record: dict[str, Any]) -> dict[str, Any]:
    """A record of format 2, of slime_tau2 0.3, in format 3."""
    turns = record.get("turns")
    if isinstance(turns, list):
        turns = [{"by_call": [], **turn} if isinstance(turn, dict) else turn for turn in turns]
        record = {**record, "turns": turns}
    return {**record, "format": 3}


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}
"""{a format: what brings a record of it into the next}."""
_AGES = {1: "a record of format 1 (slime_tau2 0.1 or 0.2)", 2: "a record of format 2 (slime_tau2 0.3)"}
"""{a format: what an error calls a record that was written in it}."""


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


def scored_attempts(records: Iterable[AttemptRecord]) -> set[tuple[str, str, int]]:
    """(domain, task id, attempt) of each record that has a score."""
    return {(r["domain"], r["task_id"], r["attempt"]) for r in records if r["reward"] is not None}


def every(path: Path, torn_end: bool = False) -> Iterator[AttemptRecord]:
    """All lines of a file of records, in order."""
    for number, record in files.read_jsonl(path, torn_end=torn_end):
        yield _checked(record, f"{path}, line {number}")


def _checked(record: dict[str, Any], where: str) -> AttemptRecord:
    """The record in today's format; fields of tau2's that no type names are still in it."""
    number = record.get("format", 1)
    record = _upgraded(record, where)
    try:
        _CHECK.validate_python(record)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_refusal(record, number, error)}; {files.ANOTHER}") from error
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


def _refusal(record: Mapping[str, Any], number: object, error: ValidationError) -> str:
    """Why a line is no record; of one that was written in an earlier format, how old it is."""
    named = {"domain", "task_id", "attempt"} <= set(record)  # else it is another file's line, of whatever age
    if not isinstance(number, int) or number not in _AGES or not named:
        return f"no record of an attempt: {files.first_error(error)}"
    first, age = error.errors()[0], _AGES[number]
    if first["type"] == "missing":
        return f"{age} without {'.'.join(map(str, first['loc']))}"
    return f"{age}: {files.first_error(error)}"


def _upgraded(record: dict[str, Any], where: str) -> dict[str, Any]:
    """A record in today's format; without a number it is of format 1.

    Raises:
        ConfigError: its format is none that this version reads.
    """
    number = record.get("format", 1)
    if type(number) is not int:
        return record  # no number: the check of the types says so
    if number > FORMAT:
        raise ConfigError(
            f"{where}: written by a later slime_tau2 (records of format {number}, this one reads up to {FORMAT}); "
            "read it with that version"
        )
    while number < FORMAT:
        if number not in _UPGRADES:
            raise ConfigError(f"{where}: a record of format {number}: there is none; {files.ANOTHER}")
        record = _UPGRADES[number](record)
        number += 1
    return record
