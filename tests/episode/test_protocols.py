"""The card's one-action protocol: what is read and what is said, and that nothing else about an episode changes."""

import json
import re

import pytest
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy
from thinking_models import tokenizer_of, without_end

from slime_tau2.config import Tau2Config
from slime_tau2.data import traces
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode.api_agent import TextApiAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import LAST_WORD, PROTOCOLS
from slime_tau2.errors import PolicyError, TemplateError
from slime_tau2.evaluation import audit
from slime_tau2.terminations import Termination

CARD = PROTOCOLS["card"]


def test_calls_in_a_form_that_is_not_read_are_refused_before_the_first(qwen_tokenizer):
    made, _ = tokenizer_of(qwen_tokenizer, "glm")
    glm = without_end(made)
    with pytest.raises(TemplateError, match=r"in a form that is not read here .*<arg_key>a"):
        Harness(Tau2Config(), glm).chat("helpdesk")
    assert not Harness(Tau2Config(protocol="card"), glm).chat("helpdesk").keeps_history
    assert Harness(Tau2Config(), qwen_tokenizer).chat("helpdesk").keeps_history


def action(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


class CardTeacher:
    """The helpdesk teacher behind the card's format; `end` is what it does once the user has thanked it."""

    def __init__(self):
        self.teacher, self.heard = Teacher("0", 0.0), []

    def __call__(self, heard):
        """`heard` is the last message it got."""
        self.heard.append(heard)
        kind, _, text = heard.partition(": ")
        said = self.teacher.act(text, kind == "tool" and text.startswith("Error"))
        if said.tool_calls:
            (call,) = said.tool_calls
            return "I look it up. " + action(call.name, **call.arguments)
        return action("respond", content=said.content)


def last_user(prompt):
    return re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", prompt, re.DOTALL)[-1]


async def play(helpdesk, tokenizer, reply, task="orders_3", **options):
    config = Tau2Config(**{"user": "scripted", "protocol": "card", "max_steps": 100, **options})
    async with FakePolicy(tokenizer, lambda prompt, n: reply(last_user(prompt), n)) as fake:
        box = Harness(config, tokenizer, PolicyClient(fake.url))
        agent = box.agent(helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 4000}, seed=1)
        episode = await box.run(helpdesk, task, agent, seed=1)
        assert not audit.is_mismatch(episode, box.chat("helpdesk"), box.system_prompt(helpdesk), box.protocol)
        await box.close()
        return episode, fake.requests


async def test_a_task_is_solved_in_the_cards_words(helpdesk, tokenizer):
    teacher = CardTeacher()
    episode, requests = await play(helpdesk, tokenizer, lambda heard, n: teacher(heard))
    assert episode.reward == 1.0 and episode.termination is Termination.USER_STOP
    prompt = tokenizer.decode(requests[0]["input_ids"])
    system = prompt[: prompt.index("<|im_end|>")]
    assert '"name": "respond"' in system and '"name": "done"' in system and "<tools>" not in prompt, (
        "tools are text, not the template's"
    )
    assert prompt.count("<|im_start|>") == 3, (
        "system, the user's first words, and ours to come: the greeting is nobody's"
    )
    kinds = {h.partition(": ")[0] for h in teacher.heard}
    assert kinds == {"user", "tool"} and "<tool_response>" not in tokenizer.decode(requests[-1]["input_ids"])
    assert all(r["sampling_params"]["stop_token_ids"] for r in requests), "sampling stops at </tool_call>"
    assert all(len(m.get("tool_calls") or []) <= 1 for m in episode.messages)


async def test_done_ends_the_conversation_and_is_scored_as_tau2_scores_an_agents_stop(helpdesk, tokenizer):
    episode, _ = await play(helpdesk, tokenizer, lambda heard, n: action("done"))
    assert (
        episode.termination is Termination.AGENT_STOP
        and episode.reward == 0.0
        and episode.messages[-1]["content"] == LAST_WORD
    )
    assert episode.termination.tau2_reason == "agent_stop" and episode.outcome.reward_info["db_check"]
    assert episode.turns[-1].end > episode.turns[-1].start, "the turn is trained like any other"


async def test_the_last_word_in_the_native_protocol_is_a_word(helpdesk, tokenizer):
    episode, _ = await play(helpdesk, tokenizer, lambda heard, n: LAST_WORD, protocol="native", max_steps=8)
    assert episode.termination is not Termination.AGENT_STOP


@pytest.mark.parametrize(
    "text, error",
    [
        ("Hello!", "0 tool calls in one turn"),
        (action("get_order", order_id="W1") * 2, "2 tool calls in one turn"),
        (action("respond"), "respond without a text"),
        (action("respond", content="  "), "respond without a text"),
        (action("respond", content=3), "respond without a text"),
        ("<tool_call>{", "no </tool_call>"),
    ],
)
def test_what_is_no_action_is_a_call_that_fails(text, error):
    said = CARD.read(text)
    (call,) = said.message.tool_calls
    assert said.malformed == 1 and call.name == "malformed_tool_call" and error in call.arguments["error"]


