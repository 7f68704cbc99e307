import json

import pytest
from fake_policy import FakePolicy, teacher_reply

from slime_tau2 import files
from slime_tau2.data import rejection, tasks, teacher_traces, traces
from slime_tau2.episode import driver
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.recorder import Recorder
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.episode.users import DomainUser
from slime_tau2.errors import ConfigError


async def test_a_tokenised_trace_equals_the_ledger_of_the_same_episode(helpdesk, chat, tokenizer):
    """SFT sees the very ids that a rollout records (where the policy writes as the tokenizer would)."""
    async with FakePolicy(tokenizer, teacher_reply(flaws=1.0)) as fake:
        client = PolicyClient(fake.url)
        for n, task_id in enumerate(("orders_7", "refunds_2", "phones_9", "phones_11", "orders_1")):
            recorder = Recorder(
                client=client,
                chat=chat,
                sampling={},
                max_turn_tokens=99,
                max_response_tokens=2000,
                max_context_tokens=30_000,
            )
            agent = TokenAgent(recorder=recorder, system_prompt="Help.")
            episode = await driver.run_episode(helpdesk, task_id, agent, DomainUser(), seed=n)
            (row,) = traces.tokenise(traces.to_row(episode, "Help.", helpdesk.tool_schemas), chat)
            assert row.tokens == agent.segments[0].tokens and row.loss_mask == agent.segments[0].loss_mask
        await client.close()


def test_teacher_rows_are_slimes_sft_rows(helpdesk, chat):
    rows, reward = teacher_traces.collect(30, flaws=1.0, seed=1, split="train", advance=lambda done, note: None)
    assert len(rows) == 30 and 0.4 < reward < 1.0
    for row in rows:
        assert (
            row["messages"][0]["role"] == "system"
            and row["messages"][-1]["role"] == "assistant"
            and json.loads(row["tools"]) == helpdesk.tool_schemas
        )
        assert sum(traces.tokenise(row, chat)[0].loss_mask) > 0
    again, _ = teacher_traces.collect(30, flaws=1.0, seed=1, split="train", advance=lambda done, note: None)
    assert json.dumps(rows) == json.dumps(again), "a seed gives the same traces"


def test_rows_that_train_nothing_are_refused(chat):
    with pytest.raises(ConfigError, match="needs a user message"):
        traces.tokenise({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, chat)
    record = {
        "messages": [{"role": "assistant", "content": "Hi"}],
        "domain": "d",
        "task_id": "t",
        "reward": 0.0,
        "seed": 0,
    }
    assert traces.record_to_row(record, "p", []) is None


def test_jsonl_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    assert traces.write_jsonl(path, [{"a": 1}, {"b": "ü"}]) == 2 and [row for _, row in files.read_jsonl(path)] == [
        {"a": 1},
        {"b": "ü"},
    ]

    def broken():
        yield {"a": 2}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        traces.write_jsonl(path, broken())
    assert [row for _, row in files.read_jsonl(path)] == [{"a": 1}, {"b": "ü"}]
    path.write_text('{"a": 1}\n{oops\n')
    with pytest.raises(ConfigError, match="line 2: not JSON"):
        list(files.read_jsonl(path))
    with pytest.raises(ConfigError, match="does not exist"):
        list(files.read_jsonl(tmp_path / "none"))


def record(task, reward, partial=0.0):
    return {"domain": "d", "task_id": task, "reward": reward, "partial": partial}


def test_rejection_keeps_successes_else_the_best_good_partial():
    records = [
        record("a", 1.0, 1.0),
        record("a", 0.0, 0.9),
        record("a", 1.0, 1.0),
        record("b", 0.0, 0.7),
        record("b", 0.0, 0.8),
        record("c", 0.0, 0.5),
        record("d", None, None),
    ]
    chosen = rejection.select(records)
    assert chosen.records == [records[0], records[2], records[4]]
    assert (
        chosen.counts["attempts"] == 7 and chosen.counts["ended by infrastructure"] == 1 and chosen.counts["kept"] == 3
    )
    assert (
        chosen.counts["tasks"],
        chosen.counts["tasks with a success"],
        chosen.counts["tasks kept by partial score"],
    ) == (3, 1, 1)
    assert rejection.select(records, best=1).records == [records[0], records[4]]
    assert rejection.select(records, min_partial=0.5).records[-1] == records[5]
    assert rejection.select([record("a", 1.0, 1.0) | {"turns": [{"malformed": 1}]}]).counts["malformed"] == 1
    held = rejection.select(records, held={("d", "a"): "test", ("d", "c"): "val"})
    assert held.records == [records[4]] and (held.counts["of test tasks"], held.counts["of val tasks"]) == (3, 1)
    said = [{"role": "assistant", "content": "x"}]
    twice = [record("a", 1.0) | {"messages": said, "steps": n, "tool_errors": 0} for n in (9, 5)]
    assert rejection.select(twice).counts["duplicates"] == 1
    other = record("a", 1.0) | {"messages": [{"role": "assistant", "content": "y"}], "steps": 3, "tool_errors": 0}
    assert rejection.select([twice[0], other], best=1).records == [other], "the shorter one"


def test_prompt_rows_hold_ids_only():
    rows = list(tasks.rows(["helpdesk"], "test", repeat=2))
    assert len(rows) == 300 and rows[0] == {
        "prompt": "helpdesk/orders_250",
        "metadata": {"domain": "helpdesk", "task_id": "orders_250"},
    }
