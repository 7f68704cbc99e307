"""Which ids of a turn are which piece of its text: from spans of characters to spans of ids.

A piece's ids are those that hold a character of it. An id that straddles a border belongs to the piece, not to what
stands outside; between two pieces, to the first, which was not yet complete when the id was sampled.

Ids are never encoded again. Where the ids' own texts, one behind the other, are the text, their lengths say it. Else
(an id may hold half a character) the place of a border is looked for by decoding the first half of the ids, then less
or more of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeAlias

Decode: TypeAlias = Callable[[Sequence[int]], str]
"""A tokenizer's: the text of ids, from left to right."""


class IdTexts:
    """The text of each id by itself, remembered for all that were met."""

    def __init__(self, decode: Decode):
        self.decode = decode
        self._known: dict[int, str] = {}

    def of(self, ids: Sequence[int]) -> list[str]:
        known = self._known
        try:
            return [known[token] for token in ids]
        except KeyError:
            known.update((token, self.decode([token])) for token in {*ids} - known.keys())
            return [known[token] for token in ids]


class TokenSpans:
    """Finds spans for one tokenizer.

    Args:
        texts: of single ids, where others remember them too.
    """

    def __init__(self, decode: Decode, texts: IdTexts | None = None):
        self.decode = decode
        self._texts = texts or IdTexts(decode)

    def find(self, ids: Sequence[int], text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """[start, end) in `ids` of each piece.

        Args:
            ids: a turn's, whatever ends it included.
            text: the ids' own, with what ends the turn or without.
            spans: [start, end) of each piece in characters of the text, in order; none is empty, none overlap.
        """
        if not spans:
            return []
        taken = self._taken(ids, text)
        out: list[tuple[int, int]] = []
        done = 0
        for start, end in spans:
            first = max(done, taken(start + 1) - 1)
            done = max(first, taken(end))
            out.append((first, done))
        return out

    def _taken(self, ids: Sequence[int], text: str) -> Callable[[int], int]:
        """A function from a number of characters to the fewest ids whose text begins with as many of the whole's."""
        pieces = self._texts.of(ids)
        if "".join(pieces) in (text, text + pieces[-1]):
            lengths = list(accumulate(map(len, pieces), initial=0))
            return lambda characters: bisect_left(lengths, characters)
        counts = range(len(ids))
        return lambda characters: bisect_left(counts, True, key=lambda n: self._begins(ids[:n], text[:characters]))

    def _begins(self, ids: Sequence[int], text: str) -> bool:
        return self.decode(ids).startswith(text)
