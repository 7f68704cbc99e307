import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.errors import LedgerError
from slime_tau2.ledger import Ids, TokenLedger

ids = st.lists(st.integers(0, 1535), max_size=12)
operations = st.lists(st.tuples(st.booleans(), ids), max_size=12)


@given(st.lists(st.integers(0, 1535), min_size=1, max_size=8), operations)
def test_append_only_and_aligned(prompt, steps):
    ledger, before = TokenLedger(Ids.of(prompt)), list(prompt)
    sampled = []
    for trainable, new in steps:
        if trainable:
            ledger.append_sampled(new, [-0.5] * len(new))
            sampled += new
        else:
            ledger.append_context(Ids.of(new))
        assert ledger.tokens[: len(before)] == before and len(ledger) == len(before) + len(new)
        before = ledger.tokens
        assert len(ledger.loss_mask) == len(ledger.log_probs) == ledger.response_length == len(ledger) - len(prompt)
    response = ledger.tokens[len(prompt) :]
    assert [t for t, m in zip(response, ledger.loss_mask) if m] == sampled and ledger.sampled == len(sampled)
    assert all((lp == -0.5) == bool(m) for lp, m in zip(ledger.log_probs, ledger.loss_mask))
    spans = ledger.spans()
    assert sorted(n for a, b in spans for n in range(a, b)) == [n for n, m in enumerate(ledger.loss_mask) if m]
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(spans)), "runs are maximal"


def test_views_cannot_change_the_record():
    ledger = TokenLedger(Ids.of([1]))
    ledger.append_sampled([2], [-1.0])
    ledger.tokens.append(9)
    ledger.loss_mask.clear()
    ledger.log_probs[0] = 0.0
    assert ledger.tokens == [1, 2] and ledger.loss_mask == [1] and ledger.log_probs == [-1.0]


@pytest.mark.parametrize("bad", [float("nan"), 0.5, None, "x"])
def test_only_log_probs_are_log_probs(bad):
    with pytest.raises(LedgerError):
        TokenLedger(Ids.of([1])).append_sampled([2], [bad])


def test_refuses_what_would_break_it():
    with pytest.raises(LedgerError, match="at least one token"):
        TokenLedger(Ids.of([]))
    with pytest.raises(LedgerError, match="2 sampled ids came with 1 log-probs"):
        TokenLedger(Ids.of([1])).append_sampled([1, 2], [-1.0])
    for bad in ([-1], [1.0], ["1"], [True]):
        with pytest.raises(LedgerError, match="no token id"):
            TokenLedger(Ids.of([1])).append_context(Ids.of(bad))


odd = st.one_of(
    st.floats(-5.0, 0.0), st.floats(), st.integers(-3, 1), st.booleans(), st.none(), st.just("x"), st.just(5e-4)
)


@given(st.one_of(st.lists(st.floats(-5.0, 0.0), max_size=6), st.lists(odd, max_size=6)))
def test_log_probs_are_taken_or_refused_as_a_look_at_each_would(log_probs):
    ledger = TokenLedger(Ids.of([1]))

    def is_log_prob(value):
        return isinstance(value, float | int) and not math.isnan(value) and value <= 1e-3

    wrong = [value for value in log_probs if not is_log_prob(value)]
    if wrong:
        with pytest.raises(LedgerError) as error:
            ledger.append_sampled([2] * len(log_probs), log_probs)
        assert str(error.value) == f"{wrong[0]!r} is no log-prob" and ledger.response_length == 0
    else:
        ledger.append_sampled([2] * len(log_probs), log_probs)
        kept = [min(float(value), 0.0) for value in log_probs]
        assert list(map(repr, ledger.log_probs)) == list(map(repr, kept)), "minus zero too"


@given(
    st.lists(
        st.one_of(
            st.integers(-2, 2**40), st.integers(2**31 - 2, 2**31), st.booleans(), st.just(1.0), st.just("1"), st.none()
        ),
        max_size=6,
    )
)
def test_ids_are_taken_or_refused_as_a_look_at_each_would(values):
    wrong = [value for value in values if type(value) is not int or not 0 <= value < 2**31]
    if wrong:
        with pytest.raises(LedgerError) as error:
            Ids.of(values)
        assert str(error.value) == f"{wrong[0]!r} is no token id"
    else:
        made = Ids.of(tuple(values))
        assert made.values.tolist() == values and json.loads(b"[%b]" % made.json) == values


@given(st.lists(ids, min_size=1, max_size=6), ids)
def test_ids_json_is_the_tokens_and_more(pieces, more):
    ledger = TokenLedger(Ids.of([7]))
    for piece in pieces:
        ledger.append_context(Ids.of(piece))
        sent = ledger.ids_json(more)
        assert sent == json.dumps([*ledger.tokens, *more], separators=(",", ":")).encode()
        assert ledger.ids_json() == json.dumps(ledger.tokens, separators=(",", ":")).encode()
