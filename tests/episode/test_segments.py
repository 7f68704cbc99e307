"""Segments: where a template rewrites history, each turn stands behind exactly what one rendering would give."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thinking_models import FAMILIES, tokenizer_of, without_end

from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.segments import Segments

TOOLS = [{"type": "function", "function": {"name": "look", "description": "Löok", "parameters": {"properties": {}}}}]
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'


def renderer(plain, family, tools=TOOLS):
    tokenizer, thinking = tokenizer_of(plain, family)
    if family.startswith("glm"):
        tokenizer = without_end(tokenizer)
    return ChatRenderer(tokenizer, tools, thinking)


@pytest.fixture(scope="module", params=FAMILIES)
def chat(request, qwen_tokenizer):
    return renderer(qwen_tokenizer, request.param)


words = st.text(st.characters(codec="utf-8", exclude_characters="<\x00"), max_size=12)
turns = st.lists(
    st.tuples(
        words,  # the thought
        words,  # the words
        st.booleans(),  # a call, which a tool answers; or the user does
        words,  # the answer
        st.sampled_from(
            ["\n{}\n", "{}", " {}\n\n", None]
        ),  # how the thought stands between its marks; None: no thought
    ),
    min_size=1,
    max_size=5,
)


def speak(record, text, end):
    ids = [*record.chat.encode(text), end]
    record.say([(ids, [-0.5] * len(ids))], text)


def said(chat, thought, text, calls, form):
    """A turn's text as a policy may sample it, behind what the template has opened."""
    end = f"{text}{CALL}" if calls else text or "ok"
    if "</think>" in chat.opening or (form is None and not chat.opening):
        return end
    opened = "" if chat.opening else "<think>"
    return f"{opened}{(form or '{}').format(thought)}</think>\n\n{end}"


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(turns)
def test_each_turn_stands_behind_what_one_rendering_gives(chat, conversation):
    messages = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}]
    record, heard, before_it = Segments(chat), list(messages), []
    for thought, text, calls, answer, form in conversation:
        before = len(record.ledgers)
        ledger = record.hear(heard)
        whole = chat.render(messages, TOOLS, True)
        assert chat.decode(ledger.tokens) == whole
        if len(record.ledgers) > before:
            assert ledger.tokens == chat.encode(whole), "a prompt is the tokenizer's own"
            assert ledger.tokens[: ledger.kept] == before_it[: ledger.kept] if before else ledger.kept == 0
            assert not before or not whole.startswith(chat.decode(before_it)), "it could have gone on"
        words = said(chat, thought, text, calls, form)
        end = chat.ends[-1] if calls else chat.ends[0]
        speak(record, words, end)
        before_it = record.ledgers[-1].tokens
        messages.append({"role": "assistant", "content": chat.opening + words})
        heard = [{"role": "tool" if calls else "user", "content": answer}]
        messages += heard
    assert sum(len(ledger.spans()) for ledger in record.ledgers) == len(conversation)
    sampled = [i for s in record.ledgers for i, bit in zip(s.tokens[s.prompt_length :], s.loss_mask) if bit]
    assert sum(i in chat.ends for i in sampled) >= len(conversation)


WHAT_IS_KEPT = {  # family: (what is said before words or calls; segments where tools answer, where the user does)
    "qwen3": ("<think>\nhm\n</think>\n\n", 1, 2),
    "qwen3 on": ("<think>\nhm\n</think>\n\n", 1, 2),
    "qwen3 off": ("", 4, 4),
    "qwen3 2507": ("hm\n</think>\n\n", 1, 2),
    "glm": ("\n<think>hm</think>\n", 1, 2),
    "glm off": ("\n", 1, 1),
}


@pytest.mark.parametrize("family", WHAT_IS_KEPT)
def test_what_each_family_keeps(qwen_tokenizer, family):
    """Four turns. Between them tools answer, or once the user, which drops the thoughts before."""
    chat = renderer(qwen_tokenizer, family)
    begun, *expected = WHAT_IS_KEPT[family]
    counts = []
    for third in ("tool", "user"):
        record = Segments(chat)
        heard = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}]
        for number in range(4):
            record.hear(heard)
            role = third if number == 2 else "tool"
            text = begun + (CALL if role == "tool" else "Done.")
            speak(record, text, chat.ends[-1] if role == "tool" else chat.ends[0])
            heard = [{"role": role, "content": "found"}]
        counts.append(len(record.ledgers))
    assert counts == expected and not chat.keeps_history


def test_a_template_that_keeps_history_gives_one_segment_and_renders_no_more_than_before(qwen_tokenizer, monkeypatch):
    chat = ChatRenderer(qwen_tokenizer, TOOLS)
    assert chat.keeps_history
    record, heard = Segments(chat), [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}]
    lengths = []
    plain = chat.render
    monkeypatch.setattr(chat, "render", lambda messages, *rest: lengths.append(len(messages)) or plain(messages, *rest))
    for _ in range(3):
        record.hear(heard)
        text = f"<think>\nhm\n</think>\n\n{CALL}"
        speak(record, text, *chat.ends)
        heard = [{"role": "tool", "content": "found"}]
    assert len(record.ledgers) == 1 and lengths == [2, 3]
