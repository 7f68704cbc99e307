"""What a call did to a row, against what the solution does to it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.rewards.effects import facts, strange


def row(**fields):
    return json.dumps({"status": "open", "items": [], "refunds": [], **fields}, sort_keys=True)


FIRST = row()
DONE = row(status="swapped", items=[{"id": "a"}, {"id": "b"}])


@pytest.mark.parametrize(
    "before, after, gold, is_strange",
    [
        (FIRST, DONE, [FIRST, DONE], False),
        (FIRST, row(status="swapped", items=[{"id": "b"}, {"id": "a"}]), [FIRST, DONE], False),
        (FIRST, row(status="swapped"), [FIRST, DONE], False),
        (FIRST, row(status="swapped", items=[{"id": "c"}]), [FIRST, DONE], True),
        (FIRST, DONE, [FIRST], True),
        (row(refunds=["$4"]), row(refunds=["$4", "$4"]), [FIRST, row(refunds=["$4"])], True),
        (row(items=["a", "b"]), row(items=["a"]), [row(items=["a", "b"]), row(items=["a", "b", "c"])], True),
        (row(items=["a", "b"]), row(items=["a"]), [row(items=["a", "b"]), row(items=["a"])], False),
        (row(status="lost"), FIRST, [FIRST, DONE], False),
        (None, FIRST, [None], True),
        (None, FIRST, [None, FIRST], False),
        (FIRST, None, [FIRST], True),
        (FIRST, None, [FIRST, None], False),
    ],
    ids="the gold's, turned round, half of it, other items, gold does nothing, twice, taken away, gold takes it too,"
    " undone, a new row, gold makes it, removed, gold removes it".split(","),
)
def test_effects(before, after, gold, is_strange):
    assert strange(before, after, gold) == is_strange


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["k", "*", "l"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, min_size=1, max_size=4), values)
def test_no_step_among_states_of_the_solution_is_strange_nor_is_the_way_back(states, other):
    rows = [json.dumps(state) for state in states]
    wrong = json.dumps(other)
    for one in rows:
        assert not any(strange(one, state, rows) for state in rows)
        assert not strange(wrong, one, rows), "whoever comes back to a state of the solution"


@given(st.lists(values, max_size=4))
def test_the_order_of_a_list_is_no_fact(parts):
    assert facts(json.dumps(parts)) == facts(json.dumps(parts[::-1]))


def test_a_key_is_not_mistaken_for_a_place_in_a_list():
    assert facts('{"*": 1}') != facts("[1]") and facts("1") != facts('"1"')
