"""Keys and values of the tokens that were read, in one store of equal slots.

A slot stays warm when its request ends: it remembers the ids whose keys and values it holds, so that a conversation's
next turn, whose ids extend the last (invariant 1), finds them, and a new conversation copies the longest prefix that
any slot has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from slime_tau2.errors import ConfigError
from slime_tau2.local.causal_lm import CausalLM

ATTENTION = "slime_tau2_slots"
"""The name under which transformers finds the attention to slots."""
ANOTHER = "serve this one with SGLang or vLLM"
"""What to do with a model that the engine cannot read."""


class SlotCache:
    """S slots of C tokens. It is also the `past_key_values` that transformers' attention layers write to and read from:
    `aim` says where, `update` writes and `attend` reads.

    Attributes:
        keys, values: one tensor per layer, [S, key-value heads, C, head dim]. What a head reads of a slot lies in one
            piece.
        held: [S], how many tokens of each slot are there.
        capacity: C.
        positions: [1, T], where each token that is read now stands in its conversation, and so in its slot.
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
        shape = (slots, config.num_key_value_heads, capacity, config.head_dim)
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
                store[slot, :, :length] = store[best, :, :length]

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

    def aim(self, reading: Mapping[int, int]) -> None:
        """Say what the next pass reads: of each slot the number of new tokens, which follow what it holds. The slots'
        tokens lie one behind the other, without padding.
        """
        self._spans: list[_Span] = []
        positions: list[NDArray[np.int64]] = []
        start = 0
        for slot, new in reading.items():
            held = int(self.held[slot])
            self._spans.append(_Span(slot, start, start + new, held + new, self._causal(new, held + new)))
            positions.append(np.arange(held, held + new))
            start += new
        rows = np.repeat(list(reading), list(reading.values()))
        self._rows = torch.from_numpy(rows).to(self.device)  # [T]
        self.positions = torch.from_numpy(np.concatenate(positions)).unsqueeze(0).to(self.device)

    def _causal(self, new: int, total: int) -> torch.Tensor | None:
        """[new, total], added to the scores of the last `new` of `total` tokens: none sees those behind it. None for
        the last token, which sees all.
        """
        if new == 1:
            return None
        mask = torch.zeros((new, total), device=self.device, dtype=self.dtype)
        mask[:, total - new :] = torch.full((new, new), -torch.inf, device=self.device, dtype=self.dtype).triu_(1)
        return mask

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, [1, heads, T, dim]; return the whole store of that layer."""
        keys, values = self.keys[layer], self.values[layer]
        keys[self._rows, :, self.positions[0]] = key[0].transpose(0, 1)
        values[self._rows, :, self.positions[0]] = value[0].transpose(0, 1)
        return keys, values

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """Attention of the tokens that are read, [1, heads, T, dim], each to its own slot, of a layer's whole store.

        One call a slot: it reads what the slot holds where it lies, and no row waits for the longest one. With a
        rectangle of all rows, a mask and the slots gathered, an engine was half as fast (docs/performance.md).

        Returns:
            [1, T, heads, dim], as transformers' attention functions do.
        """
        out = torch.empty_like(query)
        for slot, start, stop, total, mask in self._spans:
            out[:, :, start:stop] = functional.scaled_dot_product_attention(
                query[:, :, start:stop],
                keys[slot : slot + 1, :, :total],
                values[slot : slot + 1, :, :total],
                attn_mask=mask,
                scale=scale,
                enable_gqa=query.shape[1] != keys.shape[1],
            )
        return out.transpose(1, 2)


class _Span(NamedTuple):
    """A slot's part of a pass: its tokens are `start` to `stop` of T, and see `total` tokens with those before."""

    slot: int
    start: int
    stop: int
    total: int
    mask: torch.Tensor | None


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    slots: SlotCache | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """transformers' attention function of a model that an engine reads: by slots where the engine calls the layers,
    PyTorch's own where somebody calls the whole model.
    """
    if slots is not None:
        more = [name for name in ("sliding_window", "s_aux", "softcap") if kwargs.get(name) is not None]
        if more:
            raise ConfigError(
                f"{type(module).__name__} has {', '.join(more)}: the local engine reads models with full attention "
                f"alone; {ANOTHER}"
            )
        return slots.attend(query, key, value, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
