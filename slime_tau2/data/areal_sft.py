"""AReaL's published SFT rows, one assistant turn each in its whole context, as conversations with a loss mask.

Rows of one dialogue repeat its beginning; merged they are one conversation, whose mask says which turns had a row. A
row whose context or answer is not the dialogue's becomes a conversation of its own. Contexts have no thoughts, answers
have: each is put before its turn. The file may be larger than the memory: a first pass remembers of each row where it
lies and hashes of what is in it, a second reads the last row of each conversation again, and those with thoughts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from slime_tau2 import files
from slime_tau2.data import areal_rows, traces
from slime_tau2.data.areal_rows import Message
from slime_tau2.data.traces import Row, RowMetadata
from slime_tau2.errors import ConfigError

Failed = Literal["drop", "mask", "keep"]
FAILED: tuple[Failed, ...] = ("drop", "mask", "keep")
"""What becomes of turns with `correct` false: the conversation ends before the first; they stay and train nothing; they
train as the others.
"""
COUNTS = (
    "rows",
    "dialogues",
    "failed turns",
    "thoughts",
    "duplicates",
    "without a turn to train on",
    "kept",
)
"""What `Merged.counts` counts; thoughts are those of turns that train."""
Digest = bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """One row, as the first pass remembers it.

    Attributes:
        offset: where its line begins in the file, in bytes.
        line: the line's number.
        count: messages in its context.
        context: hash of these messages.
        answer: hash of its answer.
        correct: whether the turn is marked as correct.
        thinks: whether its answer has a thought.
    """

    offset: int
    line: int
    count: int
    context: Digest
    answer: Digest
    correct: bool
    thinks: bool


@dataclass
class _Thread:
    """One conversation of a dialogue.

    Attributes:
        messages: all of it.
        hashes: `hashes[n]` is of the first n messages.
        turns: {index of an assistant's message that had a row: whether it is marked as correct}.
        thoughts: {index of such a message: offset and line of a row that has its thought}.
    """

    messages: list[Message]
    hashes: list[Digest]
    turns: dict[int, bool] = field(default_factory=dict)
    thoughts: dict[int, tuple[int, int]] = field(default_factory=dict)

    def has(self, place: _Place) -> bool:
        """Whether a row's context and answer are of this conversation."""
        n = place.count
        return n < len(self.messages) and self.hashes[n] == place.context and _hash(self.messages[n]) == place.answer


@dataclass
class Merged:
    """What became of a file; filled while `rows` is read.

    Attributes:
        counts: {what: how many}.
        size_of_rows: of all rows, as they are trained on one by one, thoughts aside; in characters, or as `measure`
            counts.
        size_merged: of the conversations.
    """

    counts: dict[str, int]
    size_of_rows: int = 0
    size_merged: int = 0

    def saving(self, unit: str) -> str:
        """In a line, how much less there is to read."""
        if not self.size_merged:
            return "nothing was kept"
        share = 1 - self.size_merged / self.size_of_rows
        return (
            f"{self.size_of_rows:,} {unit} row by row, {self.size_merged:,} as conversations: {share:.0%} less, a "
            f"factor of {self.size_of_rows / self.size_merged:.1f}"
        )


def merge(
    path: Path, *, failed: Failed = "mask", domain: str | None = None, measure: Callable[[str], int] = len
) -> tuple[Iterator[Row], Merged]:
    """The conversations of a file, read as they are asked for, and what became of its rows.

    Args:
        failed: what becomes of turns that are marked as failed (`FAILED`).
        domain: of rows that do not say it.
        measure: size of a text, for the saving: its characters, or its tokens.

    Raises:
        ConfigError: a row that is none of this format; names the line.
    """
    merged = Merged(counts=dict.fromkeys(COUNTS, 0))
    dialogues: dict[tuple[str, str], list[_Place]] = {}
    offset = 0
    for line, (size, row) in enumerate(areal_rows.lines(path), 1):
        where = f"{path}, line {line}"
        key, place = _placed(row, offset, line, domain, where)
        dialogues.setdefault(key, []).append(place)
        merged.counts["rows"] += 1
        merged.counts["failed turns"] += not place.correct
        offset += size
    merged.counts["dialogues"] = len(dialogues)
    return _conversations(path, dialogues, failed, measure, merged), merged


def _placed(
    row: dict[str, Any], offset: int, line: int, domain: str | None, where: str
) -> tuple[tuple[str, str], _Place]:
    """((domain, dialogue), where the row lies and what is in it)."""
    metadata = row.get("metadata")
    if not isinstance(metadata, dict):
        raise ConfigError(f"{where}: no metadata in it; {files.ANOTHER}")
    dialogue, correct = metadata.get("source_dialog_id"), metadata.get("correct")
    if not isinstance(dialogue, str | int) or correct not in (True, False, 0, 1):
        raise ConfigError(f"{where}: metadata has no source_dialog_id, or no correct of true or false; {files.ANOTHER}")
    messages = areal_rows.messages_of(row, where)
    answer = areal_rows.answer_of(row, where)
    place = _Place(
        offset=offset,
        line=line,
        count=len(messages),
        context=_chain(messages)[-1],
        answer=_hash(answer),
        correct=bool(correct),
        thinks=bool(areal_rows.thought_of(row)),
    )
    return (areal_rows.domain_of(metadata, str(dialogue), domain, where), str(dialogue)), place


def _hash(message: Message, before: Digest = b"") -> Digest:
    """Of a message behind others, by what a template renders of it; arguments count by value."""
    calls = [[c["function"]["name"], _value(c["function"]["arguments"])] for c in message.get("tool_calls", ())]
    text = json.dumps([message["role"], message["content"].strip(), calls], sort_keys=True)
    return hashlib.blake2b(before + text.encode(), digest_size=16).digest()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _chain(messages: Sequence[Message]) -> list[Digest]:
    """Hashes of the first 0, 1, … messages."""
    hashes = [b""]
    for message in messages:
        hashes.append(_hash(message, hashes[-1]))
    return hashes


def _conversations(
    path: Path,
    dialogues: Mapping[tuple[str, str], list[_Place]],
    failed: Failed,
    measure: Callable[[str], int],
    merged: Merged,
) -> Iterator[Row]:
    seen: set[Digest] = set()
    with path.open("rb") as file:
        for (domain, dialogue), places in dialogues.items():
            for thread in _threads(file, path, places, measure, merged):
                size = len(thread.messages)
                if failed == "drop":
                    size = min((n for n, correct in thread.turns.items() if not correct), default=size)
                trained = {n for n, correct in thread.turns.items() if n < size and (correct or failed == "keep")}
                if not trained:
                    merged.counts["without a turn to train on"] += 1
                    continue
                messages = thread.messages[: max(trained) + 1]  # nothing trains on what follows
                key = hashlib.blake2b(thread.hashes[len(messages)] + repr(sorted(trained)).encode()).digest()
                if key in seen:
                    merged.counts["duplicates"] += 1
                    continue
                seen.add(key)
                merged.counts["kept"] += 1
                merged.size_merged += sum(measure(_text(m)) for m in messages)
                for n in trained & thread.thoughts.keys():
                    merged.counts["thoughts"] += 1
                    offset, line = thread.thoughts[n]
                    file.seek(offset)
                    thought = areal_rows.thought_of(areal_rows.parsed(file.readline(), f"{path}, line {line}"))
                    messages[n] = {**messages[n], "reasoning_content": thought}
                yield _row(messages, trained, RowMetadata(domain=domain, task_id=dialogue, reward=None))


def _threads(
    file: BinaryIO, path: Path, places: Sequence[_Place], measure: Callable[[str], int], merged: Merged
) -> list[_Thread]:
    """The conversations of one dialogue, from the longest on."""
    threads: list[_Thread] = []
    sizes: list[list[int]] = []  # of each thread: sizes of its first 0, 1, … messages
    for place in sorted(places, key=lambda p: (-p.count, p.line)):
        number = next((n for n, thread in enumerate(threads) if thread.has(place)), None)
        if number is None:
            number = len(threads)
            threads.append(_read(file, path, place))
            sums = [0]
            for message in threads[-1].messages:
                sums.append(sums[-1] + measure(_text(message)))
            sizes.append(sums)
        turns = threads[number].turns
        turns[place.count] = turns.get(place.count, True) and place.correct
        if place.thinks:
            threads[number].thoughts.setdefault(place.count, (place.offset, place.line))
        merged.size_of_rows += sizes[number][place.count + 1]
    return threads


def _read(file: BinaryIO, path: Path, place: _Place) -> _Thread:
    where = f"{path}, line {place.line}"
    file.seek(place.offset)
    row = areal_rows.parsed(file.readline(), where)
    messages = [*areal_rows.messages_of(row, where), areal_rows.answer_of(row, where)]
    return _Thread(messages, _chain(messages))


def _text(message: Message) -> str:
    """What there is to read of a message, without the template's own words."""
    calls = [call["function"]["name"] + call["function"]["arguments"] for call in message.get("tool_calls", ())]
    return "".join([message["content"], *calls])


def _row(messages: Sequence[Message], trained: set[int], metadata: RowMetadata) -> Row:
    marked = [
        {**message, "step_loss_mask": int(n in trained)} if message["role"] == "assistant" else message
        for n, message in enumerate(messages)
    ]
    return Row(messages=traces.row_messages(marked), tools="[]", metadata=metadata)