def test_an_empty_turn_is_no_message():
    assert CARD.read("  ").message is None and PROTOCOLS["native"].read(" ").message is None


def test_a_native_conversation_in_the_cards_form():
    call = lambda i: {"id": f"c{i}", "name": "get_order", "arguments": {"order_id": f"W{i}"}}  # noqa: E731
    messages = [
        {"role": "assistant", "content": "Hi! How can I help you today?"},
        {"role": "user", "content": "Two\norders"},
        {"role": "assistant", "content": None, "tool_calls": [call(1), call(2)]},
        {"role": "tool", "content": "one", "requestor": "assistant"},
        {"role": "tool", "content": "two", "requestor": "assistant"},
        {"role": "user", "content": None, "tool_calls": [call(9)]},
        {"role": "tool", "content": "seen", "requestor": "user"},
        {"role": "assistant", "content": "Found."},
        {"role": "assistant", "content": LAST_WORD},
    ]
    said = CARD.chat(messages)
    assert [m["role"] for m in said] == ["user", "assistant", "user", "assistant", "user", "assistant", "assistant"]
    assert [m["content"] for m in said if m["role"] == "user"] == ["user: Two\norders", "tool: one", "tool: two"]
    read = [CARD.read(m["content"]) for m in said if m["role"] == "assistant"]
    assert [c.arguments["order_id"] for r in read[:2] for c in r.message.tool_calls] == ["W1", "W2"]
    assert read[2].message.content == "Found." and read[3].last and not any(r.malformed for r in read)


async def test_rows_to_train_on_are_what_the_policy_would_have_said(helpdesk, tokenizer):
    teacher = CardTeacher()
    episode, requests = await play(helpdesk, tokenizer, lambda heard, n: teacher(heard).removeprefix("I look it up. "))
    prompt = CARD.system_prompt(helpdesk.policy, helpdesk.tool_schemas, None)
    row = traces.record_to_row(episode.record(), prompt, CARD.template_tools(helpdesk.tool_schemas), CARD)
    (tokenised,) = traces.tokenise(row, ChatRenderer(tokenizer, json.loads(row["tools"])))
    assert tokenised.tokens[: len(requests[-1]["input_ids"])] == requests[-1]["input_ids"]


async def test_a_server_without_tools_speaks_the_protocol_in_texts(helpdesk):
    teacher = CardTeacher()
    async with FakeOpenAI(lambda body: teacher(body["messages"][-1]["content"])) as fake:
        client = ChatClient(fake.url, "m", key_env="NO_KEY", failure=PolicyError, options={})
        box = Harness(Tau2Config(user="scripted", protocol="card"), None, client)
        episode = await box.run(
            helpdesk,
            "orders_3",
            TextApiAgent(client, system_prompt=box.system_prompt(helpdesk), protocol=CARD, seed=1),
            seed=1,
        )
        await box.close()
    assert episode.reward == 1.0 and all("tools" not in b for b in fake.bodies)
    assert [m["role"] for m in fake.bodies[-1]["messages"][:4]] == ["system", "user", "assistant", "user"]
    own = [m["content"] for m in fake.bodies[-1]["messages"] if m["role"] == "assistant"]
    assert any(text.startswith("I look it up. <tool_call>") for text in own), "its own words as it said them"


def test_the_prompt_is_a_file_that_a_user_may_replace(helpdesk, tmp_path):
    own = tmp_path / "prompt.txt"
    own.write_text("Rules: {policy}\nTools: {tools}")
    prompt = CARD.system_prompt(helpdesk.policy, helpdesk.tool_schemas, own)
    assert prompt.startswith("Rules: ") and helpdesk.policy in prompt and '"name": "done"' in prompt


async def test_another_familys_marks_end_turns_and_its_thoughts_end_segments(helpdesk, tokenizer):
    """GLM's template, in the card's words: a turn ends with the mark of who speaks next, here always the user's."""
    made, _ = tokenizer_of(tokenizer, "glm")
    glm, teacher = without_end(made), CardTeacher()

    def reply(prompt, n):
        heard = prompt.rpartition("<|user|>\n")[2].partition("<|assistant|>")[0]
        return f"\n<think>Of {n}.</think>\n{teacher(heard)}"

    async with FakePolicy(glm, reply) as fake:
        box = Harness(Tau2Config(user="scripted", protocol="card", max_steps=100), glm, PolicyClient(fake.url))
        agent = box.agent(helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 4000}, seed=1)
        episode = await box.run(helpdesk, "orders_3", agent, seed=1)
        assert not audit.is_mismatch(episode, box.chat("helpdesk"), box.system_prompt(helpdesk), box.protocol)
        await box.close()
    assert episode.reward == 1.0 and len(episode.segments) == len(episode.turns) > 3, "each answer is the user's to it"
    assert len(episode.reasoning) == len(episode.turns) and "Of 1" not in json.dumps(episode.messages)
    later = glm.decode(fake.requests[-1]["input_ids"])
    assert later.count("<think></think>") == len(episode.turns) - 1 and "<think>Of" not in later
