"""Reading options by name, whatever they configure: a mapping, variables, KEY=VALUE on a command line; what is wrong is
one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from slime_tau2 import files
from slime_tau2.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def unknown(key: str, known: Iterable[str], prefix: str = "") -> str:
    """What to say of a key that is none: the nearest known one, or all of them, each with `prefix` before it."""
    names = list(known)
    near = difflib.get_close_matches(key, names, 1)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(prefix + name for name in names)}"


Source = tuple[str, Mapping[str, Any]]
"""(its name in an error, {key: value})."""


def build(model: type[Model], sources: Iterable[Source], prefix: str) -> Model:
    """A model of plain keys from several sources, of which the last that has a key wins.

    Raises:
        ConfigError: an unknown key or a bad value; names it, its source and the fix, and never repeats what may be a
            key.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, given in sources:
        for key, value in given.items():
            if key not in model.model_fields:
                raise ConfigError(f"{source}: unknown key {prefix}{key}; {unknown(key, model.model_fields, prefix)}")
            values[key], origin[key] = value, source
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        source = origin.get(str(first["loc"][0]) if first["loc"] else "", " and ".join(dict.fromkeys(origin.values())))
        shown = "" if name.endswith("_env") else f" = {first.get('input')!r}"
        raise ConfigError(f"{source}: {prefix}{name}{shown}: {files.complaint(error)}") from error


def from_variable(model: type[BaseModel], key: str, value: str, source: str) -> Any:
    """A field's value as a variable holds it: lists are separated by commas, mappings are YAML."""
    kind = get_origin(model.model_fields[key].annotation)
    if kind is tuple:
        return value.split(",")
    return _yaml(value, source) if kind is dict else value


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
        out[key] = _yaml(value, f"{option} {key}")
    return out


def refuse_in_vain(in_vain: Mapping[str, object], why: str) -> None:
    """Refuse options of a command line that nothing would read.

    Args:
        in_vain: {option: its value; None where it was not given}.

    Raises:
        ConfigError: one was given.
    """
    for option, value in in_vain.items():
        if value is not None:
            raise ConfigError(f"{option}: {why}; leave it out")


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: {text!r} is no YAML: {files.one_line(error)}") from error
