"""SFT rows from outside and from attempts: no test task among them, no repetition, nothing that trains nothing or does
not fit.

`import_rows` reads published sets (JSONL or Parquet; rows with `messages`, or with a conversation in `prompt`),
`from_attempts` what `slime-tau2 eval` recorded, `check` measures rows under a tokenizer. What is held out (`held_out`)
is recognised by (domain, task id).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from slime_tau2 import files
from slime_tau2.config import Tau2Config
from slime_tau2.data import records, rejection, traces
from slime_tau2.data.held_out import NAMES, held_out
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.episode.splits import TRAIN
from slime_tau2.errors import ConfigError


def from_attempts(
    paths: list[Path], min_partial: float, best: int | None, config: Tau2Config | None = None, split: str = TRAIN
) -> tuple[list[dict], dict[str, int]]:
    """SFT rows selected from attempts.jsonl files, and what became of all attempts.

    Args:
        config: names the protocol and the prompt of the rows; those of the attempts may have been others.
        split: `train+val` takes val tasks too; so in the other two functions.
    """
    config = config or Tau2Config()
    attempts = [r for path in paths for r in records.read(path)]
    protocol, domains = PROTOCOLS[config.protocol], sorted({r["domain"] for r in attempts})
    chosen = rejection.select(
        attempts, min_partial, best, {(d, t): name for d in domains for t, name in held_out(d, split).items()}
    )
    found = {d: worlds.load(d, retrieval=config.retrieval) for d in domains}
    tools = {d: protocol.template_tools(w.tool_schemas) for d, w in found.items()}

    @cache
    def prompt(domain: str, policy: str) -> str:
        return protocol.system_prompt(policy, found[domain].tool_schemas, config.agent_prompt)

    def row(record: dict) -> dict | None:
        domain = record["domain"]
        return traces.record_to_row(
            record, prompt(domain, found[domain].policy_for(record["task_id"])), tools[domain], protocol
        )

    made = map(row, chosen.records)
    return [r for r in made if r is not None], chosen.counts


def import_rows(
    path: Path, domain: str | None = None, unchecked: bool = False, split: str = TRAIN
) -> tuple[list[dict], dict[str, int]]:
    """Rows of a published set in our form, and what became of all.

    Args:
        domain: of rows that name none.
        unchecked: take rows without a domain and a task id, which cannot be checked against the splits.

    Raises:
        ConfigError: no conversation in a row, or no ids and not `unchecked`; names the row.
    """
    counts = dict.fromkeys(("rows", *NAMES.values(), "duplicates", "without an agent turn", "unchecked", "kept"), 0)
    out: list[dict] = []
    seen: set[str] = set()
    for number, raw in enumerate(_read(path), 1):
        counts["rows"] += 1
        metadata = {
            **{k: raw[k] for k in ("domain", "task_id", "reward") if raw.get(k) is not None},
            **(parsed if isinstance(parsed := _parsed(raw.get("metadata")), dict) else {}),
        }
        own, task_id = metadata.get("domain") or domain, metadata.get("task_id")
        if not isinstance(own, str | None) or not isinstance(task_id, str | int | None):
            raise ConfigError(
                f"{path}, row {number}: domain {own!r} and task_id {task_id!r} are no names; {files.ANOTHER}"
            )
        if own is None or task_id is None:
            if not unchecked:
                raise ConfigError(
                    f"{path}, row {number}: no domain and task_id in it or in its metadata, so that it cannot be "
                    "checked against the "
                    "splits; name the domain with --domain, or take the rows as they are with --unchecked"
                )
            counts["unchecked"] += 1
        elif (held := held_out(own, split).get(str(task_id))) is not None:
            counts[NAMES[held]] += 1
            continue
        row = _row(
            path,
            number,
            raw,
            {"domain": own, "task_id": None if task_id is None else str(task_id), "reward": metadata.get("reward")},
        )
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


def _row(path: Path, number: int, raw: dict, metadata: dict) -> dict:
    messages = _parsed(raw.get("messages")) or _parsed(raw.get("prompt"))
    if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
        raise ConfigError(
            f"{path}, row {number}: neither `messages` nor `prompt` holds a list of chat messages; columns: "
            f"{', '.join(raw)}"
        )
    traces.check_messages(messages, f"{path}, row {number}")
    tools = _parsed(raw.get("tools")) or []
    if not isinstance(tools, list):
        raise ConfigError(f"{path}, row {number}: tools is {type(tools).__name__}, not a list of tool schemas")
    return {
        "messages": traces.row_messages(messages),
        "tools": json.dumps(tools, ensure_ascii=False),
        "metadata": metadata,
    }


def _parsed(value: Any) -> Any:
    """A value that may be JSON in a string."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _read(path: Path) -> Iterator[dict]:
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


@dataclass
class Checked:
    """What a file of rows holds under a tokenizer; `good` are the rows that can be trained on. Lengths are tokens."""

    good: list[dict] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    longest: int = 0
    tokens: int = 0
    trained: int = 0


def check(path: Path, tokenizer: Any, max_tokens: int, split: str = TRAIN) -> Checked:
    """Measure rows as slime will train on them: nothing there filters a row that is too long, or that
    trains no token.
    """
    out = Checked(counts=dict.fromkeys(("rows", *NAMES.values(), "without a trained token", "too long"), 0))
    chats: dict[str, ChatRenderer] = {}
    for row in traces.read_rows(path):
        out.counts["rows"] += 1
        metadata = row.get("metadata") or {}
        domain = metadata.get("domain")
        held = None if domain is None else held_out(domain, split).get(str(metadata.get("task_id")))
        if held is not None:
            out.counts[NAMES[held]] += 1
            continue
        tools = row.get("tools") or "[]"
        if tools not in chats:
            chats[tools] = ChatRenderer(tokenizer, json.loads(tools))
        try:
            tokenised = traces.tokenise(row, chats[tools])
        except ConfigError:
            tokenised = None
        if tokenised is None or not sum(tokenised.loss_mask):
            out.counts["without a trained token"] += 1
            continue
        out.longest = max(out.longest, len(tokenised.tokens))
        if len(tokenised.tokens) > max_tokens:
            out.counts["too long"] += 1
            continue
        out.tokens, out.trained = out.tokens + len(tokenised.tokens), out.trained + sum(tokenised.loss_mask)
        out.good.append(row)
    return out
