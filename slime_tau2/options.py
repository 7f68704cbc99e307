"""Reading options by name, whatever they configure: KEY=VALUE on a command line, and the nearest known name of one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from slime_tau2.errors import ConfigError


def unknown(key: str, known: Iterable[str], prefix: str = "") -> str:
    """What to say of a key that is none: the nearest known one, or all of them, each with `prefix` before it."""
    names = list(known)
    near = difflib.get_close_matches(key, names, 1)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(prefix + name for name in names)}"


def parse_assignments(assignments: list[str], known: Mapping[str, Any], option: str) -> dict[str, Any]:
    """["key=value", …] -> {key: value}, values read as YAML.

    Raises:
        ConfigError: no `=`, or a key that is not in `known`; names the nearest.
    """
    out: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{option} {assignment}: expected KEY=VALUE")
        if key not in known:
            raise ConfigError(f"{option} {assignment}: unknown key {key}; {unknown(key, known)}")
        out[key] = yaml.safe_load(value)
    return out
