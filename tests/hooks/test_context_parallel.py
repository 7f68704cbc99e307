"""slime cuts what a sample carries into slices for its context-parallel ranks: our advantages must survive that, empty
slices included.

`tests/upstream/train_cpu` compares the mapping used here with slime's own slicing.
"""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from slime_tau2.hooks.advantages import turn_advantages

sys.path.insert(0, str(Path(__file__).parents[1] / "upstream" / "train_cpu"))
from parity import held

SIZES = [(150, 51), (97, 12), (64, 1), (40, 39), (33, 5)]
"""Tokens of a sample, and of its response."""


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_slices_cover_each_response_token_once(ranks):
    for total, response in SIZES:
        slices = [held(total, response, rank, ranks) for rank in range(ranks)]
        assert sorted(n for own in slices for n in own) == list(range(response))


@pytest.mark.parametrize("credit", ["turn", "call"])
def test_what_a_rank_gets_of_the_credit_is_what_it_trains_on(credit):
    empty = 0
    for rank in range(2):
        carried = [
            torch.arange(1, response + 1, dtype=torch.float64)[held(total, response, rank, 2)]
            for total, response in SIZES
        ]
        data = {"teacher_log_probs": carried, "rewards": [0.5] * len(SIZES)}
        turn_advantages(Namespace(tau2_credit=credit), data)
        for own, advantages, returns in zip(carried, data["advantages"], data["returns"], strict=True):
            assert (
                advantages.dtype == torch.float32
                and torch.equal(advantages, own.float())
                and torch.equal(returns, advantages)
            )
            empty += not len(own)
    assert empty > 0, (
        "the last quarter of a sequence is the first rank's: a short response leaves the second with nothing"
    )


def test_episode_credit_over_empty_slices():
    data = {"log_probs": [torch.zeros(0), torch.zeros(3)], "rewards": [0.5, -0.25]}
    turn_advantages(Namespace(), data)
    assert [a.tolist() for a in data["advantages"]] == [[], [-0.25] * 3]
