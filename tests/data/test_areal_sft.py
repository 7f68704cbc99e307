"""AReaL's SFT rows: one turn in its context each, merged into conversations with a loss mask."""

import json

import pytest
from thinking_models import tokenizer_of

from slime_tau2.data import areal_rows, areal_sft, traces
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.errors import ConfigError

SYSTEM, HELLO = {"role": "system", "content": "Policy."}, {"role": "user", "content": "Cancel W1."}
CALL = {"name": "get_order", "arguments": {"order_id": "W1"}}
OPENAI = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": '{"order_id": "W1"}'}}
HISTORY = [
    SYSTEM,
    HELLO,
    {"role": "assistant", "content": None, "tool_calls": [OPENAI]},
    {"role": "tool", "tool_call_id": "c1", "content": "pending"},
    {"role": "assistant", "content": "Shall I?"},
    {"role": "user", "content": "Yes."},
    {"role": "assistant", "content": "Done."},
]
ANSWERS = {
    2: {"role": "assistant", "content": "", "thinking": "Look it up.", "tool_calls": [CALL]},
    4: {"role": "assistant", "content": "Shall I?", "thinking": ""},
    6: {"role": "assistant", "content": "Done."},
}


def row(index, correct=1, dialogue="retail_dialog_1", messages=None, answer=None, **metadata):
    metadata = {
        "source_dialog_id": dialogue,
        "turn_index": index // 2 - 1,
        "correct": correct,
        "reward": 1.0,
    } | metadata
    return {"messages": messages or HISTORY[:index], "answer": answer or ANSWERS[index], "metadata": metadata}


def merge(tmp_path, rows, **options):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found, merged = areal_sft.merge(tmp_path / "rows.jsonl", **options)
    return list(found), merged


def trained(row):
    return [n for n, m in enumerate(row["messages"]) if m.get("step_loss_mask")]


def test_rows_of_a_dialogue_are_one_conversation(tmp_path):
    """Not in order, and another dialogue's between them; calls flat and as OpenAI writes them."""
    other = row(2, dialogue="airline_dialog_1")
    rows, merged = merge(tmp_path, [row(4), other, row(6), row(2)])
    assert [(r["metadata"]["domain"], r["metadata"]["task_id"]) for r in rows] == [
        ("retail", "retail_dialog_1"),
        ("airline", "airline_dialog_1"),
    ]
    assert trained(rows[0]) == [2, 4, 6] and len(rows[0]["messages"]) == 7 and trained(rows[1]) == [2]
    assert rows[0]["messages"][2]["tool_calls"][0]["function"] == OPENAI["function"]
    assert merged.counts == {
        "rows": 4,
        "dialogues": 2,
        "failed turns": 0,
        "thoughts": 2,
        "duplicates": 0,
        "without a turn to train on": 0,
        "kept": 2,
    }
    whole = sum(len(areal_sft._text(areal_rows._message(m, ""))) for m in HISTORY)
    of_two, of_four = (sum(len(areal_sft._text(areal_rows._message(m, ""))) for m in HISTORY[: n + 1]) for n in (2, 4))
    assert merged.size_of_rows == whole + of_four + 2 * of_two and merged.size_merged == whole + of_two
    assert "as conversations: " in merged.saving("characters")


@pytest.mark.parametrize(
    "failed, lengths, marks", [("keep", [7], [[2, 4, 6]]), ("mask", [7], [[2, 6]]), ("drop", [3], [[2]])]
)
def test_failed_turns(tmp_path, failed, lengths, marks):
    rows, merged = merge(tmp_path, [row(2), row(4, correct=0), row(6)], failed=failed)
    assert [len(r["messages"]) for r in rows] == lengths and [trained(r) for r in rows] == marks
    assert merged.counts["failed turns"] == 1


def test_a_failed_end_is_no_part_of_a_masked_conversation(tmp_path):
    rows, _ = merge(tmp_path, [row(2), row(4), row(6, correct=False)])
    assert [len(r["messages"]) for r in rows] == [5], "nothing trains on what follows"
    rows, merged = merge(tmp_path, [row(2, correct=0)])
    assert rows == [] and merged.counts["without a turn to train on"] == 1
    assert merged.saving("characters") == "nothing was kept"


def test_another_answer_or_another_context_is_a_conversation_of_its_own(tmp_path):
    other = {"role": "assistant", "content": "No."}
    elsewhere = [SYSTEM, {"role": "user", "content": "Cancel W2."}]
    rows, merged = merge(
        tmp_path, [row(6), row(4), row(4, answer=other), row(2, messages=elsewhere), row(4), row(2), row(2)]
    )
    assert [(len(r["messages"]), trained(r)) for r in rows] == [(7, [2, 4, 6]), (5, [4]), (3, [2])]
    assert merged.counts["dialogues"] == 1 and merged.counts["kept"] == 3


def test_a_turn_without_a_row_trains_nothing(tmp_path):
    rows, _ = merge(tmp_path, [row(6)])
    assert trained(rows[0]) == [6]


def test_equal_conversations_count_once(tmp_path):
    rows, merged = merge(tmp_path, [row(2), row(2, dialogue="retail_dialog_2")])
    assert len(rows) == 1 and merged.counts["duplicates"] == 1


