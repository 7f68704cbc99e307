"""Training sequences -> padded micro-batches -> log-probs of their response tokens.

Logits are computed only where a response token is predicted: with a small model and a small share of trained tokens the
vocabulary projection is otherwise a third of the work.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

MIN_SHARED = 16  # a shorter shared prefix is not worth a pass of its own


class Row(Protocol):
    """A training sequence: `loss_mask` aligns with the last `len(loss_mask)` tokens."""

    @property
    def tokens(self) -> list[int]: ...

    @property
    def loss_mask(self) -> list[int] | None: ...


@dataclass
class TokenScores:
    """One 1-D tensor a row, aligned with its response tokens. `entropy` is None unless asked for."""

    log_probs: list[torch.Tensor]
    entropy: list[torch.Tensor] | None


def micro_batches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Indices of rows, grouped by length so that rows times longest row stays within `max_tokens` (a longer row goes
    alone).
    """
    batch: list[int] = []
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n].tokens)):
        if batch and (len(batch) + 1) * len(rows[n].tokens) > max_tokens:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def length_bucketed(
    count: int, lengths: Sequence[int], batch_size: int, rng: random.Random, bucket: int = 16
) -> Iterator[list[int]]:
    """One epoch of batches of row indices: shuffled, but each batch of similar lengths."""
    order = rng.sample(range(count), count)
    for start in range(0, count, batch_size * bucket):
        part = sorted(order[start : start + batch_size * bucket], key=lambda n: lengths[n])
        batches = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        rng.shuffle(batches)
        yield from batches


def score_tokens(model: Any, rows: Sequence[Row], temperature: float = 1.0, entropy: bool = False) -> TokenScores:
    """Log-probs (after temperature) of the response tokens of one micro-batch."""
    device = model.device
    sizes = [len(r.loss_mask or []) for r in rows]
    head = _shared_prefix(rows, sizes)
    longest = max(len(r.tokens) for r in rows) - head
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    for n, r in enumerate(rows):
        ids[n, : len(r.tokens) - head] = torch.tensor(r.tokens[head:])
    ids = ids.to(device)
    hidden = _forward(model, rows[0].tokens[:head], ids)  # right padding: causal attention never reaches it
    where = [(n, len(r.tokens) - head - size, len(r.tokens) - head) for n, (r, size) in enumerate(zip(rows, sizes))]
    predicting = torch.cat([hidden[n, a - 1 : b - 1] for n, a, b in where])
    targets = torch.cat([ids[n, a:b] for n, a, b in where])
    logits = model.lm_head(predicting).float() / temperature
    distribution = torch.log_softmax(logits, dim=-1)
    picked = distribution.gather(1, targets.unsqueeze(1)).squeeze(1)
    spread = (-(distribution.exp() * distribution).sum(-1)).split(sizes) if entropy else None
    return TokenScores(list(picked.split(sizes)), list(spread) if spread is not None else None)


def _shared_prefix(rows: Sequence[Row], sizes: Sequence[int]) -> int:
    """How many leading tokens all rows share, ending at least one token before any response."""
    limit = min(len(r.tokens) - size for r, size in zip(rows, sizes)) - 1
    first, last = min(r.tokens[:limit] for r in rows), max(r.tokens[:limit] for r in rows)
    return next((n for n, (a, b) in enumerate(zip(first, last)) if a != b), len(first))


def _forward(model: Any, head: list[int], ids: torch.Tensor) -> torch.Tensor:
    """Hidden states after `ids` [rows, width], each row behind the same `head`.

    A domain's policy and tool schemas are half of a short episode and the same in every row: they are computed once,
    and their gradient is the sum over the rows, as it would be if each row had its own copy.
    """
    if len(ids) < 2 or len(head) < MIN_SHARED:
        whole = torch.cat([torch.tensor(head, dtype=torch.long, device=ids.device).repeat(len(ids), 1), ids], dim=1)
        return model.model(input_ids=whole, use_cache=False).last_hidden_state[:, len(head) :]
    from transformers import DynamicCache

    shared = DynamicCache()
    model.model(input_ids=torch.tensor([head], device=ids.device), past_key_values=shared, use_cache=True)
    shared.batch_repeat_interleave(len(ids))
    return model.model(input_ids=ids, past_key_values=shared, use_cache=True).last_hidden_state
