import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2 import bench
from slime_tau2.evaluation import failures
from slime_tau2.rewards.partial import Call, GoldAction, StrictScorer, same_arguments, weighted


def gold(name="write", errs=False, compare=None, is_write=True, **arguments):
    return GoldAction(
        name=name, requestor="assistant", arguments=arguments, compare=compare, is_write=is_write, errs=errs
    )


def call(name="write", error=False, **arguments):
    return Call(name, "assistant", arguments, error)


def action(golds, calls):
    scorer = StrictScorer(golds, [], 0)
    for c in calls:
        scorer.add_call(c)
    return scorer.components()["action"]


def test_empty_arguments_earn_nothing():
    assert action([gold(a=1)], [call()]) == 0.0
    assert action([gold(a=1)], [call(a=1)]) == 1.0
    assert action([gold(a=1)], [call(a=1, b=2)]) == 0.0


def test_repeating_a_call_earns_nothing_more():
    golds = [gold(a=1), gold(a=2)]
    assert action(golds, [call(a=1)] * 5) == 0.5
    assert action([gold(a=1), gold(a=1)], [call(a=1)]) == 0.5, "a gold action asked for twice must be done twice"


def test_errors_count_only_where_the_gold_call_errs():
    assert action([gold(a=1)], [call(a=1, error=True)]) == 0.0
    assert action([gold(a=1, errs=True)], [call(a=1, error=True)]) == 1.0
    assert action([gold(a=1, errs=True)], [call(a=1)]) == 0.0


def test_compare_args_and_requestor():
    assert action([gold(a=1, summary="x", compare=("a",))], [call(a=1, summary="y")]) == 1.0
    assert action([gold(a=1, compare=("a",))], [call()]) == 0.0
    assert action([gold(summary="x", compare=())], [call(summary="y")]) == 1.0
    assert action([gold(a=1)], [Call("write", "user", {"a": 1}, False)]) == 0.0


some_arguments = st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 1))


@given(made=some_arguments, wanted=some_arguments, compare=st.none() | st.sets(st.sampled_from("abc")))
def test_calls_are_compared_as_tau2_compares_them(made, wanted, compare):
    """Where both lack an argument of `compare_args`, where one lacks it, where it is None; only without `compare_args`
    is tau2 more lenient: it compares the arguments that the call happens to have.
    """
    names = None if compare is None else sorted(compare)
    action = bench.Action(action_id="1", name="write", arguments=wanted, compare_args=names)
    same = same_arguments(made, wanted, compare)
    tau2s = action.compare_with_tool_call(bench.ToolCall(name="write", arguments=made))
    assert same == tau2s if compare is not None else same == (tau2s and made.keys() == wanted.keys())
    compared = None if names is None else tuple(names)
    assert gold(compare=compared, **wanted).matches(call(**made)) == same
    record = {"name": "write", "arguments": wanted, "compare_args": names}
    assert failures.same_call({"name": "write", "arguments": made}, record) == same


def test_an_argument_that_neither_call_has_makes_no_difference():
    assert same_arguments({"a": 1}, {"a": 1}, ("a", "b")) and same_arguments({}, {}, ("b",))
    assert not same_arguments({"a": 1, "b": None}, {"a": 1}, ("a", "b")), "one that only one has does"


def test_writes_weigh_twice_a_read():
    golds = [gold(a=1), gold("read", is_write=False, a=1)]
    assert action(golds, [call(a=1)]) == pytest.approx(2 / 3)
    assert action(golds, [call("read", a=1)]) == pytest.approx(1 / 3)


def test_told_info_follows_tau2s_rule():
    scorer = StrictScorer([], ["1000", "Final Sale"], 0)
    scorer.add_text("It costs $1,000.")
    assert scorer.components() == {"communicate": 0.5}
    scorer.add_text("FINAL SALE")
    assert scorer.value() == 1.0


def test_hand_computed_total():
    scorer = StrictScorer([gold(a=1)], ["x"], 2)
    scorer.add_call(call(a=1))
    scorer.set_assertions_met(1)
    assert scorer.value() == pytest.approx((0.5 * 1 + 0.15 * 0 + 0.35 * 0.5) / 1.0)
    assert weighted({"action": 1.0, "communicate": 0.0}, {"action": 0.5, "communicate": 0.15}) == pytest.approx(
        0.5 / 0.65
    )
    assert StrictScorer([], [], 0).value() == 0.0


names, values = st.sampled_from("ab"), st.integers(0, 2)
golds = st.builds(lambda n, v, e, w: gold(n, errs=e, is_write=w, v=v), names, values, st.booleans(), st.booleans())
calls = st.builds(
    lambda n, v, e: Call(n, "assistant", {"v": v} if v is not None else {}, e), names, st.none() | values, st.booleans()
)


@given(st.lists(golds, min_size=1, max_size=5), st.lists(calls, max_size=12))
def test_score_only_grows_and_order_does_not_matter(gold_actions, made):
    scorer, last = StrictScorer(gold_actions, [], 0), 0.0
    for c in made:
        scorer.add_call(c)
        now = scorer.value()
        assert 0.0 <= last <= now <= 1.0
        last = now
    assert action(gold_actions, made[::-1]) == pytest.approx(last)
