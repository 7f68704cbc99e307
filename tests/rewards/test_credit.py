"""Turn credit: exact on hand-computed cases; its promises as properties."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.masks import spans
from slime_tau2.rewards.credit import Credited, to_go, token_advantages


def sample(advantage, success, valid, loss_mask, gains):
    return Credited(
        advantage=advantage, success=success, valid=valid, loss_mask=loss_mask, turns=spans(loss_mask), gains=gains
    )


def test_hand_computed():
    won = sample(0.5, True, True, [1, 1, 0, 1, 1], [0.0, 1.0])
    lost = sample(-0.5, False, True, [1, 0, 1, 1], [0.3, 0.0])
    a, b = token_advantages([won, lost], [0, 0])
    # the gap is 1, the scale 1/4; won: mean gain 1/2; lost: mean gain 0.1
    assert a == pytest.approx([0.375, 0.375, 0.0, 0.625, 0.625])
    assert b == pytest.approx([-0.45, 0.0, -0.525, -0.525])


def test_a_group_of_one_outcome_and_a_sample_that_does_not_count():
    samples = [
        sample(0.1, False, True, [1, 0, 1], [0.4, 0.0]),
        sample(-0.1, False, True, [1, 1], [0.2]),
        sample(9.0, False, False, [1, 1], [1.0]),
    ]
    a, b, c = token_advantages(samples, ["g"] * 3)
    assert a == pytest.approx([0.1 + 0.05 * 0.2, 0.0, 0.1 - 0.05 * 0.2]) and b == [-0.1, -0.1] and c == [0.0, 0.0]


def test_discounted_by_hand():
    assert to_go([0.0, 1.0], 0.5) == pytest.approx([0.5 / 1.5, 1.0])
    assert to_go([0.2, 0.4, 0.6], 1.0) == pytest.approx([0.4, 0.5, 0.6]) and to_go([], 0.5) == []
    won = sample(0.5, True, True, [1, 0, 1], [0.0, 1.0])
    lost = sample(-0.5, False, True, [1], [0.0])
    (a, _) = token_advantages([won, lost], [0, 0], discount=0.5)
    assert a == pytest.approx([0.5 + 0.25 * (1 / 3 - 2 / 3), 0.0, 0.5 + 0.25 * (1 - 2 / 3)]), (
        "what led to the gain shares in it"
    )


def test_a_turn_that_lies_in_two_segments_is_one_turn():
    """Its parts have one advantage, and what follows it is what follows the turn, wherever its tokens stand."""
    lost = sample(-0.5, False, True, [1], [0.0])
    whole = sample(0.5, True, True, [1, 1, 0, 1, 1, 0, 1, 1], [0.0, 0.2, 0.8])
    apart = replace(
        whole, turns=[(0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)], of=[0, 1, 2, 0, 1, 2], calls=[[]] * 6
    )
    for discount in (0.0, 0.5):
        a, _ = token_advantages([whole, lost], [0, 0], discount)
        b, _ = token_advantages([apart, lost], [0, 0], discount)
        assert a == pytest.approx(b)


def test_gains_that_do_not_fit_the_turns_change_nothing():
    assert token_advantages([sample(0.3, True, True, [1, 0, 1], [1.0])], [0]) == [[0.3, 0.0, 0.3]]


episodes = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.floats(-1, 1)), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def credited(won, turns, centre):
    mask = [bit for own, glue, _ in turns for bit in [1] * own + [0] * glue]
    partial = max(-1.0, min(1.0, sum(g for *_, g in turns)))
    reward = 1.0 if won else 0.25 * max(0.0, partial)
    return sample(reward - centre, won, True, mask, [g for *_, g in turns])


@given(episodes, st.floats(-1, 1), st.sampled_from([0.0, 0.5, 1.0]))
def test_promises(group, centre, discount):
    samples = [credited(won, turns, centre) for won, turns in group]
    out = token_advantages(samples, [0] * len(samples), discount)
    for s, tokens in zip(samples, out):
        assert len(tokens) == len(s.loss_mask) and all(a == 0.0 for a, m in zip(tokens, s.loss_mask) if not m)
        assert sum(tokens) == pytest.approx(s.advantage * sum(s.loss_mask), abs=1e-9), (
            "the episode's advantage, spread otherwise"
        )
        for start, end in spans(s.loss_mask):
            assert len(set(tokens[start:end])) == 1
    trained = [[a for a, m in zip(tokens, s.loss_mask) if m] for s, tokens in zip(samples, out)]
    won, lost = (
        [t for s, t in zip(samples, trained) if s.success],
        [t for s, t in zip(samples, trained) if not s.success],
    )
    if won and lost:
        assert max(map(max, lost)) <= min(map(min, won)) + 1e-9, "no turn of a failure gets more than one of a success"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_equal_gains_are_the_episodes_advantage(lengths, gain, advantage, discount):
    mask = [bit for n in lengths for bit in [1] * n + [0]]
    other = sample(advantage - 1, False, True, [1], [0.0])
    (tokens, _) = token_advantages(
        [sample(advantage, True, True, mask, [gain] * len(lengths)), other], [0, 0], discount
    )
    assert tokens == pytest.approx([advantage * m for m in mask])
