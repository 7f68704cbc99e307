"""Episodes -> SFT rows -> token ids.

A row is what slime's SFT path reads: `{"messages": [...], "tools": "…", "metadata": {...}}`. `tokenise` renders a row
the way a rollout would have recorded it: prompt, then turn by turn, a 1 in the mask exactly on the assistant's own
tokens. Where the chat template rewrites history a row becomes several sequences, as an episode several segments; each
turn trains in one of them, behind the prompt that the model would be served.

Rows have one set of columns and types, so that Hugging Face's `datasets` loads them and gives back what was written:
tools and arguments, whose fields differ from call to call, are JSON in a string, which both Qwen's template and slime
take. Consecutive tool results are one message, which the template renders to the same text: slime v0.3.1 would make a
turn of each. An assistant's greeting, before the user has spoken, is not the policy's: it is muted by slime's
`step_loss_mask`. What an assistant thought before a message is its `reasoning_content`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from slime_tau2 import files
from slime_tau2.episode import thoughts
from slime_tau2.episode.chat import ChatCall, ChatMessage, ChatRenderer, ToolSchema
from slime_tau2.episode.protocols import PROTOCOLS, Native
from slime_tau2.episode.segments import Segments
from slime_tau2.errors import ConfigError
from slime_tau2.record import EpisodeRecord, MessageRecord
from slime_tau2.types import Episode


class RowMetadata(TypedDict, total=False):
    """Where a row comes from, as far as it is known."""

    domain: str | None
    task_id: str | None
    reward: float | None
    seed: int | None


class Row(TypedDict):
    """One conversation to train on, as a line of an SFT file holds it."""

    messages: list[ChatMessage]
    tools: NotRequired[str | None]
    """The tools' schemas, JSON in a string."""
    metadata: NotRequired[RowMetadata | None]


@dataclass(frozen=True)
class TokenRow:
    """One training sequence. `loss_mask` and `log_probs` align with `tokens[-len(loss_mask):]`; `thoughts` has, for
    each turn that trains, the tokens of its thought, masked or not (0: it has none).
    """

    tokens: list[int]
    loss_mask: list[int]
    log_probs: list[float]
    thoughts: tuple[int, ...] = ()


NATIVE = PROTOCOLS["native"]


def until_last_turn(
    messages: Iterable[MessageRecord], protocol: Native = NATIVE, thought: Mapping[int, str] | None = None
) -> list[ChatMessage]:
    """tau2's messages as chat messages, up to the agent's last turn; nothing trains on what follows it.

    Args:
        thought: {index of a message of the agent's: what it thought before it}.
    """
    out = protocol.chat(messages, thought)
    while out and out[-1]["role"] != "assistant":
        out.pop()
    return out


def thoughts_of(record: EpisodeRecord) -> dict[int, str]:
    """{index of a message of the agent's: what it thought before it}, as far as a record has it."""
    out: dict[int, str] = {}
    for one in record.get("reasoning", ()):
        if one["role"] == "policy":  # of an agent that asks its model several times there are several
            out[one["message"]] = "\n".join(filter(None, (out.get(one["message"]), one["text"])))
    return out


def to_row(episode: Episode, system_prompt: str, tools: Sequence[ToolSchema]) -> Row | None:
    """The SFT row of an episode; None when the agent never spoke."""
    return record_to_row(episode.record(), system_prompt, tools)


def record_to_row(
    record: EpisodeRecord, system_prompt: str, tools: Sequence[ToolSchema] | None, protocol: Native = NATIVE
) -> Row | None:
    """The SFT row of an episode's record (a line of attempts.jsonl), in any protocol; None when the agent never spoke.

    Args:
        tools: what the protocol gives to the chat template.
    """
    conversation = until_last_turn(record["messages"], protocol, thoughts_of(record))
    first = next((n for n, m in enumerate(conversation) if m["role"] == "user"), len(conversation))
    if all(m["role"] != "assistant" for m in conversation[first:]):
        return None
    system: ChatMessage = {"role": "system", "content": system_prompt}
    return Row(
        messages=row_messages([system, *conversation]),
        tools=json.dumps(tools or [], ensure_ascii=False),
        metadata=RowMetadata(
            domain=record["domain"], task_id=record["task_id"], reward=record["reward"], seed=record["seed"]
        ),
    )


