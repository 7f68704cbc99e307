"""Training sequences -> padded micro-batches -> log-probs of their trained tokens.

Logits are computed only where a trained token is predicted: with a small model and a small share of trained tokens the
vocabulary projection is otherwise a third of the work.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from slime_tau2.local.causal_lm import CausalLM

MIN_SHARED = 16  # a shorter shared prefix is not worth a pass of its own


class Row(Protocol):
    """A training sequence: `loss_mask` aligns with the last `len(loss_mask)` tokens, which are the response."""

    @property
    def tokens(self) -> list[int]: ...

    @property
    def loss_mask(self) -> list[int] | None: ...


class SharedRow(Protocol):
    """What may be one of several of an episode: those share a `rollout_id`; None is alone."""

    @property
    def rollout_id(self) -> int | None: ...


@dataclass
class TokenScores:
    """One 1-D tensor per row, aligned with its response tokens, in nats; 0 at tokens whose mask is 0. `entropy` is None
    unless asked for.
    """

    log_probs: list[torch.Tensor]
    entropy: list[torch.Tensor] | None


def micro_batches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Indices of rows, grouped by length: rows times longest row stays within `max_tokens`.

    A row that is longer than that is a batch of its own.
    """
    batch: list[int] = []
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n].tokens)):
        if batch and (len(batch) + 1) * len(rows[n].tokens) > max_tokens:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def by_episode(rows: Sequence[SharedRow]) -> list[list[int]]:
    """The rows of each episode, by number, in order of its first."""
    found: dict[object, list[int]] = {}
    for n, row in enumerate(rows):
        found.setdefault(("alone", n) if row.rollout_id is None else row.rollout_id, []).append(n)
    return list(found.values())


def length_bucketed(
    count: int, lengths: Sequence[int], batch_size: int, rng: random.Random, bucket: int = 16
) -> Iterator[list[int]]:
    """One epoch of batches of row indices: shuffled, but each batch of similar lengths.

    Args:
        bucket: how many batches are sorted by length together, and then dealt out in random order.
    """
    order = rng.sample(range(count), count)
    for start in range(0, count, batch_size * bucket):
        part = sorted(order[start : start + batch_size * bucket], key=lambda n: lengths[n])
        batches = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        rng.shuffle(batches)
        yield from batches


def score_tokens(model: CausalLM, rows: Sequence[Row], temperature: float = 1.0, entropy: bool = False) -> TokenScores:
    """Log-probs, after temperature, of the trained tokens of one micro-batch.

    Below, R is the number of rows, W the longest row without the shared prefix, T the trained tokens of all rows.
    """
    sizes = [len(r.loss_mask or []) for r in rows]

    # 1. the rows as one rectangle, without what they all begin with; padding is on the right, where causal attention
    #    never reaches it
    shared = _shared_prefix(rows, sizes)
    suffixes = [r.tokens[shared:] for r in rows]
    padded = torch.zeros((len(rows), max(map(len, suffixes))), dtype=torch.long)
    for n, suffix in enumerate(suffixes):
        padded[n, : len(suffix)] = torch.tensor(suffix)
    ids = padded.to(model.device)  # [R, W]
    hidden = _forward(model, rows[0].tokens[:shared], ids)  # [R, W, hidden]

    # 2. where trained tokens stand, as row and column. Each is predicted by the position before it
    masks = [torch.tensor(r.loss_mask or [], dtype=torch.bool) for r in rows]
    columns = [len(suffix) - size + mask.nonzero().flatten() for suffix, size, mask in zip(suffixes, sizes, masks)]
    column = torch.cat(columns).to(model.device)  # [T]
    row = torch.cat([torch.full_like(c, n) for n, c in enumerate(columns)]).to(model.device)  # [T]
    predicting, targets = hidden[row, column - 1], ids[row, column]  # [T, hidden], [T]

    # 3. scores, and back to one tensor per row
    trained = torch.cat(masks).to(model.device)

    def per_row(values: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.split(values.new_zeros(len(trained)).masked_scatter(trained, values), sizes))

    logits = model.lm_head(predicting).float() / temperature  # [T, vocabulary]
    distribution = torch.log_softmax(logits, dim=-1)
    scores = TokenScores(per_row(distribution.gather(1, targets.unsqueeze(1)).squeeze(1)), None)
    if entropy:
        scores.entropy = per_row(-(distribution.exp() * distribution).sum(-1))
    return scores


def _shared_prefix(rows: Sequence[Row], sizes: Sequence[int]) -> int:
    """How many leading tokens all rows share, ending at least one token before any response."""
    limit = min(len(r.tokens) - size for r, size in zip(rows, sizes)) - 1
    prompts = [r.tokens[:limit] for r in rows]
    # what the first and the last in order share, all between them share too
    first, last = min(prompts), max(prompts)
    return next((n for n, (a, b) in enumerate(zip(first, last)) if a != b), len(first))


def _forward(model: CausalLM, shared: list[int], ids: torch.Tensor) -> torch.Tensor:
    """Hidden states [rows, width, hidden] after `ids` [rows, width], each row behind the same `shared` tokens.

    A domain's policy and tool schemas are half of a short episode and the same in every row: they are computed once,
    and their gradient is the sum over the rows, as it would be if each row had its own copy.
    """
    if len(ids) < 2 or len(shared) < MIN_SHARED:
        head = torch.tensor(shared, dtype=torch.long, device=ids.device).repeat(len(ids), 1)
        whole = torch.cat([head, ids], dim=1)
        return model.model(input_ids=whole, use_cache=False).last_hidden_state[:, len(shared) :]
    from transformers import DynamicCache

    cache = DynamicCache()
    model.model(input_ids=torch.tensor([shared], device=ids.device), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(ids))
    return model.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
