"""Loss masks: what slime, the ledger and the credit by turn agree a turn is."""

from __future__ import annotations

from collections.abc import Sequence


def spans(mask: Sequence[int]) -> list[tuple[int, int]]:
    """[start, end) of each run of ones."""
    out, start = [], None
    for n, bit in enumerate([*mask, 0]):
        if bit and start is None:
            start = n
        elif not bit and start is not None:
            out.append((start, n))
            start = None
    return out
