"""SFT rows from a teacher's server, from published files and from attempts, and the checks that all of them pass."""

import json
import re
from types import SimpleNamespace

import pytest
import run_files
from fake_openai import FakeOpenAI
from serving import Serving

from slime_tau2.data import sft, traces
from slime_tau2.data.held_out import held_out
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.errors import ConfigError


@pytest.fixture
def run(cli):
    """`run(*arguments)`: exit_code, and output of both streams."""

    def call(*arguments):
        code, out, err = cli(*arguments)
        return SimpleNamespace(exit_code=code, output=out + err)

    return call


def teaching(flaws=0.0):
    """A chat-completions server with the helpdesk teacher's manners."""
    teachers = {}

    def answer(body):
        heard = [m for m in body["messages"] if m["role"] in ("user", "tool")]
        key = (heard[0]["content"], body.get("seed"))  # a probe has none
        if key not in teachers:
            teachers[key] = Teacher(f"{len(teachers)}", flaws)
        text = heard[-1]["content"]
        said = teachers[key].act(text, heard[-1]["role"] == "tool" and text.startswith("Error"))
        return [(c.name, json.dumps(c.arguments)) for c in said.tool_calls] if said.tool_calls else said.content

    return answer


def test_collect_from_an_api(run, tmp_path, chat, helpdesk):
    out = tmp_path / "rows.jsonl"
    with Serving(FakeOpenAI(teaching())) as fake:
        command = [
            "collect",
            "--domain",
            "helpdesk",
            "--policy",
            fake.url,
            "--model",
            "teacher-1",
            "--output",
            str(out),
            "--user",
            "scripted",
        ]
        done = run(*command)
        assert done.exit_code == 0, done.output
        asked = len(fake.bodies)
        assert fake.bodies[1]["model"] == "teacher-1" and fake.bodies[1]["tools"] == helpdesk.tool_schemas, (
            "after the probe"
        )
        results = [m for b in fake.bodies for m in b["messages"] if m["role"] == "tool"]
        assert results and all(re.fullmatch(r"call_\d+", m["tool_call_id"]) for m in results)
        rows = list(traces.read_rows(out))
        assert len(rows) > 560 and {r["metadata"]["task_id"] for r in rows} <= set(helpdesk.task_ids("train"))
        assert all(r["metadata"]["reward"] == 1.0 and sum(traces.tokenise(r, chat)[0].loss_mask) for r in rows[:20])
        assert run(*command).exit_code == 0 and len(fake.bodies) == asked, "what is there is not asked for again"
    bad = run("collect", "--policy", "http://127.0.0.1:9/v1", "--output", str(out))
    assert bad.exit_code == 2 and "name its model with --model" in bad.output


def test_rows_are_slimes_format_and_load_with_datasets(tmp_path, helpdesk):
    record = {
        "domain": "helpdesk",
        "task_id": "orders_1",
        "reward": 1.0,
        "seed": 1,
        "partial": 1.0,
        "turns": [],
        "messages": [
            {"role": "assistant", "content": "Hi! How can I help?"},
            {"role": "user", "content": "two please"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"name": "get_order", "arguments": {"order_id": "é"}},
                    {"name": "swap_item", "arguments": {"n": 1}},
                ],
            },
            {"role": "tool", "content": "r1"},
            {"role": "tool", "content": "r2"},
            {"role": "assistant", "content": "done"},
        ],
    }
    rows = [
        traces.record_to_row(record, "policy", helpdesk.tool_schemas),
        traces.record_to_row(record | {"task_id": "b"}, "policy", []),
    ]
    greeting, call, results, last = (rows[0]["messages"][n] for n in (1, 3, 4, 5))
    assert (greeting["step_loss_mask"], call["step_loss_mask"], last["step_loss_mask"]) == (0, 1, 1)
    assert call["tool_calls"][0]["function"]["arguments"] == '{"order_id": "é"}'
    assert results == {"role": "tool", "content": "r1\n</tool_response>\n<tool_response>\nr2"}
    path = tmp_path / "rows.jsonl"
    traces.write_jsonl(path, rows)
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 2 and json.loads(loaded[0]["tools"]) == helpdesk.tool_schemas
    back = [{k: v for k, v in m.items() if v is not None} for m in loaded[0]["messages"]]
    assert back == rows[0]["messages"], "what was written comes back, nothing merged into it"


def test_one_message_of_tool_results_renders_as_two(qwen_tokenizer):
    """slime v0.3.1 renders each tool message as a turn of its own; of one message it can make only one."""
    head = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    several = [
        *head,
        {"role": "tool", "content": "r1"},
        {"role": "tool", "content": "r2"},
        {"role": "tool", "content": "r3"},
    ]
    render = lambda m: qwen_tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True)  # noqa: E731
    assert render(several) == render(traces.row_messages(several))