@pytest.mark.parametrize("key, domain", areal_rows.MARKS.items())
def test_the_domain_is_told_by_the_metadata(tmp_path, key, domain):
    assert merge(tmp_path, [row(2, dialogue="17", **{key: 3})])[0][0]["metadata"]["domain"] == domain
    with pytest.raises(ConfigError, match="line 1: neither metadata nor source_dialog_id says the domain"):
        merge(tmp_path, [row(2, dialogue="17")])
    assert merge(tmp_path, [row(2, dialogue="17")], domain="mine")[0][0]["metadata"]["domain"] == "mine"


def test_what_is_merged_is_trained_exactly_on_its_turns(tmp_path, chat):
    rows, _ = merge(tmp_path, [row(2), row(4, correct=0), row(6)])
    (tokens,) = traces.tokenise(traces.checked(rows[0], "here"), chat)
    text = chat.tokenizer.decode([t for t, m in zip(tokens.tokens[-len(tokens.loss_mask) :], tokens.loss_mask) if m])
    assert "get_order" in text and "Done." in text and "Shall" not in text and "Yes" not in text


def test_thoughts_stand_before_the_turns_that_train(tmp_path):
    """A row has its own turn's thought alone; the first of two is taken, and a muted turn keeps none."""
    last = {**ANSWERS[6], "thinking": " It is done.\n"}
    again = {**last, "thinking": "Otherwise."}
    rows, merged = merge(tmp_path, [row(6, answer=last), row(6, answer=again), row(4), row(2)])
    assert [m.get("reasoning_content") for m in rows[0]["messages"]][2::2] == ["Look it up.", None, "It is done."]
    assert merged.counts["thoughts"] == 2 and merged.counts["kept"] == 1
    rows, merged = merge(tmp_path, [row(6, answer=last), row(2, correct=0)])
    assert [m.get("reasoning_content") for m in rows[0]["messages"]][2::2] == [None, None, "It is done."]
    assert merged.counts["thoughts"] == 1


def test_thoughts_are_trained_where_the_template_shows_them(tmp_path, qwen_tokenizer):
    rows, _ = merge(tmp_path, [row(2), row(4), row(6, answer={**ANSWERS[6], "thinking": "It is done."})])
    tokenizer, _ = tokenizer_of(qwen_tokenizer, "qwen3")
    first, second = traces.tokenise(traces.checked(rows[0], "here"), ChatRenderer(tokenizer, None))
    assert [bool(n) for n in first.thoughts + second.thoughts] == [True, False, True]
    assert "Look it up." in tokenizer.decode(first.tokens) and "Look it up." not in tokenizer.decode(second.tokens)


@pytest.mark.parametrize(
    "harm, said",
    [
        ({"metadata": None}, "line 2: no metadata in it"),
        ({"metadata": {"source_dialog_id": "a", "correct": "yes"}}, "line 2: metadata has no source_dialog_id, or no"),
        ({"messages": []}, "line 2: messages is no list of chat messages"),
        ({"messages": [{"role": "agent"}]}, "line 2: message 0: no chat message"),
        ({"messages": [{"role": "user", "content": 3}]}, "line 2: message 0: content is int, and not text"),
        ({"answer": None}, "line 2: no answer in it"),
        ({"answer": {"tool_calls": [{"arguments": {}}]}}, "line 2: answer: a tool call without a name"),
        ({"answer": {"tool_calls": "none"}}, "line 2: answer: tool_calls is no list"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path, harm, said):
    with pytest.raises(ConfigError, match=said):
        merge(tmp_path, [row(2), row(4) | harm])


def test_the_command(tmp_path, cli):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row(n, correct=n < 6)) + "\n" for n in (2, 4, 6)))
    command = ["import-sft", tmp_path / "rows.jsonl", "--format", "areal", "--output", tmp_path / "out.jsonl"]
    code, out, _ = cli(*command)
    assert code == 0 and "rows 3, dialogues 1, failed turns 1" in out and "characters row by row" in out
    (line,) = traces.read_rows(tmp_path / "out.jsonl")
    assert trained(line) == [2, 4]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(2, correct=0)) + "\n")
    (tmp_path / "out.jsonl").unlink()
    code, out, error = cli(*command)
    assert code == 2 and "no conversation has a turn to train on" in error and not (tmp_path / "out.jsonl").exists()
    assert "--failed some: there are drop, mask, keep" in cli(*command, "--failed", "some")[2]
    assert "--format other: there are rows and areal" in cli(*command[:3], "other", *command[4:])[2]


@pytest.mark.parametrize(
    "form, given, why",
    [
        ("areal", ["--split", "train+val"], "--split: the rows of the areal format name no task"),
        ("areal", ["--task-set", "sets/x"], "--task-set: the rows of the areal format name no task"),
        ("areal", ["--unverified"], "--unverified: the rows of the areal format name no task"),
        ("areal", ["--unchecked"], "--unchecked: the rows of the areal format name no task"),
        ("rows", ["--failed", "drop"], "--failed: it is an option of --format areal; leave it out"),
        ("rows", ["--tokenizer", "model"], "--tokenizer: it is an option of --format areal; leave it out"),
    ],
)
def test_an_option_of_the_other_format_is_refused(tmp_path, cli, form, given, why):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(2)) + "\n")
    output = tmp_path / "out.jsonl"
    code, _, error = cli("import-sft", tmp_path / "rows.jsonl", "--format", form, "--output", output, *given)
    assert code == 2 and error.startswith(f"error: {why}") and not output.exists()
