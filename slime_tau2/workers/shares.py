"""What each of N workers may have of the limits that all of them share: the servers are no larger for them."""

from __future__ import annotations

from slime_tau2.config import PREFIX, Tau2Config
from slime_tau2.errors import ConfigError

SHARED = ("policy_concurrency", "user_concurrency")
"""Options that say how much a server takes at a time."""


def of_worker(config: Tau2Config, number: int, count: int) -> Tau2Config:
    """The configuration of worker `number` of `count`: its shares of `SHARED` and of the processes of `official_check`,
    of which each has one at least.

    Raises:
        ConfigError: there is less than one request for each.
    """
    update = {name: _share(name, getattr(config, name), number, count) for name in SHARED}
    if config.official_check:
        update["official_check"] = max(1, _part(config.official_check, number, count))
    return config.model_copy(update=update)


def line(config: Tau2Config, count: int) -> str:
    """What the log says of it.

    Raises:
        ConfigError: as `of_worker`.
    """
    least = of_worker(config, count - 1, count)
    parts = [f"{PREFIX}{name} {getattr(config, name)}, {getattr(least, name)} or more each" for name in SHARED]
    return f"{count} workers share the servers' limits: {'; '.join(parts)}"


def _part(total: int, number: int, count: int) -> int:
    return total // count + (number < total % count)


def _share(name: str, total: int, number: int, count: int) -> int:
    if total < count:
        raise ConfigError(
            f"{PREFIX}{name} = {total}, and {count} workers share it: raise it, or take {total} workers at most"
        )
    return _part(total, number, count)
