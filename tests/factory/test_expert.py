"""The scripted expert's conversations: they earn all, know nothing that nobody said, and keep to the policy's manners."""

import asyncio
import json
import re
from collections import Counter

import expert_played
import pytest
from grounded import ungrounded

from slime_tau2 import bench
from slime_tau2.data import traces as rows
from slime_tau2.episode import worlds
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.errors import ConfigError, FactoryError
from slime_tau2.evaluation import runs
from slime_tau2.factory import build, experts, sets, traces
from slime_tau2.factory.dialogue import Answer, Result, Say, Stage, Use, use
from slime_tau2.factory.draft import read
from slime_tau2.factory.expert import TRANSFERRED
from slime_tau2.factory.voice import Voice, first_person

COUNT = 150
WORDS_OF_ITS_OWN = {
    "transfer_to_human_agents": ["summary"],
    "book_reservation": ["flight_type", "cabin", "insurance"],
}
"""Arguments that are the agent's own words, or codes for what was said in others."""


@pytest.fixture(scope="module", params=experts.DOMAINS)
def domain(request):
    return request.param


@pytest.fixture(scope="module")
def played(domain):
    return expert_played.play(domain, COUNT, seed=3)


@pytest.fixture(scope="module")
def drafts(domain):
    made = build.make(domain, round(COUNT * traces.SPARE) + 10, 3)
    return {m.task["id"]: m.draft for m in made}


def agent_turns(episode):
    return [m for m in episode.messages if m["role"] == "assistant"]


def test_each_conversation_earns_all_and_its_task_is_not_held_out(domain, played, drafts):
    assert len(played.episodes) == COUNT
    assert all(episode.reward == 1.0 for episode in played.episodes)
    for episode in played.episodes:
        assert not build.held_out(domain, drafts[episode.task.task_id].owner)
    tests = set(worlds.load(domain).splits.get("test", ()))
    assert not tests & {episode.task.task_id for episode in played.episodes}


def test_the_agent_knows_what_was_said_or_returned_and_nothing_else(domain, played):
    for episode in played.episodes:
        missing = ungrounded(
            episode.messages, policy=played.world.policy, free=WORDS_OF_ITS_OWN, sums=domain == "telecom"
        )
        assert not missing, (episode.task, missing)


def test_one_call_per_turn_and_no_words_beside_it(played):
    for episode in played.episodes:
        for message in agent_turns(episode):
            calls = message.get("tool_calls") or []
            assert len(calls) <= 1
            assert bool(calls) != bool(message.get("content")), (episode.task, message)


def test_a_write_follows_a_listing_and_a_yes(played, drafts):
    """The last words before a write, or a row of them, are the user's yes to details that name what is done."""
    for episode in played.episodes:
        gold = {call.name for call in drafts[episode.task.task_id].writes() if call.requestor == "assistant"}
        words = []
        for message in episode.messages:
            if message["role"] in ("assistant", "user") and message.get("content"):
                words.append(message)
            for call in message.get("tool_calls") or []:
                if message["role"] == "assistant" and call["name"] in gold - NO_LISTING:
                    assert re.search(r"\b(yes|correct|ok|sure)\b", words[-1]["content"].lower()), (
                        episode.task,
                        words[-1],
                    )
                    assert re.search(r"\byes\b", words[-2]["content"]), (episode.task, words[-2])
                    listed = "\n".join(m["content"] for m in words[-4:] if m["role"] == "assistant")
                    bill = call["arguments"].get("bill_id") if call["name"] == "send_payment_request" else None
                    assert bill in words[-2]["content"] if bill else "- " in listed, (episode.task, listed)


NO_LISTING = frozenset({"transfer_to_human_agents", "resume_line", "enable_roaming"})
"""What the policy has the agent do without a yes: the last two cost nothing, and the user has asked for what they give."""


def test_every_gold_read_is_made(played, drafts):
    for episode in played.episodes:
        made = Counter(c["name"] for m in agent_turns(episode) for c in m.get("tool_calls") or [])
        wanted = Counter(c.name for c in drafts[episode.task.task_id].calls() if c.requestor == "assistant")
        wanted.pop("calculate", None)  # what needs no calculator is done in the head
        assert not wanted - made, (episode.task, wanted - made)


def test_a_transfer_is_the_call_and_then_the_policys_words(played, drafts):
    seen = 0
    for episode in played.episodes:
        spoken = [m for m in agent_turns(episode)]
        for call, after in zip(spoken, [*spoken[1:], None]):
            if any(c["name"] == "transfer_to_human_agents" for c in call.get("tool_calls") or []):
                assert after is not None and after["content"] == TRANSFERRED
                seen += 1
    assert seen


