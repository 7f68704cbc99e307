"""What users bring of their own, by import path: domains, user simulators, rewards.

Importing such a module runs it: a domain registers itself so. The first import appends the working directory to
`sys.path`, as `python -m` would have it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from slime_tau2.errors import ConfigError


def named(path: str) -> bool:
    """Whether a value is an import path (`module:name`), not the name of something that we ship."""
    return ":" in path


def load(path: str, option: str) -> Any:
    """What `module:name` names.

    Args:
        option: where the path was given, as a user would look it up: `tau2_user`, `--dynamic-sampling-filter-path`, a
            domain's trait.

    Raises:
        ConfigError: no such module, or nothing of that name in it; begins with `option`.
    """
    module_name, _, name = path.partition(":")
    if not module_name:
        raise ConfigError(f"{option} = {path}: no module before the name")
    module = _module(module_name, option)
    if not name or not hasattr(module, name):
        where = getattr(module, "__file__", module_name)
        raise ConfigError(f"{option} = {path}: {where} has no {name or 'name behind the colon'}")
    return getattr(module, name)


def import_all(modules: Iterable[str]) -> None:
    """Import modules for what importing them does: registering a domain.

    Raises:
        ConfigError: no such module.
    """
    for module in modules:
        if module:  # TAU2_PLUGINS= names none
            _module(module, "tau2_plugins")


def _module(name: str, option: str) -> ModuleType:
    if os.getcwd() not in sys.path:  # a console script starts without
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ConfigError(f"{option}: no module {name}; install it, or put its folder on PYTHONPATH") from error
