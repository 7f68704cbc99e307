"""Credit by call: exact on hand-computed cases; its promises as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.masks import spans
from slime_tau2.rewards.credit import Credited, token_advantages
from slime_tau2.types import CallGain


def sample(advantage, success, loss_mask, gains, calls=()):
    return Credited(
        advantage=advantage,
        success=success,
        valid=True,
        loss_mask=loss_mask,
        turns=spans(loss_mask),
        gains=gains,
        calls=tuple(calls),
    )


LOST = sample(-0.5, False, [1], [0.0])
"""Beside a success of 0.5 the scale is a quarter."""


def test_hand_computed():
    calls = [[CallGain(1, 3, 0.0), CallGain(3, 5, 0.4)], []]
    won = sample(0.5, True, [1, 1, 1, 1, 1, 1, 0, 1, 1], [0.4, 0.0], calls)
    (a, _) = token_advantages([won, LOST], [0, 0])
    # mean gain 6 · 0.4 / 8 = 0.3; the calls' mean is 0.2, each is 0.2 away from it
    text, first, second, end = 0.5 + 0.025, 0.5 - 0.025, 0.5 + 0.075, 0.5 - 0.075
    assert a == pytest.approx([text, first, first, second, second, text, 0.0, end, end])


def test_a_wrong_call_gets_no_share_and_what_it_would_have_had_is_owed_less_elsewhere():
    calls = [[CallGain(0, 2, 0.3, "forbidden write"), CallGain(2, 4, 0.5)], []]
    won = sample(0.5, True, [1, 1, 1, 1, 0, 1, 1], [0.8, 0.2], calls)
    (a, _) = token_advantages([won, LOST], [0, 0])
    # mean gain 0.6; above it: the wrong call 0.1, the right one 0.3, the second turn −0.4; 0.2 of 0.8 is withheld
    assert a == pytest.approx([0.5, 0.5, 0.575, 0.575, 0.0, 0.425, 0.425])
    unproven = sample(0.5, True, [1, 1, 1, 1, 0, 1, 1], [0.8, 0.2], [[CallGain(0, 2, 0.3), CallGain(2, 4, 0.5)], []])
    (b, _) = token_advantages([unproven, LOST], [0, 0])
    assert b == pytest.approx([0.525, 0.525, 0.575, 0.575, 0.0, 0.4, 0.4])


def test_what_differs_within_a_turn_is_shrunk_where_it_would_leave_the_bounds():
    """A score that falls and rises: the first call is 3 above the mean, of which 2 are left."""
    calls = [[], [CallGain(102, 103, 1.0), CallGain(103, 202, -1.0)], []]
    gains = [-1.0, 0.0, 1.0]
    won = sample(0.5, True, [1] * 101 + [0] + [1] * 100 + [0] + [1], gains, calls)
    (a, _) = token_advantages([won, LOST], [0, 0])
    mean = (-1.0 * 101 + 1.0) / 202
    assert (
        a[102] == pytest.approx(0.5 + 0.25 * 2) and a[102] > a[103] and a[0] == pytest.approx(0.5 + 0.25 * (-1 - mean))
    )


def test_calls_that_do_not_fit_the_turns_change_nothing():
    mask, gains = [1, 1, 0, 1], [0.4, 0.0]
    (plain, _) = token_advantages([sample(0.5, True, mask, gains), LOST], [0, 0])
    for calls in ([[CallGain(0, 1, 0.4)]], [[CallGain(1, 4, 0.4)], []], [[CallGain(1, 1, 0.4)], []]):
        assert token_advantages([sample(0.5, True, mask, gains, calls), LOST], [0, 0])[0] == plain


gain = st.floats(-1, 1)
call = st.tuples(st.integers(1, 4), gain, st.booleans(), st.integers(0, 2))
"""(tokens, gain, wrong, tokens of text behind it)"""
turn = st.tuples(st.integers(0, 2), st.lists(call, max_size=4), gain, st.integers(1, 3))
"""(tokens of text before the first call, calls, the turn's gain, tokens of context behind it)"""
groups = st.lists(st.tuples(st.booleans(), st.lists(turn, min_size=1, max_size=4)), min_size=1, max_size=5)


def episode(won, turns, centre):
    """A Credited, and the same with credit by turn."""
    mask, gains, by_turn = [], [], []
    for text, calls, whole, context in turns:
        start, own = len(mask), []
        mask += [1] * text
        for tokens, earned, wrong, behind in calls:
            own.append(CallGain(len(mask), len(mask) + tokens, earned, "refused" if wrong else ""))
            mask += [1] * (tokens + behind)
        if len(mask) == start:
            continue
        gains.append(whole)
        by_turn.append(own)
        mask += [0] * context
    advantage = (1.0 if won else 0.25 * max(0.0, min(1.0, sum(gains)))) - centre
    return sample(advantage, won, mask, gains, by_turn), sample(advantage, won, mask, gains)


@given(groups, st.floats(-1, 1))
def test_promises(group, centre):
    both = [episode(won, turns, centre) for won, turns in group]
    samples = [s for s, _ in both]
    out = token_advantages(samples, [0] * len(samples))
    plain = token_advantages([s for _, s in both], [0] * len(samples))
    for s, tokens, by_turn in zip(samples, out, plain):
        mask = s.loss_mask
        assert len(tokens) == len(mask) and all(a == 0.0 for a, m in zip(tokens, mask) if not m), "masks are respected"
        assert sum(tokens) == pytest.approx(s.advantage * sum(mask), abs=1e-9), "the sum over tokens stays"
        for (start, end), calls in zip(spans(mask), s.calls):
            for c in calls:
                assert len(set(tokens[c.start : c.end])) == 1, "the tokens of a call share its advantage"
                assert not c.wrong or tokens[c.start] <= s.advantage + 1e-12, "no positive share for what is wrong"
            for one in calls:
                for other in calls:
                    if one.gain >= other.gain and not one.wrong:
                        assert tokens[one.start] >= tokens[other.start] - 1e-9, "who did more gets no less"
            if not any(c.wrong for own in s.calls for c in own):
                assert sum(tokens[start:end]) == pytest.approx(sum(by_turn[start:end]), abs=1e-9), "so does a turn's"
                text = [n for n in range(start, end) if not any(c.start <= n < c.end for c in calls)]
                assert [tokens[n] for n in text] == pytest.approx([by_turn[n] for n in text], abs=1e-9)
    trained = [[a for a, m in zip(tokens, s.loss_mask) if m] for s, tokens in zip(samples, out)]
    won = [a for s, own in zip(samples, trained) for a in own if s.success]
    lost = [a for s, own in zip(samples, trained) for a in own if not s.success]
    if won and lost:
        assert max(lost) <= min(won) + 1e-9, "no token of a failure gets more than one of a success"


@given(groups, st.floats(-1, 1))
def test_calls_of_equal_worth_or_one_call_per_turn_are_credit_by_turn(group, centre):
    alike = [
        (won, [(text, [(n, whole, False, b) for n, _, _, b in calls], whole, c) for text, calls, whole, c in turns])
        for won, turns in group
    ]
    alone = [
        (won, [(0, [(n, g, False, 0) for n, g, _, _ in calls[:1]], whole, c) for _, calls, whole, c in turns])
        for won, turns in group
    ]
    for same in (alike, alone):
        both = [episode(won, turns, centre) for won, turns in same]
        out = token_advantages([s for s, _ in both], [0] * len(both))
        for tokens, by_turn in zip(out, token_advantages([s for _, s in both], [0] * len(both))):
            assert tokens == pytest.approx(by_turn, abs=1e-9)


@given(st.lists(turn, min_size=1, max_size=4), gain, st.floats(-1, 1))
def test_equal_gains_are_the_episodes_advantage(turns, same, advantage):
    """Wrong calls included: where nothing has a share, there is none to withhold."""
    turns = [(text, [(n, same, wrong, b) for n, _, wrong, b in calls], same, c) for text, calls, _, c in turns]
    s, _ = episode(True, turns, 1.0 - advantage)
    (tokens, _) = token_advantages([s, sample(s.advantage - 1, False, [1], [0.0])], [0, 0])
    assert tokens == pytest.approx([s.advantage * m for m in s.loss_mask], abs=1e-9)