def test_the_user_answers_from_the_story(played, drafts):
    """Each number and address of the user's is one of the draft's, in whatever sentence."""
    for episode in played.episodes:
        draft = drafts[episode.task.task_id]
        story = " ".join([*(f.words for f in draft.facts()), *(w.reason for w in draft.wishes)])
        story += " ".join(line for wish in draft.wishes for line in wish.instructions)
        for message in episode.messages:
            if message["role"] == "user":
                for code in re.findall(r"#W\d+|\S+@[\w.]*\w|\b\d{5}\b", message.get("content") or ""):
                    assert code in story or code.lower() in story.lower(), (episode.task, code)
                assert not re.search(r"\b[Yy]ou(r|rs|rself)? (want|have to|would like)\b", message.get("content") or "")


def test_conversations_vary_and_follow_from_the_seed(domain, played):
    again = expert_played.play(domain, 12, seed=3)
    key = [[(m["role"], m.get("content"), str(m.get("tool_calls"))) for m in e.messages] for e in again.episodes]
    other = expert_played.play(domain, 12, seed=4)
    assert key == [
        [(m["role"], m.get("content"), str(m.get("tool_calls"))) for m in e.messages]
        for e in expert_played.play(domain, 12, seed=3).episodes
    ]
    assert {e.task.task_id for e in again.episodes} != {e.task.task_id for e in other.episodes}
    first = Counter(next(m["content"] for m in agent_turns(e)[1:] if m.get("content")) for e in played.episodes)
    assert first.most_common(1)[0][1] < COUNT / 4, "no opening of the agent's is said over and over"


def test_rows_are_trained_on_exactly_where_the_agent_speaks(played, qwen_tokenizer):
    chat = ChatRenderer(qwen_tokenizer, played.world.tool_schemas)
    found = played.rows()
    assert len(found) == COUNT
    for row in found[:20]:
        assert json.loads(json.dumps(row)) == row
        assert row["metadata"]["reward"] == 1.0
        (tokens,) = rows.tokenise(row, chat)
        assert len(tokens.loss_mask) <= len(tokens.tokens) and sum(tokens.loss_mask) > 0
        trained, last = [], 0
        response = tokens.tokens[-len(tokens.loss_mask) :]
        for token, mask in zip(response, tokens.loss_mask):
            if mask and not last:
                trained.append([])
            if mask:
                trained[-1].append(token)
            last = mask
        turns = [m for m in row["messages"] if m["role"] == "assistant" and m["step_loss_mask"]]
        assert len(trained) == len(turns)
        for ids, turn in zip(trained, turns):
            text = qwen_tokenizer.decode(ids)
            assert (turn["content"] or json.loads(turn["tool_calls"][0]["function"]["arguments"]) is not None) and (
                not turn["content"] or turn["content"] in text
            )


def test_what_is_corrected_later_was_said_otherwise_before():
    """A user who is to correct the number of bags has not said the right one before."""
    seen = 0
    for made in build.make("airline", 400, 3, mix={("book",): 1.0}):
        for line in made.draft.wishes[0].instructions:
            found = re.match(r"At first, say that you have (\w+ bags?) to check.* it is (\w+ bags?)\.", line)
            if found and not build.held_out("airline", made.draft.owner):
                world = traces.world_of("airline", [made])
                episode = asyncio.run(traces.play_one(world, made, 1))
                said = [m["content"] for m in episode.messages if m["role"] == "user"]
                first = next(n for n, text in enumerate(said) if found[1] in text.lower())
                assert all(f"{found[2]} to" not in text.lower() for text in said[:first])
                assert any(found[2] in text.lower() for text in said[first + 1 :])
                seen += 1
    assert seen > 3


def test_collect_writes_rows_and_a_run(cli, tmp_path):
    output = tmp_path / "rows.jsonl"
    code, out, err = cli("collect", "--policy", "expert", "--domain", "retail", "--episodes", 4, "--output", output)
    assert code == 0 and "4 rows written" in out, err
    found = list(rows.read_rows(output))
    assert [row["metadata"]["domain"] for row in found] == ["retail"] * 4
    assert [row["metadata"]["reward"] for row in found] == [1.0] * 4
    run = runs.load(tmp_path / "rows.attempts")
    assert run.coverage.whole and run.plan.settings["policy"] == "scripted expert"
    code, _, err = cli("collect", "--policy", "expert", "--domain", "helpdesk", "--output", output)
    assert code != 0 and "there is one for: airline, retail, telecom" in err


def test_collect_resumes_and_is_one_run_over_several_domains(cli, tmp_path, monkeypatch):
    output, kept = tmp_path / "rows.jsonl", tmp_path / "rows.attempts" / "attempts.jsonl"
    command = ["collect", "--policy", "expert", "--domain", "retail,telecom", "--episodes", 3, "--output", output]
    assert cli(*command)[0] == 0
    before, lines = output.read_bytes(), kept.read_text().splitlines(keepends=True)
    assert [row["metadata"]["domain"] for row in rows.read_rows(output)] == ["retail"] * 3 + ["telecom"] * 3
    kept.write_text("".join(lines[:4]) + lines[4][:100])  # a killed run
    output.unlink()
    played, play_one = [], traces.play_one
    monkeypatch.setattr(
        traces, "play_one", lambda world, made, seed: played.append(world) or play_one(world, made, seed)
    )
    code, out, err = cli(*command)
    assert code == 0 and "6 rows written" in out, err
    assert len(played) == 2 and output.read_bytes() == before
    assert cli("report", tmp_path / "rows.attempts")[0] == 0
    code, _, err = cli(*command, "--seed", 1)
    assert code != 0 and "holds a run with seed = 0, not 1" in err


