"""Episodes -> SFT rows -> token ids.

A row is what slime's SFT path reads: `{"messages": [...], "tools": "…", "metadata": {...}}`. `tokenise` renders a row
the way a rollout would have recorded it: prompt, then turn by turn, a 1 in the mask exactly on the assistant's own
tokens.

Rows have one set of columns and types, so that Hugging Face's `datasets` loads them and gives back what was written:
tools and arguments, whose fields differ from call to call, are JSON in a string, which both Qwen's template and slime
take. Consecutive tool results are one message, which the template renders to the same text: slime v0.3.1 would make a
turn of each. An assistant's greeting, before the user has spoken, is not the policy's: it is muted by slime's
`step_loss_mask`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from slime_tau2 import files
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.errors import ConfigError
from slime_tau2.types import Episode


@dataclass(frozen=True)
class TokenRow:
    """One training sequence. `loss_mask` and `log_probs` align with `tokens[-len(loss_mask):]`."""

    tokens: list[int]
    loss_mask: list[int]
    log_probs: list[float]


NATIVE = PROTOCOLS["native"]


def until_last_turn(messages: Iterable[dict], protocol: Native = NATIVE) -> list[dict]:
    """Chat messages up to the agent's last turn; nothing trains on what follows it."""
    out = protocol.chat(messages)
    while out and out[-1]["role"] != "assistant":
        out.pop()
    return out


def to_row(episode: Episode, system_prompt: str, tools: list[dict]) -> dict[str, Any] | None:
    """The SFT row of an episode; None when the agent never spoke."""
    return record_to_row(episode.record(), system_prompt, tools)


def record_to_row(
    record: dict[str, Any], system_prompt: str, tools: list[dict] | None, protocol: Native = NATIVE
) -> dict[str, Any] | None:
    """The SFT row of an episode's record (a line of attempts.jsonl), in any protocol; None when the agent never spoke.

    Args:
        tools: what the protocol gives to the chat template.
    """
    said = until_last_turn(record["messages"], protocol)
    first = next((n for n, m in enumerate(said) if m["role"] == "user"), len(said))
    if all(m["role"] != "assistant" for m in said[first:]):
        return None
    metadata = {k: record[k] for k in ("domain", "task_id", "reward", "seed")}
    messages = row_messages([{"role": "system", "content": system_prompt}, *said])
    return {"messages": messages, "tools": json.dumps(tools or [], ensure_ascii=False), "metadata": metadata}


JOIN = "\n</tool_response>\n<tool_response>\n"
"""What Qwen's template puts between two tool results of one turn."""


def row_messages(messages: Iterable[dict]) -> list[dict]:
    """Chat messages in the rows' form (see this module's head)."""
    out: list[dict] = []
    spoke = False  # the user has
    for m in messages:
        role, content = m["role"], m.get("content") or ""
        spoke = spoke or role == "user"
        if role == "tool" and out and out[-1]["role"] == "tool":
            out[-1] = {"role": "tool", "content": out[-1]["content"] + JOIN + content}
            continue
        new: dict[str, Any] = {"role": role, "content": content}
        if role == "assistant":
            new["step_loss_mask"] = int(spoke and m.get("step_loss_mask", 1) != 0)
        if m.get("tool_calls"):
            new["tool_calls"] = [_call(c.get("function", c)) for c in m["tool_calls"]]
        out.append(new)
    return out


def _call(function: dict) -> dict:
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"type": "function", "function": {"name": function["name"], "arguments": text}}


def tokenise(row: dict[str, Any], chat: ChatRenderer) -> TokenRow:
    """Ids and mask of a row. The prompt runs to the first generation prompt after a user's word."""
    messages = row["messages"]
    first = next((n for n, m in enumerate(messages) if m["role"] == "user"), None)
    if first is None or all(m["role"] != "assistant" for m in messages[first:]):
        raise ConfigError("an SFT row needs a user message and an assistant message after it")
    tokens = chat.prompt(messages[: first + 1]).values
    mask: list[int] = []
    pending: list[dict] = []
    for message in messages[first + 1 :]:
        if message["role"] != "assistant":
            pending.append(message)
            continue
        if mask:
            glue = chat.delta(pending).values
            tokens, mask, pending = tokens + glue, mask + [0] * len(glue), []
        own = chat.turn(message)
        tokens, mask = tokens + own, mask + [int(message.get("step_loss_mask", 1) != 0)] * len(own)
    return TokenRow(tokens, mask, [0.0] * len(mask))


def write_jsonl(path: Path, rows: Iterable[dict]) -> int:
    """Write rows to a file, whole or not at all; returns how many."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            count += 1
            yield json.dumps(row, ensure_ascii=False) + "\n"

    files.write_whole(path, lines())
    return count


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """SFT rows of a file.

    Raises:
        ConfigError: the file cannot be read, or a line is no row; names the line.
    """
    for number, row in files.read_jsonl(path, ("messages",)):
        yield checked(row, f"{path}, line {number}")


class _Function(BaseModel):
    name: str
    arguments: str | dict[str, Any]


class _Call(BaseModel):
    function: _Function


class _Message(BaseModel):
    role: str
    content: str | None = None
    tool_calls: list[_Call | _Function] | None = None


class _Metadata(BaseModel):
    domain: str | None = None
    task_id: str | int | None = None


_MESSAGES = TypeAdapter(list[_Message])


class _Row(BaseModel):
    messages: list[_Message]
    tools: str | None = None
    metadata: _Metadata | None = None


def check_messages(messages: Any, where: str) -> None:
    """Raises ConfigError where it is no list of chat messages, before `row_messages` takes it for one."""
    try:
        _MESSAGES.validate_python(messages, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: no chat messages: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row. Raises ConfigError where it is none: names the place, the field and what is wrong with it."""
    try:
        _Row.model_validate(row, strict=True)
        tools = json.loads(row.get("tools") or "[]")
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{where}: no row: {'.'.join(map(str, first['loc']))}: {first['msg']}; {files.ANOTHER}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: no row: tools: not JSON ({error})") from error
    if not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools):
        raise ConfigError(f"{where}: no row: tools: no list of tool schemas")
    return row
