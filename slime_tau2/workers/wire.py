"""What crosses the border of a process, as bytes; above all a finished episode: ids, mask and log-probs as arrays,
messages compressed, and what many prompts begin with (policy and tools, most of all ids) not at all.

Nothing is rounded: what comes out is equal, field by field, to what went in. Only processes of one job read each other:
over sockets that no one else holds, or through Ray.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

from slime_tau2.ledger import Ids, TokenLedger
from slime_tau2.types import Episode

T = TypeVar("T")
LENGTH = struct.Struct("!Q")
"""Before each message of a socket."""
LEVEL = 1
"""zlib's: a quarter of the size, at a tenth of a millisecond for a long conversation."""
HEADS = 256
"""Heads of prompts that either side remembers, those used last."""


def to_bytes(value: Any) -> bytes:
    """A value as bytes, for `from_bytes`."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def from_bytes(data: bytes) -> Any:
    """The value that `to_bytes` was given, by a process of this job."""
    return pickle.loads(data)


def framed(message: Any) -> bytes:
    """A message as it goes through a socket: behind its length."""
    body = to_bytes(message)
    return LENGTH.pack(len(body)) + body


class Packed(NamedTuple):
    """An episode as bytes, and the digests of the heads that are not in them."""

    episode: bytes
    heads: tuple[bytes, ...]


NOTHING = Packed(b"", ())


class _Segment(NamedTuple):
    """A ledger. `ids` are those behind the head, or all where `head` is empty; int32. A float of JSON is a float64."""

    prompt_length: int
    kept: int
    head: bytes
    ids: bytes
    mask: bytes
    log_probs: bytes


class Packer:
    """The worker's side. A head goes with the first episode that has it; later ones name it by its digest."""

    def __init__(self) -> None:
        self._heads = _Heads[Ids]()

    def pack(self, episode: Episode) -> Packed:
        """An episode for `Unpacker`; but for its transcripts, which are audited where it was played."""
        segments = [self._segment(ledger) for ledger in episode.segments]
        messages = zlib.compress(to_bytes(episode.messages), LEVEL)
        packed = to_bytes((replace(episode, segments=[], messages=[], transcripts=[]), segments, messages))
        return Packed(packed, tuple({segment.head for segment in segments if segment.head}))

    def head(self, digest: bytes) -> bytes:
        """The ids of a head that was named, for whoever has not seen it yet."""
        return _ints(self._heads.known[digest].values)

    def _segment(self, ledger: TokenLedger) -> _Segment:
        tokens, head, known = ledger.tokens, b"", ledger.head
        if known is not None:
            if known.digest in self._heads.known:
                tokens, head = tokens[len(known) :], known.digest
            self._heads.put(known.digest, known)
        floats = array("d", ledger.log_probs).tobytes()
        return _Segment(ledger.prompt_length, ledger.kept, head, _ints(tokens), bytes(ledger.loss_mask), floats)


class Unpacker:
    """The parent's side, of all workers."""

    def __init__(self) -> None:
        self._heads = _Heads[list[int]]()

    def missing(self, heads: Collection[bytes]) -> list[bytes]:
        """Which of them to ask `Packer.head` for."""
        return [digest for digest in heads if digest not in self._heads.known]

    def learn(self, digest: bytes, head: bytes) -> None:
        """Take what `Packer.head` gave."""
        self._heads.put(digest, array("i", head).tolist())

    def unpack(self, packed: bytes) -> Episode:
        """The episode that `Packer.pack` was given; none of its heads is missing."""
        episode: Episode
        episode, segments, messages = from_bytes(packed)
        episode.segments = [self._ledger(segment) for segment in segments]
        episode.messages = from_bytes(zlib.decompress(messages))
        return episode

    def _ledger(self, segment: _Segment) -> TokenLedger:
        tokens = array("i", segment.ids).tolist()
        if segment.head:
            head = self._heads.known[segment.head]
            self._heads.put(segment.head, head)
            tokens = head + tokens
        log_probs = array("d", segment.log_probs).tolist()
        return TokenLedger.ended(segment.prompt_length, tokens, list(segment.mask), log_probs, kept=segment.kept)


class _Heads(Generic[T]):
    """The `HEADS` that were used last, by digest."""

    def __init__(self) -> None:
        self.known: OrderedDict[bytes, T] = OrderedDict()

    def put(self, digest: bytes, head: T) -> None:
        self.known[digest] = head
        self.known.move_to_end(digest)
        if len(self.known) > HEADS:
            self.known.popitem(last=False)


def _ints(values: Sequence[int]) -> bytes:
    return array("i", values).tobytes()
