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

Successes = dict[str, list[list[MessageRecord]]]
"""{task name: conversations that solved it}"""


def load(path: Path | None, tasks: Collection[str], versions: Mapping[str, str] | None = None) -> Successes:
    """The successes of a file of records (`attempts.jsonl`). Without a file there are none.

    Raises:
        ConfigError: as `read`; or there is no success on any of the tasks.
    """
    if path is None:
        return {}
    successes, others = read(path, tasks, versions)
    if not successes:
        left_out = f"; {others} of its records are of another version of their task set" if others else ""
        raise ConfigError(
            f"tau2_prefix_starts = {path}: it holds no success on the {len(tasks)} tasks that are trained on{left_out}"
        )
    return successes


def read(path: Path, tasks: Collection[str], versions: Mapping[str, str] | None = None) -> tuple[Successes, int]:
    """(successes, records that are of another version of their task set) of a file.

    Other tasks, among them all that are held out, are left out, and so are other versions.

    Args:
        versions: {task set: its sha256}.

    Raises:
        ConfigError: no such file, or a line that is no record.
    """
    successes: Successes = {}
    others = 0
    for record in records.read(path):
        sha256 = record.get("task_set_sha256")
        if sha256 is not None and sha256 != (versions or {}).get(record["domain"]):
            others += 1
            continue
        name = f"{record['domain']}/{record['task_id']}"
        conversation = spoken(record["messages"])
        if name in tasks and is_success(record["reward"]) and len(_agent_turns(conversation)) > 1:
            successes.setdefault(name, []).append(conversation)
    return successes, others


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
