"""The token record of one episode, or of a segment of one: append-only ids, loss mask, log-probs.

Invariant 1: ids are only ever appended, so what is sent on turn n+1 strictly extends what was sent and sampled on turn
n. Where a template rewrites what was said, the next segment begins: a ledger of its own (`episode.segments`).
Invariant 2: `len(loss_mask) == len(log_probs) == response_length`, and a 1 in the mask is a sampled id with its own
log-prob. Knows only ids; no text enters or leaves.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from slime_tau2.errors import LedgerError
from slime_tau2.masks import spans

LARGEST = 2**31 - 1
"""The largest id: they are held, and cross from process to process, as int32."""


@dataclass(frozen=True)
class Ids:
    """Token ids, checked, beside their JSON (without brackets).

    Attributes:
        values: nothing changes them: what shares a prompt shares them.
        head: the first of the parts that they were joined from. Prompts that share it cross a border without it.
    """

    values: array[int]
    json: bytes
    head: Ids | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, values: Sequence[int]) -> Ids:
        """Raises LedgerError for what is no token id."""
        given = list(values)
        if given and (set(map(type, given)) != {int} or min(given) < 0 or max(given) > LARGEST):
            wrong = next(value for value in given if type(value) is not int or not 0 <= value <= LARGEST)
            raise LedgerError(f"{wrong!r} is no token id")
        return cls(array("i", given), repr(given).encode().translate(None, b"[ ]"))

    @classmethod
    def joined(cls, parts: Sequence[Ids]) -> Ids:
        """One behind the other; the first is the head."""
        values = array("i")
        for part in parts:
            values += part.values
        return cls(values, b",".join(p.json for p in parts if p), parts[0] if parts else None)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that name these ids."""
        return hashlib.blake2b(self.json, digest_size=16).digest()

    def __add__(self, other: Ids) -> Ids:
        return Ids.joined([self, other])

    def __len__(self) -> int:
        return len(self.values)


def _plain(log_probs: Sequence[float]) -> bool:
    """Whether these are log-probs as they should be, floats from minus infinity to 0: seen without a look at each."""
    if set(map(type, log_probs)) != {float}:
        return False
    total = sum(log_probs)
    return total == total and max(log_probs) <= 0.0  # one NaN makes the sum NaN


class Columns(NamedTuple):
    """A ledger's record. To be read: nobody but the ledger changes it.

    Attributes:
        ids: [prompt + response] int32.
        mask: [response], a byte each.
        log_probs: [response] float64.
    """

    ids: array[int]
    mask: bytearray
    log_probs: array[float]


class TokenLedger:
    """`tokens` = prompt + response. The response starts after the prompt, as slime's Sample wants it.

    Attributes:
        prompt_length: ids of the prompt.
        kept: how many of them, from the first on, the segment before this one had sent or sampled alike: what a
            server's prefix cache can keep. 0 for an episode's first.
        head: the prompt's; None for an ended episode's.
    """

    def __init__(self, prompt: Ids, kept: int = 0):
        if not prompt:
            raise LedgerError("an episode's prompt has at least one token")
        self._ids = prompt.values[:]
        self._json: list[bytes] | None = [prompt.json]  # what was appended, piece by piece
        self.prompt_length, self.kept = len(self._ids), kept
        self.head: Ids | None = prompt.head
        self._mask = bytearray()
        self._log_probs = array("d")

    @classmethod
    def ended(
        cls,
        prompt_length: int,
        tokens: Iterable[int],
        loss_mask: Iterable[int],
        log_probs: Iterable[float],
        *,
        kept: int = 0,
    ) -> TokenLedger:
        """The record of an episode that has ended elsewhere: `tokens` [prompt + response], the others [response].

        It is read; nothing can be appended to it or sent from it.

        Raises:
            LedgerError: the lengths contradict each other.
        """
        ids, mask, chances = array("i", tokens), bytearray(loss_mask), array("d", log_probs)
        if not 0 < prompt_length == len(ids) - len(mask) or len(mask) != len(chances):
            raise LedgerError(
                f"{len(ids)} ids, {prompt_length} of them the prompt, came with a mask of {len(mask)} and "
                f"{len(chances)} log-probs"
            )
        ledger = cls.__new__(cls)
        ledger.prompt_length, ledger.kept, ledger._ids, ledger._json = prompt_length, kept, ids, None
        ledger._mask, ledger._log_probs, ledger.head = mask, chances, None
        return ledger

    def columns(self) -> Columns:
        """The record itself, of which `tokens`, `loss_mask` and `log_probs` give lists."""
        return Columns(self._ids, self._mask, self._log_probs)

    @property
    def tokens(self) -> list[int]:
        return self._ids.tolist()

    def ids_json(self, more: Sequence[int] = ()) -> bytes:
        """`tokens`, and `more` behind them, as a JSON list. Each id is serialised once: what a turn sends costs what it
        added, and one copy.
        """
        pieces = [*self._open(), Ids.of(more).json] if more else self._open()
        return b"".join((b"[", b",".join(pieces), b"]"))  # `%` would grow its result, and copy it, several times

    @property
    def loss_mask(self) -> list[int]:
        return list(self._mask)

    @property
    def log_probs(self) -> list[float]:
        """One per response token; 0.0 where the mask is 0."""
        return self._log_probs.tolist()

    @property
    def response_length(self) -> int:
        return len(self._mask)

    @property
    def sampled(self) -> int:
        return self._mask.count(1)

    def __len__(self) -> int:
        return len(self._ids)

    def append_sampled(self, ids: Sequence[int], log_probs: Sequence[float]) -> None:
        """Append ids that the policy sampled, each with its log-prob."""
        if len(ids) != len(log_probs):
            raise LedgerError(f"{len(ids)} sampled ids came with {len(log_probs)} log-probs")
        rounded = not _plain(log_probs)
        for value in log_probs if rounded else ():
            if not isinstance(value, float | int) or math.isnan(value) or value > 1e-3:
                raise LedgerError(f"{value!r} is no log-prob")
        self._append(Ids.of(ids))
        self._mask += b"\1" * len(ids)
        self._log_probs.extend([min(float(x), 0.0) for x in log_probs] if rounded else log_probs)

    def append_context(self, ids: Ids) -> None:
        """Append ids that the policy did not sample: template glue, the user's words, tool results."""
        self._append(ids)
        self._mask += bytes(len(ids))
        self._log_probs.frombytes(bytes(8 * len(ids)))

    def _append(self, ids: Ids) -> None:
        if ids:
            self._open().append(ids.json)
            self._ids += ids.values

    def _open(self) -> list[bytes]:
        """The JSON of the ids, of an episode that goes on."""
        if self._json is None:
            raise LedgerError("the episode has ended in another process: nothing follows")
        return self._json

    def spans(self) -> list[tuple[int, int]]:
        """`spans` of the loss mask, in response positions: the agent's turns."""
        return spans(self._mask)
