"""Sampling whose result does not depend on who else is in the batch (invariant 7).

Each token is drawn by inverting the cumulative distribution at a number that only (seed, position) decide. Two runs
that see logits equal to rounding therefore draw the same token, unless the number falls within NEAR_TIE of a boundary.
Pure functions of arrays.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

NEAR_TIE = 1e-5
_IGNORED = {"skip_special_tokens", "no_stop_trim", "spaces_between_special_tokens", "min_new_tokens", "n", "stop"}
_KNOWN = {"max_new_tokens", "temperature", "top_p", "top_k", "stop_token_ids", "ignore_eos", "sampling_seed"}
_MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """SGLang's names. `temperature` 0 is greedy; `top_k` -1 and `top_p` 1 keep everything."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    sampling_seed: int = 0


def sampling_params(body: dict[str, Any]) -> SamplingParams:
    """SGLang's `sampling_params`.

    Raises:
        ValueError: an unknown key, or a value this server does not support.
    """
    unknown = set(body) - _KNOWN - _IGNORED
    if unknown:
        raise ValueError(f"unknown sampling parameters: {', '.join(sorted(unknown))}")
    if body.get("stop"):
        raise ValueError("stop strings are not supported here; use stop_token_ids")
    if body.get("n", 1) != 1 or body.get("min_new_tokens"):
        raise ValueError("n and min_new_tokens are not supported here")
    values = {k: v for k, v in body.items() if k in _KNOWN and v is not None}
    values["stop_token_ids"] = tuple(values.get("stop_token_ids") or ())
    values.setdefault("sampling_seed", random.getrandbits(31))
    params = SamplingParams(**values)
    if params.max_new_tokens < 1 or params.temperature < 0 or not 0 < params.top_p <= 1:
        raise ValueError(f"out of range: {params}")
    return params


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from a seed and a position (splitmix64's finaliser)."""
    x = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return ((x ^ (x >> 31)) >> 11) / (1 << 53)


def sample(
    logits: torch.Tensor, params: list[SamplingParams], draws: list[float]
) -> tuple[list[int], list[float], int]:
    """One token per row.

    Args:
        logits: [rows, vocabulary], float32.
        draws: one number in [0, 1) per row.

    Returns:
        Token ids; their log-probs after temperature and before top-k and top-p, as SGLang reports them; how many
        draws fell within NEAR_TIE of a boundary.
    """
    temperature = torch.tensor([p.temperature or 1.0 for p in params], device=logits.device).unsqueeze(1)
    greedy = torch.tensor([p.temperature == 0 for p in params], device=logits.device)
    log_probs = torch.log_softmax(logits.float() / temperature, dim=-1)

    # 1. the distribution to draw from: in double, so that its sums do not round the draws away
    probs = log_probs.double().exp()
    for row, p in enumerate(params):
        if p.top_k > 0 or p.top_p < 1.0:
            probs[row] = _restrict(probs[row], p)

    # 2. invert its cumulative sum at each row's number. What top-k and top-p left adds up to less than 1: the number is
    #    scaled to that
    cumulative = probs.cumsum(-1)
    at = torch.tensor(draws, dtype=torch.float64, device=logits.device).unsqueeze(1) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, at, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)
    chosen = torch.where(greedy, logits.argmax(-1), drawn).unsqueeze(1)  # [rows, 1]

    # 3. how near each number came to its neighbours' intervals
    upper = cumulative.gather(1, chosen)
    lower = upper - probs.gather(1, chosen)
    distance = torch.minimum((upper - at).abs(), (at - lower).abs()).squeeze(1)
    ties = int(((distance < NEAR_TIE) & ~greedy).sum())
    return chosen.squeeze(1).tolist(), log_probs.gather(1, chosen).squeeze(1).tolist(), ties


def _restrict(probs: torch.Tensor, p: SamplingParams) -> torch.Tensor:
    """[vocabulary] probabilities, 0 outside top-k and top-p; not normalised again."""
    ordered, order = probs.sort(descending=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if p.top_k > 0:
        keep[p.top_k :] = False
    if p.top_p < 1.0:
        before = ordered.cumsum(-1) - ordered
        keep &= before < p.top_p
    out = torch.zeros_like(probs)
    out[order[keep]] = ordered[keep]
    return out
