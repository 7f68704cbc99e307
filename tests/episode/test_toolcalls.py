import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_tau2.episode.toolcalls import MALFORMED, MAX_CALLS, parse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def block(name, arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.dictionaries(st.text(), json_values, max_size=3)), min_size=1, max_size=4
    )
)
def test_round_trip_of_several_calls(calls):
    if any("tool_call>" in json.dumps(c) for c in calls):
        return
    turn = parse("\n".join(block(*c) for c in calls))
    assert (
        [(c.name, c.arguments) for c in turn.calls] == calls
        and turn.text is None
        and not any(c.error for c in turn.calls)
    )


@given(st.text())
def test_never_raises_and_never_loses_a_turn(text):
    turn = parse(text)
    assert turn.empty == (not text.strip())


@given(st.text(alphabet='<>/tool_call{}"name:arguments,[] \n'))
def test_never_raises_on_debris(text):
    for call in parse(text).calls:
        assert isinstance(call.arguments, dict) and (call.name == MALFORMED) == bool(call.error)


BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
pieces = st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "{}", "a", "\n", "<tool_call", block("f", {})]))


@given(pieces.map("".join))
def test_blocks_are_found_as_this_expression_finds_them(text):
    turn, found = parse(text), list(BLOCK.finditer(text))
    assert turn.spans == [block.span() for block in found] and len(turn.calls) == len(found)
    assert (turn.text or "") == BLOCK.sub("", text).strip()
    for call, block_ in zip(turn.calls, found):
        whole = block_[0].endswith("</tool_call>")
        assert call.error if not whole else (call.name == "f") == (block_[1].strip() == block("f", {})[12:-13])
        assert whole or call.error == "no </tool_call>"


@pytest.mark.parametrize(
    "body, why",
    [
        ('{"name": "f", "arguments": {', "not JSON"),
        ('{"arguments": {}}', "no string under 'name'"),
        ('{"name": 3, "arguments": {}}', "no string under 'name'"),
        ('{"name": "f", "arguments": [1]}', "not an object"),
        ("[1]", "no string under 'name'"),
        ('{"name": "f", "arguments": {"x": NaN}}', "not JSON"),
        ("[" * 100_000, "longer than"),
        ("[" * 5_000, "not JSON"),
        ('{"name": "f", "arguments": {"x": "\\ud800"}}', "half a surrogate pair"),
        ('{"name": "f", "arguments": {"\\udfff": 1}}', "half a surrogate pair"),
        ('{"name": "\\ud800", "arguments": {}}', "half a surrogate pair"),
        ('{"name": "f", "arguments": {"x": [1e999]}}', "beyond all floats"),
        ('{"name": "f", "arguments": {"x": ' + "[" * 31 + "]" * 31 + "}}", "nested deeper than 32"),
    ],
)
def test_malformed_calls_are_typed(body, why):
    (call,) = parse(f"<tool_call>\n{body}\n</tool_call>").calls
    assert call.name == MALFORMED and why in call.error and len(json.dumps(call.arguments)) < 2_000


@given(st.text(alphabet='[]{}":,ae19.\\ud8f-'))
def test_what_is_taken_can_be_encoded_and_dumped(text):
    for call in parse(f'<tool_call>{{"name": "f", "arguments": {{"x": {text}}}}}</tool_call>').calls:
        json.dumps([call.name, call.arguments], ensure_ascii=False, allow_nan=False).encode()


def test_an_unclosed_block_is_malformed_and_text_is_kept():
    turn = parse('One moment.\n<tool_call>\n{"name": "f", "arguments": {}}')
    assert turn.text == "One moment." and turn.calls[0].name == MALFORMED and "no </tool_call>" in turn.calls[0].error


def test_calls_without_arguments_and_with_text_around():
    turn = parse('a <tool_call>{"name": "f"}</tool_call> b')
    assert turn.text == "a  b" and turn.calls[0].arguments == {}


def test_a_flood_of_calls_is_cut():
    turn = parse(block("f", {}) * 100)
    assert len(turn.calls) == MAX_CALLS and turn.calls[-1].name == MALFORMED and turn.calls[0].name == "f"
