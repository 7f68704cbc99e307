import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.rewards.groups import normalise
from slime_tau2.rewards.shaping import card_fractions, shaped, training_reward

share = st.floats(0, 1)


@given(share, share, share)
def test_gated_orders_failures_and_never_pays_more_than_a_success(partial, other, alpha):
    assert shaped("gated", 1.0, partial=partial, alpha=alpha) == 1.0
    fail, worse = (shaped("gated", 0.0, partial=f(partial, other), alpha=alpha) for f in (max, min))
    assert 0.0 <= worse <= fail <= 1.0 == shaped("gated", 1.0, partial=0.0, alpha=alpha)


def test_card_formula_by_hand():
    components = {"action": 0.5, "communicate": 1.0}
    weighted = (0.5 * 0.5 + 0.15 * 1.0) / 0.65
    assert shaped("card", 1.0, partial=0.0, alpha=0.25, domain="retail", card_components=components) == pytest.approx(
        1.0 + 0.25 * 0.8 * weighted
    )
    assert shaped("card", 0.0, partial=0.0, alpha=0.25, domain="airline", card_components={}) == 0.0
    telecom = (0.35 * 1.0 + 0.30 * 0.5) / 0.65
    assert shaped(
        "card", 0.0, partial=0.0, alpha=0.25, domain="telecom", card_components={"action": 1.0, "env_assertion": 0.5}
    ) == pytest.approx(0.25 * 1.6 * telecom)


def test_card_uses_tau2s_own_fractions():
    info = {
        "action_checks": [{"action_match": True}, {"action_match": False}],
        "communicate_checks": [],
        "env_assertions": [{"met": True}],
    }
    assert card_fractions(info) == {"action": 0.5, "env_assertion": 1.0}
    assert card_fractions({}) == {}


def test_none_and_unknown():
    assert shaped("none", 0.0, partial=0.9, alpha=0.5) == 0.0
    with pytest.raises(ValueError, match="unknown shaping"):
        shaped("more", 0.0, partial=0.0, alpha=0.0)


def test_the_training_reward_of_an_episode():
    episode = {"domain": "retail", "termination": "user_stop", "partial": 0.8, "card_components": {"action": 1.0}}
    gated = {"shaping": "gated", "alpha": 0.25, "overlong_penalty": 0.3}
    assert (
        training_reward(0.0, episode, **gated) == pytest.approx(0.2) and training_reward(1.0, episode, **gated) == 1.0
    )
    for ran_out in ("length", "context_overflow", "max_steps"):
        assert training_reward(0.0, {**episode, "termination": ran_out}, **gated) == pytest.approx(0.2 - 0.3)
    assert training_reward(1.0, episode, shaping="card", alpha=0.25) == pytest.approx(1.0 + 0.25 * 0.8)
    assert training_reward(1.0, {}, shaping="none", alpha=0.25) == 1.0, "nothing is known of it"
    own = training_reward(0.5, episode, shaping=lambda reward, known: reward * known["partial"], alpha=9.0)
    assert own == pytest.approx(0.4)


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.integers(0, 3), st.booleans()), max_size=24),
    st.sampled_from(["mean", "std"]),
)
def test_groups_are_centred_and_masked_samples_stay_out(rows, kind):
    rewards, groups, valid = ([r[i] for r in rows] for i in range(3))
    out = normalise(rewards, groups, valid, kind)
    for g in set(groups):
        inside = [n for n in range(len(rows)) if groups[n] == g and valid[n]]
        assert sum(out[n] for n in inside) == pytest.approx(0.0, abs=1e-6)
        if kind == "mean" and inside:
            mean = statistics.fmean(rewards[n] for n in inside)
            assert all(out[n] == pytest.approx(rewards[n] - mean) for n in inside)
    assert all(o == 0.0 for o, v in zip(out, valid) if not v)


def test_a_spoiled_sample_does_not_move_its_group():
    assert normalise([1.0, 0.0, 0.0], ["g"] * 3, [True, True, False]) == [0.5, -0.5, 0.0]
    std = normalise([1.0, 0.0, 0.0], ["g"] * 3, [True, True, True], "std")
    assert std[0] == pytest.approx((1 - 1 / 3) / (statistics.stdev([1, 0, 0]) + 1e-6))
