"""SFT rows from outside and from attempts: no test task among them, no repetition, nothing that trains nothing or does
not fit.

`import_rows` reads published sets (JSONL or Parquet; rows with `messages`, or with a conversation in `prompt`),
`from_attempts` what `slime-tau2 eval` recorded, `check` measures rows under a tokenizer. What is held out (`held_out`)
is recognised by (domain, task id).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.config import Tau2Config
from slime_tau2.data import records, rejection, traces
from slime_tau2.data.held_out import COUNTED, NAMES, held_out
from slime_tau2.data.traces import Row, RowMetadata, TokenRow
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.episode.splits import TRAIN
from slime_tau2.errors import ConfigError, TemplateError
from slime_tau2.record import AttemptRecord
from slime_tau2.tokenizer import Tokenizer


def from_attempts(
    paths: list[Path], min_partial: float, best: int | None, config: Tau2Config | None = None, split: str = TRAIN
) -> tuple[list[Row], dict[str, int]]:
    """SFT rows selected from attempts.jsonl files, and what became of all attempts.

    Args:
        min_partial: least partial score of a task's best attempt where none succeeded.
        best: at most so many successes per task; None keeps all.
        config: names the protocol and the prompt of the rows; those of the attempts may have been others.
        split: `train+val` takes val tasks too; so in the other two functions.
    """
    config = config or Tau2Config()
    protocol = PROTOCOLS[config.protocol]
    attempts = [record for path in paths for record in records.read(path)]
    domains = sorted({record["domain"] for record in attempts})
    _check_versions(attempts)
    held = {
        (domain, task_id): name
        for domain in domains
        for task_id, name in held_out(domain, split, config.unverified).items()
    }
    chosen = rejection.select(attempts, min_partial, best, held)
    loaded = {domain: worlds.load(domain, retrieval=config.retrieval) for domain in domains}
    tools = {domain: protocol.template_tools(world.tool_schemas) for domain, world in loaded.items()}

    @cache
    def prompt(domain: str, policy: str) -> str:
        return protocol.system_prompt(policy, loaded[domain].tool_schemas, config.agent_prompt)

    rows: list[Row] = []
    for record in chosen.records:
        domain = record["domain"]
        system_prompt = prompt(domain, loaded[domain].policy_for(record["task_id"]))
        row = traces.record_to_row(record, system_prompt, tools[domain], protocol)
        if row is not None:
            rows.append(row)
    return rows, chosen.counts


def _check_versions(attempts: Iterable[AttemptRecord]) -> None:
    """Raises ConfigError: attempts at another version of a task set than the one that is open."""
    for domain, sha256 in {(r["domain"], r["task_set_sha256"]) for r in attempts if "task_set_sha256" in r}:
        found = worlds.task_set(domain)
        if found is None:
            raise ConfigError(f"attempts at tasks of the task set {domain}, which is not open: name it with --task-set")
        if found.manifest.sha256 != sha256:
            raise ConfigError(
                f"attempts at another version of the task set {domain} than {found.directory} (sha256 {sha256}, not "
                f"{found.manifest.sha256}); name that version with --task-set, or sample again"
            )


def import_rows(
    path: Path,
    domain: str | None = None,
    *,
    unchecked: bool = False,
    split: str = TRAIN,
    unverified: bool = False,
) -> tuple[list[Row], dict[str, int]]:
    """Rows of a published set in our form, and what became of all.

    Args:
        domain: the domain of rows that name none.
        unchecked: take rows without a domain and a task id, which cannot be checked against the splits.
        unverified: take rows of a task set's tasks that did not pass verification; so in `check`.

    Raises:
        ConfigError: no conversation in a row, or no ids and not `unchecked`; names the row.
    """
    counts = dict.fromkeys(("rows", *COUNTED, "duplicates", "without an agent turn", "unchecked", "kept"), 0)
    out: list[Row] = []
    seen: set[str] = set()
    for number, raw in enumerate(_read(path), 1):
        where = f"{path}, row {number}"
        counts["rows"] += 1
        metadata = _metadata(raw, domain, where)
        named, task_id = metadata["domain"], metadata["task_id"]
        if named is not None and task_id is not None:
            held = held_out(named, split, unverified).get(task_id)
            if held is not None:
                counts[NAMES[held]] = counts.get(NAMES[held], 0) + 1
                continue
        elif unchecked:
            counts["unchecked"] += 1
        else:
            raise ConfigError(
                f"{where}: no domain and task_id in it or in its metadata, so that it cannot be checked against the "
                "splits; name the domain with --domain, or take the rows as they are with --unchecked"
            )
        row = _row(raw, metadata, where)
        if not any(m["role"] == "assistant" and m["step_loss_mask"] for m in row["messages"]):
            counts["without an agent turn"] += 1
            continue
        key = rejection.conversation_key(row)
        if key in seen:
            counts["duplicates"] += 1
            continue
        seen.add(key)
        out.append(row)
    counts["kept"] = len(out)
    return out, counts


def _metadata(raw: dict[str, Any], domain: str | None, where: str) -> RowMetadata:
    """Domain, task and reward of a row: from its metadata, else from beside it; `domain` where it names none."""
    known = {key: raw[key] for key in ("domain", "task_id", "reward") if raw.get(key) is not None}
    parsed = _parsed(raw.get("metadata"))
    if isinstance(parsed, dict):
        known |= parsed
    named, task_id = known.get("domain") or domain, known.get("task_id")
    if not isinstance(named, str | None) or not isinstance(task_id, str | int | None):
        raise ConfigError(f"{where}: domain {named!r} and task_id {task_id!r} are no names; {files.ANOTHER}")
    return RowMetadata(domain=named, task_id=None if task_id is None else str(task_id), reward=known.get("reward"))


def _row(raw: dict[str, Any], metadata: RowMetadata, where: str) -> Row:
    messages = _parsed(raw.get("messages")) or _parsed(raw.get("prompt"))
    if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
        raise ConfigError(
            f"{where}: neither `messages` nor `prompt` holds a list of chat messages; columns: {', '.join(raw)}"
        )
    traces.check_messages(messages, where)
    tools = _parsed(raw.get("tools")) or []
    if not isinstance(tools, list):
        raise ConfigError(f"{where}: tools is {type(tools).__name__}, not a list of tool schemas")
    return Row(messages=traces.row_messages(messages), tools=json.dumps(tools, ensure_ascii=False), metadata=metadata)


def _parsed(value: Any) -> Any:
    """A value that may be JSON in a string."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise ConfigError(f"{path} is Parquet: pip install pyarrow, or convert it to JSONL") from error
        try:
            yield from parquet.read_table(path).to_pylist()
        except ValueError as error:  # pyarrow's errors are
            raise ConfigError(f"{path} is no Parquet file: {error}") from error
        return
    yield from (row for _, row in files.read_jsonl(path))


