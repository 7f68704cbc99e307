"""The factories that there are, by domain."""

from __future__ import annotations

from slime_tau2.errors import ConfigError
from slime_tau2.factory.case import Factory

DOMAINS = ("airline", "retail", "telecom", "helpdesk")
"""The domains whose factory is bundled."""
NAMES = (*DOMAINS, "helpdesk-cases")
"""The bundled factories."""

_registered: dict[str, Factory] = {}


def register(factory: Factory) -> None:
    """Make a factory of your own known under its name; it goes before a bundled one."""
    _registered[factory.name] = factory


def of(name: str) -> Factory:
    """A factory by its name: that of its domain, with its variant if it has one.

    Raises:
        ConfigError: there is none.
    """
    if name in _registered:
        return _registered[name]
    if name == "airline":
        from slime_tau2.factory.airline import AIRLINE

        return AIRLINE
    if name == "retail":
        from slime_tau2.factory.retail import RETAIL

        return RETAIL
    if name == "telecom":
        from slime_tau2.factory.telecom import TELECOM

        return TELECOM
    if name == "helpdesk":
        from slime_tau2.factory.helpdesk import HELPDESK

        return HELPDESK
    if name == "helpdesk-cases":
        from slime_tau2.factory.helpdesk.cases import CASES

        return CASES
    raise ConfigError(f"no task factory for {name!r}; there is one for: {', '.join([*NAMES, *_registered])}")
