"""Whether the keys of the servers that a run asks are there: found out before the first conversation, not after it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from slime_tau2 import bench, traits
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials
from slime_tau2.episode.harness import eval_user_server
from slime_tau2.errors import ConfigError


def check(config: Tau2Config, tasks: Mapping[str, Sequence[bench.Task]]) -> None:
    """See that the keys of the user model and of the judge are set, where these tasks ask them.

    Args:
        tasks: {domain: its tasks}.

    Raises:
        ConfigError: one is not; names its variable, the server and the way without it.
    """
    _user(config)
    for domain, part in tasks.items():
        judged = [task.id for task in part if bench.judge_request(task, []) is not None]
        variable = _missing(config, config.judge_base_url, config.judge_key_env) if judged else None
        if variable is not None:
            which = f" ({', '.join(judged)})" if len(judged) <= 3 else ""
            if traits.of(domain).without_judge:
                without = ", or score without a judge: --set retail_basis=communicate"
            else:
                without = ", or leave them out with --task"
            raise ConfigError(
                f"{len(judged)} of these {len(part)} tasks{which} are judged by {config.judge_model}, and "
                f"{variable} is not set; set it, or name a server with --set judge_base_url=… --set "
                f"judge_model=…{without}"
            )


def _missing(config: Tau2Config, url: str, named: str | None) -> str | None:
    """The variable that holds a server's key and is not set; None where it is, or where a token takes its place."""
    variable, host = credentials.variable(url, named), config.access.named(url)
    has_token = host is not None and host.token is not None
    return None if variable is None or os.environ.get(variable) or has_token else variable


def _user(config: Tau2Config) -> None:
    if config.user != "llm":
        return
    url, model, named = eval_user_server(config)
    variable = _missing(config, url, named)
    if variable is not None:
        option = "user_base_url" if config.eval_user_model is None else "eval_user_base_url"
        raise ConfigError(
            f"{variable} is not set, and the user is {model} at {url}; set it, or name another server with --set "
            f"{option}=… --set {option.replace('base_url', 'model')}=…"
        )
