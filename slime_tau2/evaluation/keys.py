"""Fail before the first conversation, not after it, where a key that it takes is absent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials
from slime_tau2.errors import ConfigError


def check(config: Tau2Config, tasks: Mapping[str, Sequence[Any]]) -> None:
    """Args: tasks: {domain: its tasks}."""
    for domain, part in tasks.items():
        judged = [task.id for task in part if bench.judge_request(task, []) is not None]
        variable = credentials.variable(config.judge_base_url, config.judge_key_env) if judged else None
        if variable is not None and not os.environ.get(variable):
            which = f" ({', '.join(judged)})" if len(judged) <= 3 else ""
            drops = domain in ("retail", bench.KNOWLEDGE)
            without = ", or score without a judge: --set retail_basis=communicate" if drops else ", or leave them out with --task"
            raise ConfigError(
                f"{len(judged)} of these {len(part)} tasks{which} are judged by {config.judge_model}, and {variable} is not set; "
                f"set it, or name a server with --set judge_base_url=… judge_model=…{without}"
            )
