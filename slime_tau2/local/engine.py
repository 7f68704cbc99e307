"""Continuous batching for a small Qwen3 on one device: requests in, tokens with log-probs out.

Each request owns a slot of `SlotCache` and computes only what that does not hold yet. Prompts are read in chunks, so
that a long one neither needs a large mask nor starves the others for long.

Knows only token ids. Not thread-safe: one thread calls `admit`, `step` and the rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from slime_tau2.local.sampling import SamplingParams, sample, uniform
from slime_tau2.local.slots import SlotCache

CHUNK = 512
MIN_CAPACITY = 512


@dataclass
class Request:
    """One completion under way. `finish` is empty until it ends: stop, length or abort."""

    rid: str
    input_ids: list[int]
    params: SamplingParams
    output_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish: str = ""
    cached_tokens: int = 0


class Engine:
    """`token_budget` bounds the store: slots times capacity, in tokens."""

    def __init__(self, model: Any, eos: int, max_slots: int = 64, token_budget: int = 262_144):
        self.model, self.eos = model.eval(), eos
        self.device, self.config = model.device, model.config
        self.context_length: int = self.config.max_position_embeddings
        self.waiting: deque[Request] = deque()
        self.near_ties = 0
        self.slots = SlotCache(model, max_slots, token_budget, MIN_CAPACITY)
        self._owner: list[Request | None] = [None] * len(self.slots)

    # --- requests
    # ----------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Request]:
        return [r for r in self._owner if r is not None]

    def admit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ValueError: input and `max_new_tokens` do not fit the context, or an id is outside the vocabulary.
        """
        need = len(request.input_ids) + request.params.max_new_tokens
        if not request.input_ids or need > self.context_length:
            raise ValueError(
                f"Requested token count exceeds the model's maximum context length of {self.context_length} tokens: "
                f"{len(request.input_ids)} input tokens and {request.params.max_new_tokens} new ones"
            )
        if min(request.input_ids) < 0 or max(request.input_ids) >= self.config.vocab_size:
            raise ValueError(f"input_ids must lie in [0, {self.config.vocab_size})")
        self.waiting.append(request)

    def _place(self) -> None:
        """Give waiting requests slots, first come first served; grows the store only when it is idle enough to."""
        while self.waiting:
            need = len(self.waiting[0].input_ids) + self.waiting[0].params.max_new_tokens
            if need > self.slots.capacity:
                if self.running:
                    return
                self.slots.allocate(min(self.context_length, 1 << (need - 1).bit_length()))
                self._owner = [None] * len(self.slots)
            free = [s for s, owner in enumerate(self._owner) if owner is None]
            if not free:
                return
            request = self.waiting.popleft()
            slot = self.slots.take(request.input_ids, free)
            self._owner[slot], request.cached_tokens = request, int(self.slots.held[slot])

    # --- compute -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """One round: read a chunk of every unread prompt, sample one token for every request that is read. Returns what
        ended.
        """
        self._place()
        active = [(s, r) for s, r in enumerate(self._owner) if r is not None]
        if not active:
            return []
        reading = [(s, r) for s, r in active if self._pending(s, r) > 1]
        decoding = [(s, r) for s, r in active if self._pending(s, r) == 1]
        done: list[Request] = []
        for batch in (reading, decoding):
            if batch:
                done += self._advance(batch)
        return done

    def _pending(self, slot: int, request: Request) -> int:
        return len(request.input_ids) + len(request.output_ids) - int(self.slots.held[slot])

    def _advance(self, batch: list[tuple[int, Request]]) -> list[Request]:
        held = [int(self.slots.held[s]) for s, _ in batch]
        news = [self._new_ids(s, r) for s, r in batch]
        logits = self._forward([s for s, _ in batch], held, news)
        sampling = []
        for row, (slot, request) in enumerate(batch):
            self.slots.extend(slot, news[row])
            if self._pending(slot, request) == 0:
                sampling.append(row)
        if not sampling:
            return []
        requests = [batch[row][1] for row in sampling]
        draws = [uniform(r.params.sampling_seed, len(r.output_ids)) for r in requests]
        ids, log_probs, ties = sample(logits[sampling], [r.params for r in requests], draws)
        self.near_ties += ties
        done = []
        for row, token, log_prob in zip(sampling, ids, log_probs):
            slot, request = batch[row]
            request.output_ids.append(token)
            request.log_probs.append(log_prob)
            stops = token in request.params.stop_token_ids or (token == self.eos and not request.params.ignore_eos)
            request.finish = (
                "stop" if stops else "length" if len(request.output_ids) >= request.params.max_new_tokens else ""
            )
            if request.finish:
                self._owner[slot] = None
                done.append(request)
        return done

    def _new_ids(self, slot: int, request: Request) -> list[int]:
        held, prompt = int(self.slots.held[slot]), len(request.input_ids)
        if held < prompt:
            return request.input_ids[held : min(held + CHUNK, prompt)]
        return request.output_ids[held - prompt :]

    def _forward(self, slots: list[int], held: list[int], news: list[list[int]]) -> torch.Tensor:
        """Logits after each row's last new id, [rows, vocabulary].

        Rows are padded on the right; padding writes to the store's spare last column, which nothing reads.
        """
        lengths = np.asarray([len(n) for n in news])
        width, total = int(lengths.max()), int((lengths + held).max())
        ids = np.zeros((len(slots), width), dtype=np.int64)
        for row, new in enumerate(news):
            ids[row, : len(new)] = new
        steps = np.arange(width)[None, :]
        positions = np.where(steps < lengths[:, None], np.asarray(held)[:, None] + steps, self.slots.capacity)
        hidden_from = np.arange(total)[None, None, :] > positions[:, :, None]
        cache, device, model = self.slots, self.device, self.model.model
        cache.aim(slots, positions, total)
        hidden = model.embed_tokens(torch.from_numpy(ids).to(device))
        rotary = model.rotary_emb(hidden, cache.positions)
        mask = torch.from_numpy(hidden_from).to(device).unsqueeze(1)
        bias = torch.zeros(mask.shape, dtype=hidden.dtype, device=device).masked_fill_(
            mask, torch.finfo(hidden.dtype).min
        )
        for layer in model.layers:
            hidden = layer(
                hidden,
                attention_mask=bias,
                position_ids=cache.positions,
                past_key_values=cache,
                position_embeddings=rotary,
            )
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        last = hidden[torch.arange(len(slots), device=device), torch.from_numpy(lengths - 1).to(device)]
        return self.model.lm_head(model.norm(last)).float()

    # --- control -----------------------------------------------------------------------------------------------------

    def abort(self, rid: str | None = None) -> list[Request]:
        """End one request, or all, as aborted; they keep what they have sampled."""
        hit = [r for r in (*self.waiting, *self.running) if rid is None or r.rid == rid]
        for request in hit:
            request.finish = "abort"
        self.waiting = deque(r for r in self.waiting if r not in hit)
        self._owner = [None if r in hit else r for r in self._owner]
        return hit

    def flush(self) -> None:
        """Forget all warm slots (after a change of weights)."""
        self.slots.flush()
