"""What crosses the border of a process, as bytes; above all a finished episode: ids, mask and log-probs as arrays,
messages compressed.

Nothing is rounded: what comes out is equal, field by field, to what went in. Only processes of one job read each other:
over sockets that no one else holds, or through Ray.
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slime_tau2.ledger import TokenLedger
from slime_tau2.types import Episode

LENGTH = struct.Struct("!Q")
"""Before each message of a socket."""
LEVEL = 1
"""zlib's: a quarter of the size of the JSON, at a tenth of a millisecond for a long conversation."""


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


def pack(episode: Episode) -> bytes:
    """An episode as bytes, for `unpack`; but for its transcripts, which are audited where it was played."""
    record = [_arrays(ledger) for ledger in episode.segments]
    messages = zlib.compress(json.dumps(episode.messages, ensure_ascii=False).encode(), LEVEL)
    return to_bytes((replace(episode, segments=[], messages=[], transcripts=[]), record, messages))


def unpack(packed: bytes) -> Episode:
    """The episode that `pack` was given."""
    episode: Episode
    episode, record, messages = from_bytes(packed)
    episode.segments = [
        TokenLedger.ended(prompt_length, tokens.tolist(), mask.tolist(), log_probs.tolist(), kept=kept)
        for prompt_length, kept, tokens, mask, log_probs in record
    ]
    episode.messages = json.loads(zlib.decompress(messages))
    return episode


def _arrays(ledger: TokenLedger) -> tuple[int, int, NDArray[np.int32], NDArray[np.uint8], NDArray[np.float64]]:
    """(prompt length; kept; ids [prompt + response]; mask and log-probs [response]); a float of JSON is a float64."""
    return (
        ledger.prompt_length,
        ledger.kept,
        np.asarray(ledger.tokens, dtype=np.int32),
        np.asarray(ledger.loss_mask, dtype=np.uint8),
        np.asarray(ledger.log_probs, dtype=np.float64),
    )
