"""The records of attempts, `attempts.jsonl`: what each must hold for a report to read it, checked as it is read.

One JSON object an attempt, appended as it finishes. A killed run may leave half a line at the end. An attempt that
infrastructure ended has a second record when it was tried again: a scored one wins, and of two scored ones the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from slime_tau2 import files
from slime_tau2.errors import ConfigError

FILE = "attempts.jsonl"


class _Lax(BaseModel):
    """Other fields may be there; those that are read have their type, and no number becomes a text or the other way
    round.
    """

    model_config = ConfigDict(extra="ignore", strict=True)


class _Call(_Lax):
    name: str
    arguments: dict[str, Any]


class _Message(_Lax):
    role: str
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Turn(_Lax):
    start: int
    end: int
    text: str
    calls: int
    malformed: int
    sent: bool
    partial: float
    gain: float


class _Action(_Lax):
    action: _Call


class _Said(_Lax):
    info: str
    met: bool


class _Assertion(_Lax):
    func_name: str


class _Asserted(_Lax):
    env_assertion: _Assertion
    met: bool


class _Database(_Lax):
    db_match: bool


class _RewardInfo(_Lax):
    reward: float
    db_check: _Database | None = None
    action_checks: list[_Action] | None = None
    communicate_checks: list[_Said] | None = None
    env_assertions: list[_Asserted] | None = None


class _Used(_Lax):
    requests: int = Field(ge=0)
    unreported: int = Field(0, ge=0)
    prompt: int = Field(ge=0)
    cached: int = Field(ge=0)
    completion: int = Field(ge=0)


class _Record(_Lax):
    domain: str
    task_id: str
    attempt: int = Field(ge=0)
    seed: int | None
    reward: float | None = Field(allow_inf_nan=False)
    partial: float | None = None
    detail: str
    termination: str
    turns: list[_Turn]
    messages: list[_Message]
    reward_info: _RewardInfo | None
    steps: int
    tool_errors: int
    response_tokens: int
    wall_s: float | None
    user_s: float
    usage: dict[str, _Used] = {}
    tau2: str
    tasks_sha256: str


_CHECK = TypeAdapter(_Record)


def read(path: Path, torn_end: bool = False) -> list[dict[str, Any]]:
    """Records of a run, one an attempt, by domain, task and attempt, whatever order they finished in.

    Args:
        torn_end: a last line without its end is what a kill left: it is left out, not refused.

    Raises:
        ConfigError: the file cannot be read, or a line is no record; names line, field and what was found there.
    """
    by_key: dict[tuple[str, str, int], dict] = {}
    for record in every(path, torn_end):
        key = record["domain"], record["task_id"], record["attempt"]
        if by_key.get(key, {"reward": None})["reward"] is None:
            by_key[key] = record
    return [by_key[key] for key in sorted(by_key)]


def so_far(path: Path) -> list[dict[str, Any]]:
    """As `read`, of a run that may have been killed, or not have begun: then []."""
    return read(path, torn_end=True) if path.exists() else []


def every(path: Path, torn_end: bool = False) -> Iterator[dict[str, Any]]:
    """All lines of a file of records, in order."""
    for number, record in files.read_jsonl(path, torn_end=torn_end):
        _check(record, f"{path}, line {number}")
        yield record


def _check(record: dict[str, Any], where: str) -> None:
    try:
        _CHECK.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: no record of an attempt: {name}: {first['msg']}; {files.ANOTHER}") from error
    info = record["reward_info"]
    if info is not None and record["reward"] is not None and abs(info["reward"] - record["reward"]) > 1e-9:
        raise ConfigError(
            f"{where}: no record of an attempt: reward {record['reward']}, and its reward_info says {info['reward']}"
        )
    if (record["reward"] is None) != (record["reward_info"] is None):
        raise ConfigError(
            f"{where}: no record of an attempt: reward {record['reward']} without its reward_info, or the other "
            "way round"
        )
