"""The switch: what is sent, to whom, and what is refused. The thoughts: kept in the record, and never shown to the
other side.
"""

import copy
import json

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI, completion
from fake_policy import FakePolicy, teacher_reply

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import scripts, thoughts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.api_agent import ApiAgent, TextApiAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.openai_chat import ChatClient, thinking
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.errors import ConfigError, PolicyError, TemplateError
from slime_tau2.evaluation import audit
from slime_tau2.terminations import Termination

SECRET = "I will not tell them."
STOP = f"Bye {bench.STOP}"


def thinking_reply(field, text):
    """What a server with a reasoning parser answers."""
    message = {"role": "assistant", "content": text, field: SECRET}
    return json.loads(completion(text).body) | {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


def served(*answers):
    return [web.json_response(a) if isinstance(a, dict) else a for a in answers]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello", ("", "Hello")),
        ("<think>\na\n</think>\n\nHello", ("a", "Hello")),
        ("a</think>b", ("a", "b")),
        ("<think>never ends", ("never ends", "")),
        ("<think>\n\n</think>\n\nHello", ("", "Hello")),
        ("I <think> so", ("", "I <think> so")),
    ],
)
def test_thoughts_and_words(text, expected):
    assert thoughts.split(text) == expected


@pytest.mark.parametrize(
    "asked, sent", [("auto", None), ("on", {"enable_thinking": True}), ("off", {"enable_thinking": False})]
)
async def test_the_user_is_sent_what_was_asked_for_and_nothing_else(helpdesk, asked, sent):
    async with FakeOpenAI(["Help me.", STOP]) as fake:
        box = Harness(Tau2Config(user="llm", user_base_url=fake.url, user_thinking=asked))
        await box.run(helpdesk, "orders_0", ScriptedAgent(scripts.noop(None)), seed=1)
        await box.judge.client.close()
        await box.close()
    assert [b.get("chat_template_kwargs") for b in fake.bodies] == [sent] * 2
    assert b"chat_template_kwargs" not in box.judge.client._head, "the judge gets nothing"


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com", "me.openai.azure.com"])
def test_openais_own_hosts_have_no_such_switch(host):
    url = f"https://{host}/v1"
    assert thinking("auto", url, "thinking") == {}
    for asked in ("on", "off"):
        with pytest.raises(ConfigError, match=rf"^tau2_user_thinking = {asked}: {url} has no such switch; use auto"):
            Harness(Tau2Config(user="llm", user_base_url=url, user_thinking=asked)).check()


def test_only_three_words_are_known():
    with pytest.raises(ConfigError, match="tau2_thinking = 'maybe'"):
        Tau2Config.from_mapping({"thinking": "maybe"}, "--set")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_are_in_the_record_and_on_no_other_side(helpdesk, field):
    """User and policy both think, in a field of their own and in the text; each hears the other's words alone."""
    inline = f"<think>\n{SECRET}\n</think>\n\nMy order is late."
    async with (
        FakeOpenAI(served(inline, thinking_reply(field, STOP))) as user,
        FakeOpenAI(served(thinking_reply(field, "I see."), f"{SECRET}</think>Goodbye.")) as policy,
    ):
        client = ChatClient(policy.url, "m", failure=PolicyError, options={})
        box = Harness(Tau2Config(user="llm", user_base_url=user.url), policy=client)
        episode = await box.run(helpdesk, "orders_0", ApiAgent(client, system_prompt="", tools=None, seed=0), seed=1)
        await box.close()
    assert episode.termination is Termination.USER_STOP
    record = json.loads(json.dumps(episode.record()))
    told = [(t["role"], record["messages"][t["message"]]["content"], t["text"]) for t in record["reasoning"]]
    assert told == [("user", "My order is late.", SECRET), ("policy", "I see.", SECRET), ("user", STOP, SECRET)]
    assert all(SECRET not in json.dumps(b) for b in (*user.bodies, *policy.bodies)) and SECRET not in json.dumps(
        record["messages"]
    )
    for message in record["messages"]:
        assert bench.parse_message(message) is not None


