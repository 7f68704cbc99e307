"""The rows of AReaL's published SFT files: their lines, and what is in one.

Every reader takes `where` a row lies, and raises a ConfigError that names it where the row is none of this format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slime_tau2 import files, traits
from slime_tau2.errors import ConfigError

MARKS = {"seed_pattern_task_id": "airline", "scenario_id": "retail", "difficulty": "telecom", "num_subtasks": "telecom"}
"""{key of `metadata` that only one domain's rows have: the domain}."""
Message = dict[str, Any]
"""Role, content, and calls as {"function": {name, arguments}}."""


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(bytes, object) of each line of a file. Raises ConfigError also where it cannot be read."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield len(line), parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise files.unreadable(path, error) from error


def parsed(line: bytes, where: str) -> dict[str, Any]:
    """The object of a line."""
    try:
        row = files.parsed(line.decode("utf-8"), where)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8; {files.ANOTHER}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: no JSON object in it; {files.ANOTHER}")
    return row


def thought_of(row: Mapping[str, Any]) -> str:
    """What the answer thinks; empty where it has no thought."""
    return str(row["answer"].get("thinking") or "").strip()


def domain_of(metadata: Mapping[str, Any], dialogue: str, default: str | None, where: str) -> str:
    """The domain that metadata or the dialogue's name says, else `default`."""
    if isinstance(metadata.get("domain"), str):
        return str(metadata["domain"])
    for key, name in MARKS.items():
        if key in metadata:
            return name
    for name in traits.BENCHMARKS:
        if dialogue.lower().startswith(name):
            return name
    if default is None:
        raise ConfigError(f"{where}: neither metadata nor source_dialog_id says the domain; name it with --domain")
    return default


def messages_of(row: Mapping[str, Any], where: str) -> list[Message]:
    """The context of the answer."""
    found = row.get("messages")
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{where}: messages is no list of chat messages; {files.ANOTHER}")
    return [_message(m, f"{where}: message {n}") for n, m in enumerate(found)]


def answer_of(row: Mapping[str, Any], where: str) -> Message:
    """The assistant's turn, without its thought."""
    found = row.get("answer")
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: no answer in it; {files.ANOTHER}")
    return _message({**found, "role": "assistant"}, f"{where}: answer")


def _message(found: Any, where: str) -> Message:
    """A message without ids and thoughts."""
    if not isinstance(found, dict) or found.get("role") not in ("system", "user", "assistant", "tool"):
        raise ConfigError(f"{where}: no chat message; {files.ANOTHER}")
    content = found.get("content")
    if not isinstance(content, str | None):
        raise ConfigError(f"{where}: content is {type(content).__name__}, and not text; {files.ANOTHER}")
    message: Message = {"role": found["role"], "content": content or ""}
    calls = found.get("tool_calls")
    if calls:
        if not isinstance(calls, list):
            raise ConfigError(f"{where}: tool_calls is no list; {files.ANOTHER}")
        message["tool_calls"] = [{"function": _function(call, where)} for call in calls]
    return message


def _function(call: Any, where: str) -> dict[str, str]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ConfigError(f"{where}: a tool call without a name; {files.ANOTHER}")
    arguments = function.get("arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"name": function["name"], "arguments": arguments}
