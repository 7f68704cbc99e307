"""Rows with thoughts: sequences that train each turn once, behind exactly what the model would be served."""

import json

import pytest
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy, teacher_reply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Serving
from thinking_models import FAMILIES, thinking_teacher, tokenizer_of, without_end

from slime_tau2.data import rejection, sft, traces
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import driver, thoughts
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.episode.recorder import Recorder
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.episode.users import DomainUser
from slime_tau2.errors import ConfigError, TemplateError

NATIVE = ("qwen3", "qwen3 on", "qwen3 off", "qwen3 2507")
"""Families whose templates write calls as `tau2_protocol: native` reads them."""


def renderer(plain, family, tools=None):
    tokenizer, thinking = tokenizer_of(plain, family)
    if family.startswith("glm"):
        tokenizer = without_end(tokenizer)
    return ChatRenderer(tokenizer, tools, thinking)


@pytest.fixture(scope="module", params=FAMILIES)
def any_chat(request, qwen_tokenizer):
    return renderer(qwen_tokenizer, request.param)


words = st.text(st.characters(codec="utf-8", exclude_characters="<\x00"), min_size=1, max_size=12).map(
    lambda t: f"a{t}"
)
turns = st.lists(st.tuples(st.none() | words, words, st.booleans(), words, st.booleans()), min_size=1, max_size=5)


def conversation(turns):
    """Chat messages: each turn's thought, words, whether a tool answers, the answer, and whether it trains."""
    out = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}]
    for thought, text, tool, answer, trains in turns:
        message = {"role": "assistant", "content": text, "step_loss_mask": int(trains)}
        out += [message, {"role": "tool" if tool else "user", "content": answer}]
        if thought is not None:
            message["reasoning_content"] = thought
    return out[:-1]


def spoken(chat, messages):
    """[(prompt's ids, turn's text, whether it trains)] of each turn, one rendering each."""
    out, said = [], []
    for message in messages:
        if message["role"] != "assistant":
            said.append(message)
            continue
        text = chat.decode(chat.turn(traces._sayable(message, chat))[:-1])
        out.append((chat.render(said, chat.tools, True), text, message["step_loss_mask"] == 1))
        said.append({"role": "assistant", "content": chat.opening + text})
    return out


def trained(chat, sequence):
    """[(text before, text)] of each stretch that trains."""
    start, out = len(sequence.tokens) - len(sequence.loss_mask), []
    for n, bit in enumerate(sequence.loss_mask):
        if bit and (n == 0 or not sequence.loss_mask[n - 1]):
            end = next((m for m in range(n, len(sequence.loss_mask)) if not sequence.loss_mask[m]), None)
            ids = sequence.tokens[start + n : None if end is None else start + end]
            out.append((chat.decode(sequence.tokens[: start + n]), ids))
    return out


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(turns)
def test_each_turn_trains_once_behind_one_rendering(any_chat, given):
    messages = conversation(given)
    found = [piece for one in traces.tokenise({"messages": messages}, any_chat) for piece in trained(any_chat, one)]
    wanted = [(prompt, text) for prompt, text, trains in spoken(any_chat, messages) if trains]
    assert [(before, any_chat.decode(ids[:-1])) for before, ids in found] == wanted
    assert all(ids[-1] in any_chat.ends for _, ids in found)
    for (_, text), (thought, said, _, _, _) in zip(wanted, [t for t in given if t[4]]):
        shown = thoughts.split(any_chat.opening + text)
        assert shown[1].strip() == said.strip()
        assert shown[0] == ("" if thought is None or thoughts.CLOSE in any_chat.opening else thought.strip())


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(turns)
def test_masked_thoughts_change_nothing_but_the_mask(any_chat, given):
    row = {"messages": conversation(given)}
    whole, spared = (traces.tokenise(row, any_chat, train_thinking=switch) for switch in (True, False))
    assert [one.tokens for one in whole] == [one.tokens for one in spared]
    assert [one.thoughts for one in whole] == [one.thoughts for one in spared]
    for one, other in zip(whole, spared):
        kept = "".join(any_chat.decode(ids) for _, ids in trained(any_chat, other))
        assert thoughts.CLOSE not in kept
        assert sum(one.loss_mask) - sum(other.loss_mask) >= sum(one.thoughts)