def test_arguments_as_text_are_the_tokens_of_arguments_as_values(qwen_tokenizer, chat):
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": "ü", "b": [1, 2.5, None]}}}],
    }
    (row,) = traces.row_messages([message])
    for tokenizer in (qwen_tokenizer, chat.tokenizer):
        user = {"role": "user", "content": "u"}
        assert tokenizer.apply_chat_template([user, message]) == tokenizer.apply_chat_template([user, row])


def conversation(text="go"):
    return [
        {"role": "system", "content": "s"},
        {"role": "user", "content": text},
        {"role": "assistant", "content": "ok"},
    ]


def test_import_leaves_test_tasks_and_repetitions_out(run, tmp_path, helpdesk):
    source, out = tmp_path / "published.jsonl", tmp_path / "rows.jsonl"
    train, test, val = (helpdesk.task_ids(s)[0] for s in ("train", "test", "val"))
    rows = [
        {"messages": conversation(), "metadata": {"domain": "helpdesk", "task_id": train}},
        {
            "messages": conversation(),
            "metadata": json.dumps({"domain": "helpdesk", "task_id": train}),
        },  # the same again
        {"messages": conversation("other"), "domain": "helpdesk", "task_id": test},
        {"messages": conversation("chosen by"), "domain": "helpdesk", "task_id": val},
        {"prompt": conversation("third"), "task_id": train, "domain": "helpdesk"},
        {"prompt": json.dumps([{"role": "user", "content": "nobody answers"}]), "domain": "helpdesk", "task_id": train},
    ]
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = run("import-sft", str(source), "--output", str(out))
    assert (
        done.exit_code == 0
        and "of test tasks 1, of val tasks 1, duplicates 1, without an agent turn 1, unchecked 0, kept 2" in done.output
    )
    assert [r["messages"][1]["content"] for r in traces.read_rows(out)] == ["go", "third"]
    assert run("import-sft", str(source), "--output", str(out), "--split", "train+val").exit_code == 0
    assert [r["messages"][1]["content"] for r in traces.read_rows(out)] == ["go", "chosen by", "third"]
    source.write_text(json.dumps({"messages": conversation(), "task_id": train}) + "\n")
    bad = run("import-sft", str(source), "--output", str(out))
    assert bad.exit_code == 2 and "row 1: no domain and task_id" in bad.output and "--unchecked" in bad.output
    assert run("import-sft", str(source), "--output", str(out), "--domain", "helpdesk").exit_code == 0
    assert run("import-sft", str(source), "--output", str(out), "--unchecked").exit_code == 0
    source.write_text(json.dumps({"text": "x", "domain": "helpdesk", "task_id": train}) + "\n")
    with pytest.raises(
        ConfigError, match=r"neither `messages` nor `prompt` holds a list of chat messages; columns: text"
    ):
        sft.import_rows(source)


def test_parquet_is_read_too(tmp_path, helpdesk):
    pa = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    import pyarrow.parquet as parquet

    row = {"messages": conversation(), "domain": "helpdesk", "task_id": helpdesk.task_ids("train")[0]}
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
    rows, counts = sft.import_rows(tmp_path / "x.parquet")
    assert counts["kept"] == 1 and rows[0]["messages"][2] == {"role": "assistant", "content": "ok", "step_loss_mask": 1}


def test_check_finds_what_slime_would_train_on_silently(run, tmp_path, helpdesk, tokenizer):
    train, test, val = (helpdesk.task_ids(s)[0] for s in ("train", "test", "val"))
    good = {
        "messages": traces.row_messages(conversation()),
        "tools": "[]",
        "metadata": {"domain": "helpdesk", "task_id": train},
    }
    muted = {**good, "messages": [{**m, "step_loss_mask": 0} for m in good["messages"]]}
    of_val = {**good, "metadata": {"domain": "helpdesk", "task_id": val}}
    rows = [
        good,
        muted,
        {**good, "metadata": {"domain": "helpdesk", "task_id": test}},
        of_val,
        {**good, "messages": traces.row_messages(conversation("long " * 300))},
    ]
    path = tmp_path / "rows.jsonl"
    traces.write_jsonl(path, rows)
    done = run("check-sft", str(path), "--tokenizer", str(TOKENIZER), "--max-tokens", "200")
    assert (
        done.exit_code == 2
        and "rows 5, of test tasks 1, of val tasks 1, without a trained token 1, too long 1" in done.output
        and "4 of 5 rows" in done.output
    )
    clean = tmp_path / "clean.jsonl"
    assert (
        run(
            "check-sft", str(path), "--tokenizer", str(TOKENIZER), "--max-tokens", "200", "--output", str(clean)
        ).exit_code
        == 0
    )
    assert list(traces.read_rows(clean)) == [good]
    check = ("check-sft", str(clean), "--tokenizer", str(TOKENIZER))
    assert run(*check).exit_code == 0
    traces.write_jsonl(clean, [of_val])
    assert run(*check, "--split", "train+val").exit_code == 0
    odd = run(*check, "--split", "test")
    assert odd.exit_code == 2 and "--split test: train, or train+val" in odd.output
    alone = run(*check, "--output", str(tmp_path / "none.jsonl"))
    assert (
        alone.exit_code == 2 and "holds no row to train on" in alone.output and not (tmp_path / "none.jsonl").exists()
    )
    clean.write_text("")
    empty = run(*check)
    assert empty.exit_code == 2 and f"{clean} holds no row to train on: it is empty" in empty.output