JOIN = "\n</tool_response>\n<tool_response>\n"
"""What Qwen's template puts between two tool results of one turn."""


def row_messages(messages: Iterable[Mapping[str, Any]]) -> list[ChatMessage]:
    """Chat messages in the rows' form (see this module's head), from ours or from those of a published set."""
    out: list[ChatMessage] = []
    user_spoke = False
    for m in messages:
        role, content = m["role"], m.get("content") or ""
        user_spoke = user_spoke or role == "user"
        if role == "tool" and out and out[-1]["role"] == "tool":
            out[-1] = {"role": "tool", "content": out[-1]["content"] + JOIN + content}
            continue
        message: ChatMessage = {"role": role, "content": content}
        if role == "assistant":
            message["step_loss_mask"] = int(user_spoke and m.get("step_loss_mask", 1) != 0)
            thought = m.get("reasoning_content") or m.get("reasoning")  # vLLM's name for it
            if isinstance(thought, str) and thought.strip():
                message["reasoning_content"] = thought
        if m.get("tool_calls"):
            message["tool_calls"] = [_call(c.get("function", c)) for c in m["tool_calls"]]
        out.append(message)
    return out


def _call(function: Mapping[str, Any]) -> ChatCall:
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"type": "function", "function": {"name": function["name"], "arguments": text}}


def tokenise(row: Row, chat: ChatRenderer, *, train_thinking: bool = True) -> list[TokenRow]:
    """The training sequences of a row, in order: one where the template keeps history, else as many as its segments
    that train something. A prompt runs to a generation prompt after a user's word.

    Args:
        train_thinking: False masks thoughts, as `tau2_train_thinking` does.

    Raises:
        ConfigError: no turn of the assistant's after a user's word.
        TemplateError: the template does not take a turn.
    """
    messages = row["messages"]
    first = next((n for n, m in enumerate(messages) if m["role"] == "user"), None)
    if first is None or all(m["role"] != "assistant" for m in messages[first:]):
        raise ConfigError("an SFT row needs a user message and an assistant message after it")
    record, thought = Segments(chat), defaultdict[int, list[int]](list)
    heard = [_before(m) for m in messages[: first + 1]]
    for message in messages[first + 1 :]:
        if message["role"] != "assistant":
            heard.append(message)
            continue
        record.hear(heard)
        heard = []
        ids = chat.turn(_sayable(message, chat))
        text = chat.decode(ids[:-1])
        masked = len(ids)
        if message.get("step_loss_mask", 1) != 0:
            length = chat.thought_length(ids, text)
            masked = 0 if train_thinking else length
            thought[len(record.ledgers) - 1].append(length if thoughts.split(chat.opening + text)[0] else 0)
        record.say([(ids[:masked], None), (ids[masked:], [0.0] * (len(ids) - masked))], text)
    return [
        TokenRow(s.tokens, s.loss_mask, s.log_probs, tuple(thought[number]))
        for number, s in enumerate(record.ledgers)
        if s.sampled
    ]


def _before(message: ChatMessage) -> ChatMessage:
    """A message of a prompt, without a thought that nobody was shown."""
    return cast(ChatMessage, {key: value for key, value in message.items() if key != "reasoning_content"})


def _sayable(message: ChatMessage, chat: ChatRenderer) -> ChatMessage:
    """A turn without its thought where the template has said in the policy's stead that it has none."""
    if thoughts.CLOSE not in chat.opening:
        return message
    return {**_before(message), "content": thoughts.split(message["content"])[1]}


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to a file, whole or not at all; returns how many."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            count += 1
            yield json.dumps(row, ensure_ascii=False) + "\n"

    files.write_whole(path, lines())
    return count


def read_rows(path: Path) -> Iterator[Row]:
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
        raise ConfigError(f"{where}: no chat messages: {files.first_error(error)}") from error


def checked(row: dict[str, Any], where: str) -> Row:
    """The row.

    Raises:
        ConfigError: it is none; names the place, the field and what is wrong with it.
    """
    try:
        _Row.model_validate(row, strict=True)
        tools = json.loads(row.get("tools") or "[]")
    except ValidationError as error:
        raise ConfigError(f"{where}: no row: {files.first_error(error)}; {files.ANOTHER}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: no row: tools: not JSON ({error})") from error
    if not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools):
        raise ConfigError(f"{where}: no row: tools: no list of tool schemas")
    return cast(Row, row)
