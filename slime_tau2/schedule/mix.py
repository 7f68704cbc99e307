"""Shares of domains and task sets among the groups that are drawn (`tau2_domain_weights`)."""

from __future__ import annotations

from collections.abc import Mapping

from slime_tau2.errors import ConfigError


def shares(weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """{domain: its share of the groups}, which sum to 1.

    Args:
        weights: the shares that were asked for; other domains divide the rest by their numbers of tasks.
        sizes: {domain: number of its tasks}, all domains.

    Raises:
        ConfigError: a weight of a domain that is not there, or shares that cannot sum to 1.
    """
    for name in weights:
        if name not in sizes:
            raise ConfigError(
                f"tau2_domain_weights: {name} is none of tau2_domains; there are {', '.join(sizes)}, a task set by its "
                "name"
            )
    rest, others = 1 - sum(weights.values()), [name for name in sizes if name not in weights]
    if not others and rest > 1e-9:
        raise ConfigError(
            f"tau2_domain_weights: the shares sum to {1 - rest:g}, and every domain has one: let them sum to 1, or "
            "leave one out, which gets the rest"
        )
    if others and rest <= 1e-9:
        raise ConfigError(
            f"tau2_domain_weights: the shares sum to 1, and nothing is left for {', '.join(others)}; leave it out of "
            "tau2_domains, or lower the shares"
        )
    count = sum(sizes[name] for name in others)
    return {name: weights[name] if name in weights else rest * sizes[name] / count for name in sizes}


class Mix:
    """Which domain the next group is for: the one that is furthest behind its share.

    After n draws each domain has had its share of n, give or take one or two groups. Nothing is random.

    Attributes:
        drawn: {domain: groups so far}.
    """

    def __init__(self, shares: Mapping[str, float]):
        self.shares = dict(shares)
        self.drawn = dict.fromkeys(shares, 0)

    def next(self) -> str:
        """The domain of the next group, which counts as drawn."""
        total = sum(self.drawn.values()) + 1
        name = max(self.shares, key=lambda domain: self.shares[domain] * total - self.drawn[domain])
        self.drawn[name] += 1
        return name

    def quotas(self, count: int) -> dict[str, int]:
        """How many of the next `count` groups are for each domain; they count as drawn."""
        out = dict.fromkeys(self.shares, 0)
        for _ in range(count):
            out[self.next()] += 1
        return out