def test_what_is_held_out():
    assert held_out("mock") == {} and len(held_out("airline")) + len(held_out("helpdesk")) == 20 + 6 + 150 + 150
    assert set(held_out("airline", "train+val").values()) == {"test"} and len(held_out("airline", "train+val")) == 20


BY_GOLD = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "All done.  @@END"}]
TO_GOLD = [{"role": "user", "content": "Hi, I need some help please."}, {"role": "assistant", "content": "Done."}]


@pytest.mark.parametrize(
    "split, over, why",
    [
        (None, {}, "there is nothing in it; sample first"),
        ("train", {"reward": None, "reward_info": None, "partial": None}, "all 2 were ended by the infrastructure"),
        (
            "train",
            {"reward": 0.0, "reward_info": {"reward": 0.0}, "partial": 0.2},
            "no attempt at 2 tasks succeeded, or had the partial score of --min-partial",
        ),
        ("test", {}, "all 2 are of test tasks, which never train: sample with --split train"),
        ("val", {}, "all 2 are of val tasks, which choose checkpoints: --split train+val trains on them too"),
        ("train", {"messages": BY_GOLD}, "all 2 have a script for agent or user"),
        ("train", {"messages": TO_GOLD}, "all 2 have a script for agent or user"),
        ("train", {"turns": [run_files.TURN | {"malformed": 1}]}, "all 2 hold a call that could not be parsed"),
    ],
)
def test_nothing_to_write_is_an_error_that_says_why(run, tmp_path, helpdesk, split, over, why):
    source, out = tmp_path / "attempts.jsonl", tmp_path / "rows.jsonl"
    tasks = helpdesk.task_ids(split)[:2] if split else []
    source.write_text(
        "".join(
            json.dumps(run_files.record("helpdesk", t, 0, 1.0) | {"partial": 1.0, "messages": conversation(t)} | over)
            + "\n"
            for t in tasks
        )
    )
    done = run("rft", str(source), "--output", str(out))
    assert done.exit_code == 2 and not out.exists()
    assert f"no row qualified, {out} was not written: {why}" in done.output, done.output


def test_of_several_causes_each_is_said(run, tmp_path, helpdesk):
    source = tmp_path / "published.jsonl"
    ids = [helpdesk.task_ids(s)[0] for s in ("test", "val", "val")]
    source.write_text(
        "".join(json.dumps({"messages": conversation(t), "domain": "helpdesk", "task_id": t}) + "\n" for t in ids)
    )
    done = run("import-sft", str(source), "--output", str(tmp_path / "rows.jsonl"))
    assert (
        done.exit_code == 2
        and "1 are of test tasks, which never train" in done.output
        and "; 2 are of val tasks" in done.output
    )


@pytest.mark.parametrize(
    "options, why",
    [
        (("--policy", "gold"), "--policy gold is a script, whose words are no training data; name a model"),
        (("--policy", "http://127.0.0.1:9/v1", "--model", "m", "--user", "gold"), "--user gold is a script"),
        (("--policy", "http://127.0.0.1:9/v1", "--model", "m", "--set", "user=gold"), "--user gold is a script"),
        (("--set", "nonsense=1"), "--set nonsense=1: unknown key nonsense"),
        (("--set", "max_steps=3"), "--set max_steps: --policy teacher is a script and does not read it"),
        (("--best", "7"), "--best: --policy teacher is a script and does not read it; leave it out"),
        (("--model", "zzz"), "--model: --policy teacher is a script and does not read it; leave it out"),
        (
            ("--policy", "http://127.0.0.1:9/v1", "--model", "m", "--flaws", "0"),
            "--flaws: it is an option of --policy teacher; leave it out",
        ),
        (("--policy", "gold", "--episodes", "3"), "--episodes: it is an option of --policy teacher; leave it out"),
        (
            ("--policy", "teacher", "--split", "test"),
            "--split test of helpdesk: none of its tasks may train; use train, or train+val",
        ),
        (("--policy", "teacher", "--split", "val"), "--split val of helpdesk: none of its tasks may train"),
    ],
)
def test_collect_refuses_what_can_train_nothing_before_it_samples(run, tmp_path, options, why):
    done = run("collect", *options, "--output", str(tmp_path / "rows.jsonl"))
    assert done.exit_code == 2 and why in done.output and not list(tmp_path.iterdir())
