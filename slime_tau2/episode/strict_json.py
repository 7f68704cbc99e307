"""JSON that a model wrote, taken only where everything behind it can take it.

JSON can say things that Python reads and that later fail to be encoded, compared or dumped: half a surrogate pair, a
number beyond all floats, a thousand brackets. Found here they are the model's mistake; found later they would end the
episode as infrastructure, and a policy could learn to escape its score that way.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 32
"""Deepest nesting; pydantic cannot dump 255 levels, and no tool of the benchmarks takes three."""


def loads(text: str) -> Any:
    """Parse.

    Raises:
        ValueError: not JSON, or more than it should be; says which.
    """
    try:
        value = _DECODER.decode(text) if not text.startswith("\ufeff") else json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from error
    _check(value, MAX_DEPTH)
    return value


def check_text(text: str) -> None:
    """Raises ValueError for half a surrogate pair, which no encoding and no tokenizer takes."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair is no text") from error


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number beyond all floats")
    elif isinstance(value, list | dict):
        if depth == 0:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        for key in value if isinstance(value, dict) else ():
            check_text(key)
        for part in value.values() if isinstance(value, dict) else value:
            _check(part, depth - 1)
