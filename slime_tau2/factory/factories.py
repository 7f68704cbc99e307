"""The factories that there are, by domain."""

from __future__ import annotations

from slime_tau2.errors import ConfigError
from slime_tau2.factory.case import Factory

DOMAINS = ("airline", "retail", "telecom", "helpdesk")
"""The domains whose factory is bundled."""

_registered: dict[str, Factory] = {}


def register(factory: Factory) -> None:
    """Make a factory of your own known under its domain; it goes before a bundled one."""
    _registered[factory.domain] = factory


def of(domain: str) -> Factory:
    """The factory of a domain.

    Raises:
        ConfigError: there is none.
    """
    if domain in _registered:
        return _registered[domain]
    if domain == "airline":
        from slime_tau2.factory.airline import AIRLINE

        return AIRLINE
    if domain == "retail":
        from slime_tau2.factory.retail import RETAIL

        return RETAIL
    if domain == "telecom":
        from slime_tau2.factory.telecom import TELECOM

        return TELECOM
    if domain == "helpdesk":
        from slime_tau2.factory.helpdesk import HELPDESK

        return HELPDESK
    raise ConfigError(f"no task factory for {domain!r}; there is one for: {', '.join([*DOMAINS, *_registered])}")