@dataclass(kw_only=True)
class Checked:
    """What a file of rows holds under a tokenizer. Lengths are in tokens.

    Attributes:
        good: the rows that can be trained on.
        counts: {what became of rows: how many}.
        longest: the longest sequence of all rows that train something.
        sequences: of the good rows together: one a row, or its segments where the template rewrites history.
        tokens: of these.
        trained: those of them that the loss counts.
        turns: turns of the assistant's that train.
        thoughts: those of them whose thought is in their sequence.
        left_out: thoughts of such turns that the template does not show.
        thought_tokens: of the thoughts in the sequences.
    """

    good: list[Row] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    longest: int = 0
    sequences: int = 0
    tokens: int = 0
    trained: int = 0
    turns: int = 0
    thoughts: int = 0
    left_out: int = 0
    thought_tokens: int = 0

    def take(self, row: Row, sequences: Sequence[TokenRow]) -> None:
        """Count a good row."""
        given = sum("reasoning_content" in m and m.get("step_loss_mask", 1) != 0 for m in row["messages"])
        found = [length for one in sequences for length in one.thoughts]
        shown = sum(length > 0 for length in found)
        self.good.append(row)
        self.sequences += len(sequences)
        self.tokens += sum(len(one.tokens) for one in sequences)
        self.trained += sum(sum(one.loss_mask) for one in sequences)
        self.turns += len(found)
        self.thoughts += shown
        self.left_out += max(given - shown, 0)
        self.thought_tokens += sum(found)


def check(
    path: Path,
    tokenizer: Tokenizer,
    max_tokens: int,
    config: Tau2Config | None = None,
    *,
    split: str = TRAIN,
    unverified: bool = False,
) -> Checked:
    """Measure rows as they are trained on: nothing there filters a row that is too long, or that trains no token.

    Args:
        config: says whether the model thinks, and whether thoughts train.
    """
    config = config or Tau2Config()
    out = Checked(counts=dict.fromkeys(("rows", *COUNTED, "without a trained token", "too long"), 0))
    chats: dict[str, ChatRenderer] = {}
    for row in traces.read_rows(path):
        out.counts["rows"] += 1
        metadata = row.get("metadata") or {}
        domain = metadata.get("domain")
        held = None if domain is None else held_out(domain, split, unverified).get(str(metadata.get("task_id")))
        if held is not None:
            out.counts[NAMES[held]] = out.counts.get(NAMES[held], 0) + 1
            continue
        tools = row.get("tools") or "[]"
        if tools not in chats:
            chats[tools] = ChatRenderer(tokenizer, json.loads(tools), config.thinking)
        try:
            sequences = traces.tokenise(row, chats[tools], train_thinking=config.train_thinking)
        except TemplateError as error:
            raise TemplateError(f"{path}, row {out.counts['rows']}: {error}") from error
        except ConfigError:
            sequences = []
        if not sequences:
            out.counts["without a trained token"] += 1
            continue
        longest = max(len(one.tokens) for one in sequences)
        out.longest = max(out.longest, longest)
        if longest > max_tokens:
            out.counts["too long"] += 1
            continue
        out.take(row, sequences)
    return out