async def test_rows_of_a_record_are_the_episodes_segments(helpdesk, qwen_tokenizer):
    """What a thinking policy sampled by tokens, and what its record's row trains: id for id."""
    for family in NATIVE:
        tokenizer, thinking = tokenizer_of(qwen_tokenizer, family)
        chat = ChatRenderer(tokenizer, helpdesk.tool_schemas, thinking)
        think = thoughts.CLOSE not in chat.opening
        segments = 0
        async with FakePolicy(tokenizer, (thinking_teacher if think else teacher_reply)(flaws=1.0)) as fake:
            client = PolicyClient(fake.url)
            for n, task_id in enumerate(("orders_7", "refunds_2", "phones_9")):
                recorder = Recorder(
                    client=client,
                    chat=chat,
                    sampling={},
                    max_turn_tokens=200,
                    max_response_tokens=9000,
                    max_context_tokens=30_000,
                )
                agent = TokenAgent(recorder=recorder, system_prompt="Help.")
                episode = await driver.run_episode(helpdesk, task_id, agent, DomainUser(), seed=n)
                row = traces.to_row(episode, "Help.", helpdesk.tool_schemas)
                row = traces.checked(json.loads(json.dumps(row)), "here")
                found = traces.tokenise(row, chat)
                assert [one.tokens for one in found] == [s.tokens for s in episode.segments]
                assert [one.loss_mask for one in found] == [s.loss_mask for s in episode.segments]
                assert sum(len(one.thoughts) for one in found) == len(episode.turns)
                assert all(bool(t) is think for one in found for t in one.thoughts)
                segments += len(found)
            await client.close()
        assert segments > 3, "history was rewritten"


def test_a_thought_of_the_cards_protocol_stands_before_its_turns_first_call():
    calls = [{"id": n, "name": "look", "arguments": {"n": n}} for n in "ab"]
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Done."},
    ]
    record = {"domain": "d", "task_id": "t", "reward": 1.0, "seed": 1, "messages": messages}
    record["reasoning"] = [
        {"role": "user", "message": 0, "text": "the user's"},
        {"role": "policy", "message": 1, "text": "first"},
        {"role": "policy", "message": 1, "text": "again"},
        {"role": "policy", "message": 4, "text": "last"},
    ]
    for protocol, expected in (("native", ["first\nagain", "last"]), ("card", ["first\nagain", None, "last"])):
        row = traces.record_to_row(record, "Help.", None, PROTOCOLS[protocol])
        said = [m.get("reasoning_content") for m in row["messages"] if m["role"] == "assistant"]
        assert said == expected
        assert not any("reasoning_content" in m for m in row["messages"] if m["role"] != "assistant")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "content"])
