"""The router that slime starts: which of its policies keeps a conversation on one engine.

slime's fork has `consistent_hashing`. PyPI's sglang-router 0.3.2, which some of slime's images install, has `manual`
instead: sticky by the same header (X-SMG-Routing-Key), but its table goes with the router. A policy that the installed
router does not know ends slime's `parse_args`. `python -m slime_tau2.doctor.router` prints the best one.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from slime_tau2.doctor.findings import Finding, fail, ok, warn

STICKY = ("consistent_hashing", "manual", "cache_aware")
"""Best first. The last one knows prefixes, not conversations."""


def policies() -> tuple[str, ...] | None:
    """The choices of the installed router's own parser; None without a router, or with one that has no such parser.

    The module that slime takes it from, `launch_router`, imports all of SGLang; `router_args` has the same class and
    nothing else.
    """
    try:
        try:
            from sglang_router.router_args import RouterArgs
        except ImportError:
            from sglang_router.launch_router import RouterArgs
        parser: Any = argparse.ArgumentParser(allow_abbrev=False)
        RouterArgs.add_cli_args(parser, use_router_prefix=True, exclude_host_port=True)
        return tuple(parser._option_string_actions["--router-policy"].choices or ()) or None
    except Exception:  # no router, or another than any that we know
        return None


def best(choices: tuple[str, ...] | None) -> str:
    """What to ask for: the first of STICKY that is among the choices, and the fork's where they are not known."""
    return next((p for p in STICKY if p in (choices or ())), STICKY[0])


def check(wanted: str) -> Finding:
    """Whether the installed router knows the policy that a run asks for."""
    what = "router policy"
    choices = policies()
    if choices is None:
        text = f"no sglang_router here whose choices could be compared with {wanted}"
        return warn(what, text, "slime's container has one")
    fix = f"--set ROUTER_POLICY={best(choices)}"
    if wanted not in choices:
        return fail(what, f"{wanted} is none of the installed router's ({', '.join(choices)})", fix)
    if wanted not in STICKY[:2]:
        return warn(what, f"{wanted} does not keep a conversation on one engine", fix)
    return ok(what, f"{wanted}, of {', '.join(choices)}")


if __name__ == "__main__":
    print(best(policies()))
    sys.exit(0)