def test_collect_plays_the_split_that_it_is_told(cli, tmp_path):
    made = sets.make_set(tmp_path / "made", name="made", factory="retail", count=30, seed=2)
    command = ["collect", "--policy", "expert", "--set", "unverified=true", "--output", tmp_path / "rows.jsonl"]
    assert cli(*command, "--domain", tmp_path / "made", "--split", "hard", "--episodes", 3)[0] == 0
    found = [row["metadata"]["task_id"] for row in rows.read_rows(tmp_path / "rows.jsonl")]
    assert len(found) == 3 and set(found) <= set(made.stored.manifest.splits["hard"])
    code, _, err = cli(*command, "--domain", tmp_path / "made", "--split", "held-out")
    assert code != 0 and "--split held-out of made: none of its tasks may train" in err
    code, _, err = cli(*command, "--domain", tmp_path / "made", "--split", "nowhere")
    assert code != 0 and "unknown split 'nowhere' of made" in err
    code, _, err = cli(*command, "--domain", "retail", "--split", "train+val")
    assert code != 0 and "--split train+val: what is made of retail on the way is train alone" in err


def test_collect_plays_a_set_of_make_tasks(cli, tmp_path):
    """Its train tasks, whose drafts follow from what the manifest says; the records have the set's name."""
    made = sets.make_set(tmp_path / "made", name="made", factory="retail", count=30, seed=2)
    output = tmp_path / "rows.jsonl"
    command = ["collect", "--policy", "expert", "--domain", tmp_path / "made", "--output", output]
    code, _, err = cli(*command)
    assert code != 0 and "never verified" in err
    code, _, err = cli(*command, "--set", "unverified=true")
    assert code == 0, err
    found = list(rows.read_rows(output))
    held = set(made.stored.manifest.splits["held-out"])
    assert 15 < len(found) <= 30 and not held & {row["metadata"]["task_id"] for row in found}
    assert {row["metadata"]["domain"] for row in found} == {"made"}
    assert runs.load(tmp_path / "rows.attempts").coverage.whole


# The parts


def test_a_domain_without_an_expert_is_refused():
    with pytest.raises(ConfigError, match="no scripted expert"):
        experts.of("helpdesk-2")


@pytest.mark.parametrize(
    ("story", "said"),
    [
        ("You want your money back.", "I want my money back."),
        ("You are Raj Moore.", "I'm Raj Moore."),
        ("You want to have it sent to you.", "I want to have it sent to me."),
        ("If the agent does not find you by it, you give yours.", "If the agent doesn't find me by it, I give mine."),
        ("The payment method that you used for that order.", "The payment method that I used for that order."),
    ],
)
def test_the_story_in_the_first_person(story, said):
    assert first_person(story) == said


def test_a_user_without_capitals_keeps_numbers_and_codes():
    import random

    voice = Voice(random.Random(1), "You write in lower case and short sentences.")
    assert voice.line("It's order #W123, to Reno, NV 89501.") == "it's order #W123, to reno, NV 89501."


def test_a_stage_gives_each_side_its_moves_and_the_script_the_results():
    heard = []

    def script():
        yield Answer("hello")
        heard.append((yield from use(read("look", what="x"))))
        yield Say("done")
        yield Answer("bye")

    stage = Stage(script())
    agent_says = bench.AssistantMessage(role="assistant", content="hi")
    assert stage.next("user", agent_says) == Answer("hello")
    user_says = bench.UserMessage(role="user", content="hello")
    assert stage.next("assistant", user_says) == Use(read("look", what="x"))
    result = bench.ToolMessage(id="1", role="tool", content="42", requestor="assistant", error=False)
    assert stage.next("assistant", result) == Say("done")
    assert heard == [Result("42", False)]
    with pytest.raises(FactoryError, match="assistant's turn"):
        stage.next("assistant", user_says)


def test_what_nobody_said_is_found():
    messages = [
        {"role": "user", "content": "It is order #W1234567."},
        {
            "role": "assistant",
            "tool_calls": [{"name": "look", "arguments": {"order_id": "#W1234567", "item": "998877"}}],
        },
        {"role": "tool", "content": '{"price": 65.4}'},
        {"role": "assistant", "content": "It costs $65.40, and the other $12.34."},
    ]
    assert ungrounded(messages) == ["look: 998877", "says 12.34"]