async def test_what_a_text_agent_thought_is_not_sent_again(helpdesk):
    async with (
        FakeOpenAI(["I need help.", STOP]) as user,
        FakeOpenAI([f"<think>{SECRET}</think>{card_call('respond', content='Hi')}"]) as policy,
    ):
        client = ChatClient(policy.url, "m", failure=PolicyError, options={})
        box = Harness(Tau2Config(user="llm", user_base_url=user.url, protocol="card"), policy=client)
        episode = await box.run(
            helpdesk, "orders_0", TextApiAgent(client, system_prompt="", protocol=PROTOCOLS["card"], seed=0), seed=1
        )
        await box.close()
    assert [t["text"] for t in episode.reasoning] == [SECRET] and episode.messages[2]["content"] == "Hi"
    assert all(SECRET not in json.dumps(b) for b in (*user.bodies, *policy.bodies))


def card_call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@pytest.fixture(scope="module")
def switching(tokenizer):
    """The bundled tokenizer with a template that has Qwen's switch and keeps history."""
    out = copy.deepcopy(tokenizer)
    prompt = "{{- '<|im_start|>assistant\\n' }}"
    switch = "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    assert out.chat_template.count(prompt) == 1
    out.chat_template = out.chat_template.replace(prompt, prompt + switch)
    return out


@pytest.mark.parametrize("asked, opening", [("auto", ""), ("on", ""), ("off", "<think>\n\n</think>\n\n")])
@pytest.mark.parametrize("protocol", ["native", "card"])
async def test_the_token_policy_begins_each_turn_as_the_template_has_it(helpdesk, switching, asked, opening, protocol):
    """With `off` the ledger holds the empty thought before each turn, untrained; the audit renders it all the same."""

    def thoughtful(prompt, n):
        if protocol == "card":
            said = card_call("respond", content="Which order is it?") if n < 2 else card_call("done")
        else:
            said = teacher(prompt, n)
        return said if asked == "off" else f"<think>{SECRET}</think>{said}"

    teacher = teacher_reply()
    async with FakePolicy(switching, thoughtful) as fake:
        box = Harness(Tau2Config(user="scripted", thinking=asked, protocol=protocol), switching, PolicyClient(fake.url))
        agent = box.agent(helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 20_000})
        episode = await box.run(helpdesk, "orders_0", agent, seed=1)
        await box.close()
    assert episode.detail == "" and len(episode.turns) > 2
    chat, prompt = box.chat("helpdesk"), box.system_prompt(helpdesk)
    assert chat.opening == opening and not audit.is_mismatch(episode, chat, prompt, box.protocol)
    assert all(switching.decode(r["input_ids"]).endswith(f"<|im_start|>assistant\n{opening}") for r in fake.requests)
    assert SECRET not in json.dumps(episode.messages) and (
        asked == "off" or all(SECRET in t.text for t in episode.turns)
    )
    assert audit.is_mismatch(
        episode, ChatRenderer(switching, chat.tools, "on" if asked == "off" else "off"), prompt, box.protocol
    )


@pytest.mark.parametrize("asked", ["on", "off"])
def test_a_template_without_the_switch_is_named(tokenizer, asked):
    with pytest.raises(
        TemplateError, match=rf"^thinking = {asked}: the chat template of '.*' has no such switch .*; use thinking=auto"
    ):
        ChatRenderer(tokenizer, None, asked)


def test_a_template_that_drops_the_empty_thought_rewrites_history(switching):
    dropping = copy.deepcopy(switching)
    said = "message.content if"
    assert dropping.chat_template.count(said) == 1
    dropping.chat_template = dropping.chat_template.replace(
        said, "message.content|replace('<think>\\n\\n</think>\\n\\n', '') if"
    )
    assert ChatRenderer(dropping, None).opening == "" and ChatRenderer(dropping, None).keeps_history
    assert not ChatRenderer(dropping, None, "off").keeps_history
