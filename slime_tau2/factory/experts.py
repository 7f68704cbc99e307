"""The scripted experts that there are, by domain."""

from __future__ import annotations

from slime_tau2.errors import ConfigError
from slime_tau2.factory.expert import Expert

DOMAINS = ("airline", "retail", "telecom")


def of(domain: str) -> type[Expert]:
    """The expert of a domain.

    Raises:
        ConfigError: there is none.
    """
    if domain == "retail":
        from slime_tau2.factory.retail.speech import RetailExpert

        return RetailExpert
    if domain == "airline":
        from slime_tau2.factory.airline.speech import AirlineExpert

        return AirlineExpert
    if domain == "telecom":
        from slime_tau2.factory.telecom.speech import TelecomExpert

        return TelecomExpert
    raise ConfigError(f"no scripted expert for {domain!r}; there is one for: {', '.join(DOMAINS)}")
