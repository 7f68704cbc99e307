"""What crosses the border of a process, as bytes; above all a finished episode.

Ids, mask and log-probs cross as arrays, messages compressed. What many prompts begin with (policy and tools: most of
the ids) crosses with the first episode of a worker's that has it; later ones name it by its digest.

Nothing is rounded: what comes out is equal, field by field, to what went in. Only processes of one job read each other:
over sockets that no one else holds, or through Ray.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

from slime_tau2.ledger import Ids, TokenLedger
from slime_tau2.types import Episode

T = TypeVar("T")
LENGTH = struct.Struct("!Q")
"""Before each message of a socket."""
LEVEL = 1
"""zlib's, for messages."""
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
    """An episode as bytes, and the digests of the heads that it names and does not hold."""

    episode: bytes
    heads: tuple[bytes, ...]


NOTHING = Packed(b"", ())


class _Segment(NamedTuple):
    """A ledger.

    Attributes:
        head: digest of what the prompt begins with; empty where nothing is shared.
        held: how many of `ids`, from the first on, are that head; 0 where they follow it.
        ids: int32.
        mask: a byte each.
        log_probs: float64, which is what a float of JSON is.
    """

    prompt_length: int
    kept: int
    head: bytes
    held: int
    ids: bytes
    mask: bytes
    log_probs: bytes


class Packer:
    """The worker's side."""

    def __init__(self) -> None:
        self._heads = _Heads[Ids]()

    def pack(self, episode: Episode) -> Packed:
        """An episode for `Unpacker`; but for its transcripts, which are audited where it was played."""
        segments = [self._segment(ledger) for ledger in episode.segments]
        messages = zlib.compress(to_bytes(episode.messages), LEVEL)
        packed = to_bytes((replace(episode, segments=[], messages=[], transcripts=[]), segments, messages))
        held = {segment.head for segment in segments if segment.held}
        return Packed(packed, tuple({segment.head for segment in segments if segment.head} - held))

    def head(self, digest: bytes) -> bytes:
        """The ids of a head that was named, for whoever has not seen it; empty where it is not known any more."""
        head = self._heads.known.get(digest)
        return b"" if head is None else head.values.tobytes()

    def _segment(self, ledger: TokenLedger) -> _Segment:
        (ids, mask, log_probs), head, digest, held = ledger.columns(), ledger.head, b"", 0
        if head:
            digest = head.digest
            if digest in self._heads.known:
                ids = ids[len(head) :]
            else:
                held = len(head)
            self._heads.put(digest, head)
        columns = ids.tobytes(), bytes(mask), log_probs.tobytes()
        return _Segment(ledger.prompt_length, ledger.kept, digest, held, *columns)


class Unpacker:
    """The parent's side, of all workers. A head that came with an episode is known from then on."""

    def __init__(self) -> None:
        self._heads = _Heads["array[int]"]()

    def missing(self, heads: Collection[bytes]) -> list[bytes]:
        """Which of them to ask `Packer.head` for."""
        return [digest for digest in heads if digest not in self._heads.known]

    def learn(self, digest: bytes, head: bytes) -> None:
        """Take what `Packer.head` gave."""
        self._heads.put(digest, array("i", head))

    def unpack(self, packed: bytes) -> Episode:
        """The episode that `Packer.pack` was given; none of its heads is missing."""
        episode: Episode
        episode, segments, messages = from_bytes(packed)
        # all that it names, before a head that it holds takes the place of one of them
        heads = {s.head: self._heads.known[s.head] for s in segments if s.head in self._heads.known}
        episode.segments = [self._ledger(segment, heads) for segment in segments]
        episode.messages = from_bytes(zlib.decompress(messages))
        return episode

    def _ledger(self, segment: _Segment, heads: dict[bytes, array[int]]) -> TokenLedger:
        ids = array("i", segment.ids)
        if segment.head:
            head = heads[segment.head] = ids[: segment.held] or heads[segment.head]
            self._heads.put(segment.head, head)
            ids = ids if segment.held else head + ids
        log_probs = array("d", segment.log_probs)
        return TokenLedger.ended(segment.prompt_length, ids, segment.mask, log_probs, kept=segment.kept)


class _Heads(Generic[T]):
    """The `HEADS` that were used last, by digest."""

    def __init__(self) -> None:
        self.known: OrderedDict[bytes, T] = OrderedDict()

    def put(self, digest: bytes, head: T) -> None:
        self.known[digest] = head
        self.known.move_to_end(digest)
        if len(self.known) > HEADS:
            self.known.popitem(last=False)
