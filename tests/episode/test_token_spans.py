"""From characters to ids: with the bundled tokenizer, whose ids are words, and a byte-level one with Qwen's tags."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.episode.token_spans import TokenSpans
from slime_tau2.episode.toolcalls import CLOSE, MAX_CALLS, OPEN, parse


def block(name, **arguments):
    return f"{OPEN}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{CLOSE}"


def test_borders_lie_where_ids_do():
    """Ids of several characters, one over each border."""
    words = ["ab", "<c>", "d</c><", "c>", "e", "</c>f", "g"]
    spans = TokenSpans(lambda ids: "".join(words[i] for i in ids))
    text = "".join(words)
    first, second = (2, 2 + len("<c>d</c>")), (10, 10 + len("<c>e</c>"))
    assert [text[a:b] for a, b in (first, second)] == ["<c>d</c>", "<c>e</c>"]
    assert spans.find(range(7), text, [first, second]) == [(1, 3), (3, 6)]
    assert spans.find(range(7), text, []) == [] and spans.find(range(7), text, [(0, len(text))]) == [(0, 7)]


pieces = st.lists(
    st.one_of(
        st.sampled_from(["", "\n", " ", "Let me look.", "é日本", "🙂", OPEN[:5]]),
        st.builds(
            block, st.sampled_from(["refund", "get_order", "日本"]), order_id=st.sampled_from(["W12", "é", "🙂🙂"])
        ),
    ),
    max_size=6,
)


@pytest.mark.parametrize("which", ["tokenizer", "qwen_tokenizer"])
@given(said=pieces)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_ids_of_a_call_are_its_text(request, which, said):
    tokenizer = request.getfixturevalue(which)
    decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=False)  # noqa: E731
    ids = tokenizer.encode("".join(said) + "<|im_end|>", add_special_tokens=False)
    text = decode(ids)
    turn = parse(text.removesuffix("<|im_end|>"))
    found = TokenSpans(decode).find(ids, text, turn.spans)
    assert found == TokenSpans(decode).find(ids, text.removesuffix("<|im_end|>"), turn.spans), "however it ends"
    done = 0
    for (first, end), (start, stop) in zip(found, turn.spans, strict=True):
        assert done <= first < end <= len(ids) - 1, "in order, and never the end of the turn"
        assert text[start:stop] in decode(ids[first:end]), "all of it"
        for fewer in (ids[first + 1 : end], ids[first : end - 1]):
            assert text[start:stop] not in decode(fewer), "no id more"
        done = end


def test_what_the_spans_of_a_turn_are():
    look, pay = block("get_order", order_id="W12"), block("refund", amount="$4")
    text = f"Well.\n{look}\n{pay}"
    turn = parse(text)
    assert [text[a:b] for a, b in turn.spans] == [look, pay]
    unclosed = look.removesuffix(CLOSE) + "…"
    assert parse(f"a{unclosed}").spans == [(1, 1 + len(unclosed))]
    many = look * (MAX_CALLS + 3)
    spans = parse(many).spans
    assert len(spans) == MAX_CALLS and spans[0] == (0, len(look)) and spans[-1] == (len(look) * 31, len(many)), (
        "the last stands for the rest"
    )
    assert parse("Hello.").spans == []


@pytest.mark.parametrize("thought", ["", "<think>\nhm\n</think>\n\n", "hm </think>"])
def test_what_a_protocol_reads_is_found_in_the_whole_text(thought):
    look = block("get_order", order_id="W12")
    native, card = PROTOCOLS["native"], PROTOCOLS["card"]

    def calls(protocol, said):
        return [(thought + said)[a:b] for a, b in protocol.read(thought + said).spans]

    assert calls(native, f"Well.\n{look}\n{look}") == [look, look] and calls(native, "Hello.") == []
    assert calls(card, f"Well. {look}") == [look]
    assert calls(card, block("respond", content="Hello.")) == calls(card, block("done")) == []
    assert calls(card, f"{look} or {look}.") == [f"{look} or {look}"], "one call that could not be read"
    assert calls(card, "Hello.") == ["Hello."] and calls(card, block("respond")) == [block("respond")]


def test_the_renderer_finds_them(chat, tokenizer):
    assert isinstance(chat, ChatRenderer)
    look = block("get_order", order_id="W12")
    ids = tokenizer.encode(f"{look}\n{look}<|im_end|>", add_special_tokens=False)
    (a, b), (c, d) = chat.token_spans.find(ids, f"{look}\n{look}", parse(f"{look}\n{look}").spans)
    assert chat.decode(ids[a:b]) == chat.decode(ids[c:d]) == look and d == len(ids) - 1
