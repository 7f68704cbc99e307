"""The bundled domain; importing it registers it with tau2."""

from slime_tau2.domains.helpdesk.environment import NAME, register

register()

__all__ = ["NAME"]
