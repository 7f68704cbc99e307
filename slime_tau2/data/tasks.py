"""Tasks -> the JSONL that slime's `--prompt-data` reads. Rows hold ids only; workers load the tasks themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slime_tau2.episode import worlds
from slime_tau2.types import TaskRef


def rows(domains: list[str], split: str, repeat: int = 1) -> Iterator[dict[str, Any]]:
    """`{"prompt": "retail/3", "metadata": {"domain": "retail", "task_id": "3"}}` for each task of a split.

    Args:
        domains: domains and task sets; a row has a set's name.
    """
    tasks = [TaskRef(worlds.name_of(d), task_id) for d in domains for task_id in worlds.split(d, split)]
    for _ in range(repeat):
        for task in tasks:
            yield {"prompt": str(task), "metadata": {"domain": task.domain, "task_id": task.task_id}}
