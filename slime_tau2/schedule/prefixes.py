"""Where to begin a task that the policy never solves: within a conversation in which it was solved (arXiv 2605.05112).

A prefix is what agent and user said up to, and without, one of the agent's turns; the tools' answers come from playing
it again.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from slime_tau2.data import records
from slime_tau2.errors import ConfigError
from slime_tau2.record import MessageRecord
from slime_tau2.types import is_success


def load(
    path: Path | None, tasks: Collection[str], versions: Mapping[str, str] | None = None
) -> dict[str, list[list[MessageRecord]]]:
    """{task name: conversations that solved it}, from a file of records (`attempts.jsonl`).

    Other tasks, among them all that are held out, are left out. Without a file there are none.

    Args:
        versions: {task set: its sha256}; records of other versions are left out.

    Raises:
        ConfigError: no such file, a line that is no record, or no success on any of the tasks.
    """
    if path is None:
        return {}
    successes: dict[str, list[list[MessageRecord]]] = {}
    for record in records.read(path):
        sha256 = record.get("task_set_sha256")
        if sha256 is not None and sha256 != (versions or {}).get(record["domain"]):
            continue
        name = f"{record['domain']}/{record['task_id']}"
        conversation = spoken(record["messages"])
        if name in tasks and is_success(record["reward"]) and len(_agent_turns(conversation)) > 1:
            successes.setdefault(name, []).append(conversation)
    if not successes:
        raise ConfigError(
            f"tau2_prefix_starts = {path}: it holds no success on the {len(tasks)} tasks that are trained on"
        )
    return successes


def spoken(messages: Sequence[MessageRecord]) -> list[MessageRecord]:
    """What agent and user said, from the user's first words on."""
    conversation = [m for m in messages if m["role"] != "tool"]
    first = next((n for n, m in enumerate(conversation) if m["role"] == "user"), len(conversation))
    return conversation[first:]


def cut(conversation: Sequence[MessageRecord], rng: random.Random) -> list[MessageRecord]:
    """A conversation up to one of the agent's turns, which is not the first of them."""
    return list(conversation[: rng.choice(_agent_turns(conversation)[1:])])


def _agent_turns(conversation: Sequence[MessageRecord]) -> list[int]:
    return [n for n, m in enumerate(conversation) if m["role"] == "assistant"]