def test_collect_keeps_a_teachers_reasoning(cli, tmp_path, field, qwen_tokenizer, helpdesk):
    """Where the server's parser puts it, and where it leaves it in the text; by the two commands that collect runs."""
    from aiohttp import web

    teachers = {}

    def answer(body):
        heard = [m for m in body["messages"] if m["role"] in ("user", "tool")]
        key = (heard[0]["content"], body.get("seed"))
        teacher = teachers.setdefault(key, Teacher(f"{len(teachers)}", 0.0))
        text = heard[-1]["content"]
        said = teacher.act(text, heard[-1]["role"] == "tool" and text.startswith("Error"))
        calls = [
            {"id": f"x{n}", "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for n, c in enumerate(said.tool_calls or [])
        ]
        message = {"role": "assistant", "content": said.content, "tool_calls": calls or None}
        thought = f"After {text[:20].strip()!r}."
        if field == "content":
            message["content"] = f"<think>\n{thought}\n</think>\n\n{said.content or ''}"
        else:
            message[field] = thought
        return web.json_response({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})

    out = tmp_path / "rows.jsonl"
    with Serving(FakeOpenAI(answer)) as fake:
        tasks = ["--domain", "helpdesk", "--split", "train", "--task", "orders_1", "--task", "orders_7"]
        policy = ["--policy", fake.url, "--model", "m", "--user", "scripted"]
        code, *said = cli("eval", *tasks, *policy, "--output", str(tmp_path / "run"))
    assert code == 0, said
    code, *said = cli("rft", str(tmp_path / "run" / "attempts.jsonl"), "--output", str(out))
    assert code == 0, said
    rows = list(traces.read_rows(out))
    assert len(rows) == 2
    for row in rows:
        heard = None
        for message in row["messages"]:
            if message["role"] != "assistant":
                heard = message["content"]
            elif message["step_loss_mask"]:
                assert message["reasoning_content"] == f"After {heard[:20].strip()!r}."
                assert "think" not in message["content"]
    tokenizer, _ = tokenizer_of(qwen_tokenizer, "qwen3")
    tokenizer.save_pretrained(tmp_path / "model")
    turns = sum(m.get("step_loss_mask", 0) for row in rows for m in row["messages"])
    code, shown, _ = cli("check-sft", str(out), "--tokenizer", str(tmp_path / "model"))
    assert code == 0 and f"sequences train {turns} turns, {turns} of them with a thought" in shown
    code, shown, _ = cli("check-sft", str(out), "--tokenizer", str(tmp_path / "model"), "--set", "thinking=off")
    assert code == 0 and f"{turns} turns, 0 of them with a thought; {turns} thoughts left out" in shown


def test_check_counts_sequences_and_names_a_row_that_the_template_refuses(tmp_path, qwen_tokenizer):
    rows = tmp_path / "rows.jsonl"
    messages = conversation([("why", "a", True, "found", True), ("so", "b", False, "thanks", True)] * 2)
    assert traces.write_jsonl(rows, [{"messages": messages}, {"messages": messages[:2]}]) == 2
    tokenizer, _ = tokenizer_of(qwen_tokenizer, "qwen3")
    found = sft.check(rows, tokenizer, 1000)
    assert (found.sequences, found.turns, found.thoughts, found.left_out) == (2, 4, 4, 0)
    assert found.counts["without a trained token"] == 1 and found.longest < found.tokens < 2 * found.longest
    assert sft.check(rows, tokenizer, found.longest).counts["too long"] == 0
    assert sft.check(rows, tokenizer, found.longest - 1).counts["too long"] == 1
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages[2]["tool_calls"] = [call]
    traces.write_jsonl(rows, [{"messages": messages}])
    glm, _ = tokenizer_of(qwen_tokenizer, "glm")
    with pytest.raises(TemplateError, match=r"row 1: the chat template of .* takes no such turn"):
        sft.check(rows, without_end(glm), 1000)


def test_attempts_with_other_thoughts_and_equal_words_count_once():
    record = {
        "domain": "d",
        "task_id": "t",
        "reward": 1.0,
        "partial": 1.0,
        "messages": [{"role": "assistant", "content": "x"}],
        "reasoning": [{"role": "policy", "message": 0, "text": "a"}],
    }
    other = record | {"reasoning": [{"role": "policy", "message": 0, "text": "b"}]}
    chosen = rejection.select([record, other])
    assert chosen.records == [record] and chosen.counts["duplicates"] == 1


def test_a_row_without_a_turn_is_refused(any_chat):
    with pytest.raises(ConfigError, match="needs a user message and an assistant message after it"):
        traces.tokenise({"messages": conversation([])}, any_chat)
