"""`--custom-pg-loss-reducer-function-path slime_tau2.hooks.reducers.dr_grpo`: Dr.GRPO's constant divisor (arXiv
2503.20783).

A mean over a sample's own tokens weighs each token of a long episode less than one of a short episode. Divided by a
constant instead, every token weighs the same whatever the length of its episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DR_GRPO_TOKENS = 1024.0
"""The divisor, in tokens: about what an episode samples. It only scales the learning rate."""


def dr_grpo(
    total_lengths: Sequence[int],
    response_lengths: Sequence[int],
    loss_masks: Sequence[torch.Tensor],
    calculate_per_token_loss: bool = False,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """slime's reducer: from one tensor over the response tokens of all samples to one number, their masked sum over
    `DR_GRPO_TOKENS`.

    Raises:
        ValueError: with `--calculate-per-token-loss`, which is another divisor; with context parallelism, which slices
            the tokens.
    """
    if calculate_per_token_loss:
        raise ValueError("dr_grpo cannot be combined with --calculate-per-token-loss; drop one of them")

    def total(x: torch.Tensor) -> torch.Tensor:
        if x.numel() != sum(response_lengths):
            raise ValueError(
                f"dr_grpo got {x.numel()} of {sum(response_lengths)} tokens; it cannot be used with "
                "--context-parallel-size"
            )
        samples = x.split(list(response_lengths), dim=0)  # type: ignore[no-untyped-call]
        sums = [(losses * mask).sum() for losses, mask in zip(samples, loss_masks, strict=True)]
        return sum(sums, x.new_zeros(())) / DR_GRPO_TOKENS

    return total
