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
from numpy.typing import NDArray

from slime_tau2.local.causal_lm import CausalLM


class SlotCache:
    """S slots of C tokens. It is also the `past_key_values` that transformers' attention layers write to and read from:
    `aim` says where, `update` does it.

    Attributes:
        keys, values: one tensor per layer, [S, C + 1, key-value heads, head dim]. The spare last column takes the
            writes of padding; nothing reads it.
        held: [S], how many tokens of each slot are there.
        capacity: C.
    """

    is_compileable = False  # transformers asks every cache

    def __init__(self, model: CausalLM, max_slots: int, token_budget: int, capacity: int):
        """`token_budget` bounds the store: slots times capacity, in tokens."""
        self.config = model.config
        self.device = model.device
        self.dtype = next(model.parameters()).dtype
        self.max_slots = max_slots
        self.token_budget = token_budget
        self.allocate(capacity)

    def allocate(self, capacity: int) -> None:
        """A new, empty store of slots for `capacity` tokens each."""
        config = self.config
        slots = max(1, min(self.max_slots, self.token_budget // capacity))
        shape = (slots, capacity + 1, config.num_key_value_heads, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, device=self.device, dtype=self.dtype) for _ in layers]
        self.values = [torch.zeros(shape, device=self.device, dtype=self.dtype) for _ in layers]
        self.capacity = capacity
        self.held: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)
        self._ids = np.full((slots, capacity), -1, dtype=np.int64)
        self._used = np.zeros(slots, dtype=np.int64)  # last use, for eviction
        self._clock = 0

    def __len__(self) -> int:
        return len(self.held)

    def take(self, prompt: Sequence[int], free: Collection[int]) -> int:
        """One of the `free` slots, which then holds as much of the prompt's head as any slot does.

        The prompt's last id is never among it: it is always computed, for its logits are needed.
        """
        # 1. for each slot, how many of the prompt's ids it holds from the first on: [S]
        ids = np.asarray(prompt)
        width = min(len(ids) - 1, self.capacity)
        common = np.zeros(len(self), dtype=np.int64)
        if width:
            same = (self._ids[:, :width] == ids[:width]) & (np.arange(width) < self.held[:, None])  # [S, width]
            common = np.where(same.all(1), width, same.argmin(1))  # argmin: the first False
        best = int(common.argmax())
        length = int(common[best])

        # 2. the best slot itself, where it is free and the prompt extends all that it holds: a conversation's next
        #    turn. Else the free one that was used longest ago, with a copy of the best one's head
        continues = best in free and length >= self.held[best]
        slot = best if continues else min(free, key=lambda s: self._used[s])
        if slot != best:
            for store in (*self.keys, *self.values):
                store[slot, :length] = store[best, :length]

        # 3. note what it holds now
        self._ids[slot, :length] = ids[:length]
        self._ids[slot, length:] = -1
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

    def aim(self, slots: Sequence[int], positions: NDArray[np.int64], width: int) -> None:
        """Say where the next `update` of each layer writes and reads.

        Args:
            slots: of the batch's R rows.
            positions: [R, new], the columns of a row's slot that its new tokens are written to.
            width: the first `width` columns are read.
        """
        self.rows = torch.tensor(slots, device=self.device)  # [R]
        neighbours = len(slots) > 1 and list(slots) == list(range(slots[0], slots[0] + len(slots)))
        self._run = slice(slots[0], slots[0] + len(slots)) if neighbours else None  # a view instead of a copy
        self.positions = torch.from_numpy(positions).to(self.device)  # [R, new]
        self.width = width

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, [R, heads, new, dim]; return what the rows' slots hold, [R, heads,
        width, dim].
        """
        keys, values = self.keys[layer], self.values[layer]
        rows = self.rows.unsqueeze(1)  # [R, 1], beside positions [R, new]
        keys[rows, self.positions] = key.transpose(1, 2)
        values[rows, self.positions] = value.transpose(1, 2)
        read = self.rows if self._run is None else self._run
        return keys[read, : self.width].transpose(1, 2), values[read, : self.width].transpose(1, 2)
