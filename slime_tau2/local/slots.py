"""Keys and values of the tokens that were read, in one store of equal slots.

A slot stays warm when its request ends: it remembers the ids whose keys and values it holds, so that a conversation's
next turn, whose ids extend the last (invariant 1), finds them, and a new conversation copies the longest prefix that
any slot has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch


class SlotCache:
    """Also the `past_key_values` that transformers' attention layers write to and read from (`aim`, then `update`).

    `token_budget` bounds the store: slots times capacity, in tokens. `held[s]` tokens of slot s are there.
    """

    is_compileable = False

    def __init__(self, model: Any, max_slots: int, token_budget: int, capacity: int):
        self.config, self.device = model.config, model.device
        self.dtype = next(model.parameters()).dtype
        self.max_slots, self.token_budget = max_slots, token_budget
        self.allocate(capacity)

    def allocate(self, capacity: int) -> None:
        """A new, empty store of slots for `capacity` tokens each."""
        slots, config = max(1, min(self.max_slots, self.token_budget // capacity)), self.config
        # one spare column takes the writes of padding
        shape = (slots, capacity + 1, config.num_key_value_heads, config.head_dim)
        self.keys = [torch.zeros(shape, device=self.device, dtype=self.dtype) for _ in range(config.num_hidden_layers)]
        self.values = [
            torch.zeros(shape, device=self.device, dtype=self.dtype) for _ in range(config.num_hidden_layers)
        ]
        self.capacity = capacity
        self.held = np.zeros(slots, dtype=np.int64)
        self._ids = np.full((slots, capacity), -1, dtype=np.int64)
        self._used = np.zeros(slots, dtype=np.int64)  # last use, for eviction
        self._clock = 0

    def __len__(self) -> int:
        return len(self.held)

    def take(self, prompt: Sequence[int], free: Collection[int]) -> int:
        """One of the `free` slots, holding as much of the prompt's head as any slot does; all but its last token at
        most.
        """
        ids = np.asarray(prompt)
        width = min(len(ids) - 1, self.capacity)  # the last id is always computed: its logits are needed
        same = (self._ids[:, :width] == ids[:width]) & (np.arange(width) < self.held[:, None])
        prefix = np.where(same.all(1), width, same.argmin(1)) if width else np.zeros(len(same), dtype=np.int64)
        best = int(prefix.argmax())
        continues = best in free and prefix[best] >= self.held[best]
        slot = best if continues else min(free, key=lambda s: self._used[s])
        length = int(prefix[best])
        if slot != best:
            for store in (*self.keys, *self.values):
                store[slot, :length] = store[best, :length]
        self._ids[slot, :length], self._ids[slot, length:] = ids[:length], -1
        self.held[slot] = length
        self._clock += 1
        self._used[slot] = self._clock
        return slot

    def extend(self, slot: int, ids: Sequence[int]) -> None:
        """Note that a slot now holds these ids too."""
        start = int(self.held[slot])
        self._ids[slot, start : start + len(ids)] = ids
        self.held[slot] += len(ids)

    def flush(self) -> None:
        """Forget what the slots hold (after a change of weights)."""
        self.held[:] = 0
        self._ids[:] = -1

    def aim(self, slots: Sequence[int], positions: np.ndarray, width: int) -> None:
        """Where `update` writes: row r's columns `positions[r]` of slot `slots[r]`; it gives back the first `width`
        columns.
        """
        self.rows, self.width = torch.tensor(slots, device=self.device), width
        self.positions = torch.from_numpy(positions).to(self.device)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, heads, new, dim] of a layer in; all that the rows' slots hold out."""
        keys, values = self.keys[layer], self.values[layer]
        keys[self.rows.unsqueeze(1), self.positions] = key.transpose(1, 2)
        values[self.rows.unsqueeze(1), self.positions] = value.transpose(1, 2)
        return keys[self.rows, : self.width].transpose(1, 2), values[self.rows, : self.width].transpose(1, 2)
