import json

import pytest
from conftest import trl_template
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slime_tau2 import bench
from slime_tau2.data.traces import tokenise
from slime_tau2.episode.agents import as_json
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.errors import TemplateError

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_order",
            "description": "Löok",
            "parameters": {"properties": {"a": {"type": "string"}}},
        },
    }
]


def call(**arguments):
    return {"type": "function", "function": {"name": "get_order", "arguments": arguments}}


CONVERSATION = [
    {"role": "system", "content": "Policy with <|im_start|>-free text.\n\nTwo paragraphs."},
    {"role": "assistant", "content": "Hi! How can I help you today?"},
    {"role": "user", "content": "Hello,\nmy order: W17 🎉"},
    {"role": "assistant", "content": "", "tool_calls": [call(a="x"), call(a='ÿ\n"q"')]},
    {"role": "tool", "content": '{"a": 1}'},
    {"role": "tool", "content": "Error: nope\n\n"},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [call(b=[1, {"c": None}])]},
    {"role": "tool", "content": ""},
    {"role": "assistant", "content": "Done?  "},
    {"role": "user", "content": " yes "},
    {"role": "assistant", "content": "Bye."},
]


@pytest.fixture(params=["bundled", "qwen3_instruct_2507"])
def any_tokenizer(request):
    return request.getfixturevalue("tokenizer" if request.param == "bundled" else "qwen_tokenizer")


@pytest.mark.parametrize("tools", [None, TOOLS])
def test_deltas_equal_the_full_render(any_tokenizer, tools):
    """Prompt + each turn + each delta is, id for id, what one rendering of the whole conversation gives."""
    renderer = ChatRenderer(any_tokenizer, tools)
    (row,) = tokenise({"messages": CONVERSATION, "tools": tools}, renderer)
    whole = any_tokenizer.apply_chat_template(CONVERSATION, tools=tools, tokenize=False).removesuffix("\n")
    assert any_tokenizer.decode(row.tokens) == whole
    assert row.tokens == any_tokenizer.encode(whole, add_special_tokens=False)
    response = row.tokens[-len(row.loss_mask) :]
    trained = any_tokenizer.decode([t for t, m in zip(response, row.loss_mask) if m])
    assert (
        trained.count("<|im_end|>") == 4
        and trained.endswith("Bye.<|im_end|>")
        and "Error" not in trained
        and "yes" not in trained
    )


def test_prompts_with_and_without_a_cached_head_agree(any_tokenizer):
    renderer = ChatRenderer(any_tokenizer, TOOLS)
    for _ in range(2):
        ids = renderer.prompt(CONVERSATION[:3]).values.tolist()
        text = any_tokenizer.apply_chat_template(
            CONVERSATION[:3], tools=TOOLS, tokenize=False, add_generation_prompt=True
        )
        assert ids == any_tokenizer.encode(text, add_special_tokens=False)


def test_our_template_writes_what_qwens_writes(tokenizer, qwen_tokenizer):
    for tools in (None, TOOLS):
        for upto in range(1, len(CONVERSATION) + 1):
            arguments = dict(tools=tools, tokenize=False, add_generation_prompt=upto % 2 == 0)
            ours = tokenizer.apply_chat_template(CONVERSATION[:upto], **arguments)
            assert ours == qwen_tokenizer.apply_chat_template(CONVERSATION[:upto], **arguments)


def test_a_template_that_loses_words_or_calls_is_refused(qwen_tokenizer):
    import copy

    hybrid = copy.deepcopy(qwen_tokenizer)
    hybrid.chat_template = trl_template("qwen3").replace("content.lstrip", "content.upper().lstrip")
    with pytest.raises(TemplateError, match="loses what a turn said"):
        ChatRenderer(hybrid, TOOLS)


def test_a_tokenizer_without_the_end_token_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])), unk_token="a")
    with pytest.raises(TemplateError, match=r"no <\|im_end\|> token"):
        ChatRenderer(bare, None)


def test_bundled_tokenizer_is_byte_complete(tokenizer):
    assert len(tokenizer) == 1536
    for text in ("héllo 🎉 \x00\x7f \u202e", json.dumps({"a": "W17"}), "clamp lamp $40 $400 W170", "\r\n\t  "):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_what_an_agent_hears_is_what_tau2_would_dump_of_it():
    call = bench.ToolCall(id="1", name="look", arguments={"a": [1, {"b": None}]}, requestor="user")
    heard = [
        bench.AssistantMessage(role="assistant", content="Hi", cost=0.0),
        bench.AssistantMessage(role="assistant", content=None, tool_calls=[call, call]),
        bench.AssistantMessage(role="assistant", content="", tool_calls=[]),
        bench.UserMessage(role="user", content=None, tool_calls=[call]),
        bench.UserMessage(role="user", content="é"),
        bench.ToolMessage(id="1", role="tool", content="{}", requestor="user", error=True),
        bench.ToolMessage(id="1", role="tool", requestor="assistant"),
    ]
    fields = {"role", "content", "tool_calls", "requestor"}
    assert as_json(heard) == [message.model_dump(include=fields) for message in heard]


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_are_decoded_as_the_tokenizer_does(any_tokenizer, data):
    """Halves of characters, special tokens and ids beyond the vocabulary among them."""
    renderer = ChatRenderer(any_tokenizer, None)
    some = st.integers(0, len(any_tokenizer) + 5)
    written = st.sampled_from(["é", "日本", "🙂", " a", "\n", "\ufffd", "<|im_end|>"])
    pieces = st.one_of(
        some.map(lambda i: [i]), written.map(lambda t: any_tokenizer.encode(t, add_special_tokens=False))
    )
    ids = [i for piece in data.draw(st.lists(pieces, max_size=8)) for i in piece]
    cut = data.draw(st.integers(0, len(ids)))
    for part in (ids, ids[:cut], ids[cut:]):
        assert renderer.decode(part) == any_tokenizer.decode(part, skip_special_tokens=False)
