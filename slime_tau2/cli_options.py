"""`slime-tau2 options`: every key of `--set`, with its type, its default and what it does, from the fields' own
docstrings.

Plain text that fits the terminal, or 80 columns in a pipe; no import of what the options configure.
"""

from __future__ import annotations

import difflib
import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slime_tau2.config import PREFIX, Tau2Config
from slime_tau2.errors import ConfigError

TITLES = {
    "eval": f"slime-tau2 eval, collect and rft --set KEY=VALUE; under slime {PREFIX}KEY in --custom-config-path; "
    "TAU2_KEY in the environment. The defaults are eval's, whose user is by default what suits the policy; "
    "under slime: ",
    "quickstart": "slime-tau2 quickstart and study --set KEY=VALUE",
}
WIDEST, INDENT = 100, "    "
WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    dict: "mapping",
    type(None): "null",
}
LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def options(
    word: Annotated[
        str | None, typer.Argument(help="Only the keys with this in their name, else those with it in their text.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable: command, key, type, default, help of each.")
    ] = False,
) -> None:
    """List every KEY of --set: of `eval`, `collect` and `rft`, and of `quickstart` and `study`."""
    rows = matching(list(entries()), word)
    print(
        json.dumps(rows, indent=1, ensure_ascii=False)
        if as_json
        else text(rows, min(WIDEST, shutil.get_terminal_size((80, 24)).columns))
    )


def entries() -> Iterator[dict[str, Any]]:
    """{"command", "key", "type", "default", "help"} of each key, in the order of the fields."""
    from slime_tau2.evaluation import presets
    from slime_tau2.experiments.settings import PipelineSettings

    models: Mapping[str, type[BaseModel]] = {"eval": Tau2Config, "quickstart": PipelineSettings}
    for command, model in models.items():
        defaults = {**model().model_dump(mode="json"), **(presets.OPTIONS if command == "eval" else {})}
        for key, field in model.model_fields.items():
            help_text = " ".join((field.description or "").split())
            yield {"command": command, "key": key, "type": _type(field), "default": defaults[key], "help": help_text}


def matching(rows: list[dict[str, Any]], word: str | None) -> list[dict[str, Any]]:
    """The rows that a word names.

    Raises:
        ConfigError: none; names the nearest.
    """
    if word is None:
        return rows
    asked = word.lower().removeprefix(PREFIX)
    found = [r for r in rows if asked in r["key"]] or [r for r in rows if asked in r["help"].lower()]
    if not found:
        near = difflib.get_close_matches(asked, [r["key"] for r in rows], 1)
        raise ConfigError(
            f"no option has {word} in its name or its text; "
            + (f"did you mean {near[0]}?" if near else "slime-tau2 options lists all")
        )
    return found


def text(rows: list[dict[str, Any]], width: int) -> str:
    """The page: a head for each command, then KEY = DEFAULT with its type, and what it does, no line wider than
    `width`.
    """
    from slime_tau2.evaluation import presets

    out: list[str] = []
    elsewhere = ", ".join(
        f"{k} = {_shown(v)}" for k, v in Tau2Config().model_dump(include=set(presets.OPTIONS)).items()
    )
    for command, title in TITLES.items():
        part = [r for r in rows if r["command"] == command]
        if part:
            out += [*([""] if out else []), *textwrap.wrap(title + (elsewhere if command == "eval" else ""), width)]
        for r in part:
            head = f"{r['key']} = {_shown(r['default'])} ({r['type']})"
            out += ["", *textwrap.wrap(head, width, subsequent_indent=INDENT, break_on_hyphens=False)]
            out += textwrap.wrap(
                r["help"], width, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
            )
    return "\n".join(out)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(m, name)}"
        for m in field.metadata
        for name, sign in LIMITS.items()
        if getattr(m, name, None) is not None
    ]
    return " ".join([_name(field.annotation), *([" and ".join(limits)] if limits else [])])


def _name(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(map(_name, inner))
    if origin in (tuple, list):
        return "list"
    return WORDS.get(origin or annotation, str(annotation))
