"""Tasks -> the JSONL that slime's `--prompt-data` reads. Rows hold ids only; workers load the tasks themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode import worlds


def rows(domains: list[str], split: str, repeat: int = 1) -> Iterator[dict[str, Any]]:
    """`{"prompt": "retail/3", "metadata": {"domain": "retail", "task_id": "3"}}` for each task of a split."""
    for _ in range(repeat):
        for domain in domains:
            for task_id in worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL).task_ids(split):
                yield {"prompt": f"{domain}/{task_id}", "metadata": {"domain": domain, "task_id": task_id}}
