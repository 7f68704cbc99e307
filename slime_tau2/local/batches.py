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
    """Indices of rows, grouped by length so that rows times longest row stays within `max_tokens` (a longer row goes alone)."""
    batch: list[int] = []
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n].tokens)):
        if batch and (len(batch) + 1) * len(rows[n].tokens) > max_tokens:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def length_bucketed(count: int, lengths: Sequence[int], batch_size: int, rng: random.Random, bucket: int = 16) -> Iterator[list[int]]:
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
    longest = max(len(r.tokens) for r in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    where: list[tuple[int, int, int]] = []
    for n, r in enumerate(rows):
        ids[n, : len(r.tokens)] = torch.tensor(r.tokens)
        where.append((n, len(r.tokens) - len(r.loss_mask or []), len(r.tokens)))
    ids = ids.to(device)
    hidden = model.model(input_ids=ids).last_hidden_state  # right padding: causal attention never reaches it
    predicting = torch.cat([hidden[n, a - 1 : b - 1] for n, a, b in where])
    targets = torch.cat([ids[n, a:b] for n, a, b in where])
    logits = model.lm_head(predicting).float() / temperature
    distribution = torch.log_softmax(logits, dim=-1)
    picked = distribution.gather(1, targets.unsqueeze(1)).squeeze(1)
    sizes = [b - a for _, a, b in where]
    spread = (-(distribution.exp() * distribution).sum(-1)).split(sizes) if entropy else None
    return TokenScores(list(picked.split(sizes)), list(spread) if spread is not None else None)
