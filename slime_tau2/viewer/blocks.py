"""Data in a page: JSON, compressed, in blocks that the browser unpacks when it needs them (`blocks.js`)."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

LONG = 24
"""Characters from which a text is worth a place of its own in a block's table of texts."""
ENOUGH = 400_000
"""Characters of JSON after which a block is closed: what one opened conversation may have to unpack."""


def pack(value: object) -> str:
    """A JSON-able value as gzip in base64, the same for the same value."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # a lone half of a surrogate pair, which a model may write, has no UTF-8: the page shows its replacement
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 7, mtime=0)).decode()


def tag(name: str, value: object) -> Markup:
    """A block as an element; `Viewer.block(name)` reads it. Base64 has no character that means something in HTML."""
    return Markup('<script type="text/plain" data-block="{}">{}</script>\n').format(name, Markup(pack(value)))


def tags(named: Mapping[str, object]) -> Markup:
    """Blocks as elements."""
    return Markup("").join(tag(name, value) for name, value in named.items())


class Texts:
    """The texts of a block, each once: a tool's result is said in every attempt at a task."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int | str:
        """What stands for a text: its place in the table, or itself if it is short."""
        return text if len(text) < LONG else self._places.setdefault(text, len(self._places))

    @property
    def table(self) -> list[str]:
        """The texts, in the order of their places."""
        return list(self._places)


def in_blocks(groups: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
    """Items in blocks: a group stays together, and blocks are closed at `ENOUGH` characters of JSON.

    Args:
        groups: what is read together, such as the attempts at one task.
    """
    block: list[Any] = []
    size = 0
    for group in groups:
        block.extend(group)
        size += sum(len(json.dumps(item, ensure_ascii=False)) for item in group)
        if size > ENOUGH:
            yield block
            block, size = [], 0
    if block:
        yield block
