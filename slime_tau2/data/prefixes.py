"""Where to begin a task that the policy never solves: within a conversation in which it was solved (arXiv 2605.05112).

A prefix is what agent and user said up to, and without, one of the agent's turns; the tools' answers come from playing
it again.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

from slime_tau2.data import records
from slime_tau2.errors import ConfigError
from slime_tau2.types import is_success


def load(path: Path | None, tasks: Collection[str]) -> dict[str, list[list[dict[str, Any]]]]:
    """{task: conversations that solved it}, from records of attempts; other tasks, among them all that are held out,
    are left out.

    Raises:
        ConfigError: no such file, a line that is not JSON, or no success on any of the tasks.
    """
    if path is None:
        return {}
    out: dict[str, list[list[dict[str, Any]]]] = {}
    for record in records.read(path):
        key, said = f"{record['domain']}/{record['task_id']}", spoken(record["messages"])
        if key in tasks and is_success(record["reward"]) and len(_turns(said)) > 1:
            out.setdefault(key, []).append(said)
    if not out:
        raise ConfigError(
            f"tau2_prefix_starts = {path}: it holds no success on the {len(tasks)} tasks that are trained on"
        )
    return out


def spoken(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What agent and user said, from the user's first words on."""
    said = [m for m in messages if m["role"] != "tool"]
    first = next((n for n, m in enumerate(said) if m["role"] == "user"), len(said))
    return said[first:]


def cut(said: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """A conversation up to one of the agent's turns, neither its first nor one after its last."""
    return said[: rng.choice(_turns(said)[1:])]


def _turns(said: list[dict[str, Any]]) -> list[int]:
    return [n for n, m in enumerate(said) if m["role"] == "assistant"]
