"""`--custom-pg-loss-reducer-function-path slime_tau2.hooks.reducers.dr_grpo`: Dr.GRPO's constant divisor (arXiv
2503.20783).

A mean over a sample's own tokens weighs each token of a long episode less than one of a short episode. Divided by a
constant instead, every token weighs the same whatever the length of its episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

DR_GRPO_TOKENS = 1024.0
"""The divisor, in tokens: about what an episode samples. It only scales the learning rate."""


def dr_grpo(
    total_lengths: Sequence[int],
    response_lengths: Sequence[int],
    loss_masks: Sequence[Any],
    calculate_per_token_loss: bool = False,
) -> Callable[[Any], Any]:
    """slime's reducer: from one tensor over all response tokens to one number, the sum over samples.

    Raises:
        ValueError: with `--calculate-per-token-loss`, which is another divisor; with context parallelism, which slices
            the tokens.
    """
    if calculate_per_token_loss:
        raise ValueError("dr_grpo cannot be combined with --calculate-per-token-loss; drop one of them")

    def total(x: Any) -> Any:
        if x.numel() != sum(response_lengths):
            raise ValueError(
                f"dr_grpo got {x.numel()} of {sum(response_lengths)} tokens; it cannot be used with "
                "--context-parallel-size"
            )
        parts = x.split(list(response_lengths), dim=0)
        return sum((part * mask).sum() for part, mask in zip(parts, loss_masks, strict=True)) / DR_GRPO_TOKENS

    return total
