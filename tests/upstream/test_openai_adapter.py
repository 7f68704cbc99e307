"""slime's own OpenAI adapter beside ours, over the same conversations: where both leave the same tokens, and where not.

Each test but the first holds a reason why the hooks use ours inside slime too (docs/extending.md); where one fails, slime
has changed, and so may the page. Needs slime's source tree on PYTHONPATH, and sglang.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import odd_agents
import pytest
from aiohttp.test_utils import TestServer
from fake_policy import FakePolicy, teacher_reply
from slime_harness import needs_slime

from slime_tau2.config import Tau2Config
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient

pytestmark = [pytest.mark.upstream, needs_slime]


class ToSlimes(odd_agents.Caller):
    """The same client, asking slime's adapter."""

    access: SimpleNamespace

    def __init__(self, model, brief):
        super().__init__(model, SimpleNamespace(**{**vars(brief), "access": self.access}))

    async def said(self):
        answer = await self.openai.chat.completions.create(
            model="policy", messages=self.messages, tools=self.brief.tools, temperature=0.2
        )
        return answer.choices[0].message


async def through_ours(tokenizer, helpdesk, reply, task, agent="odd_agents:Caller"):
    """(the episode, what the policy was sent)."""
    async with FakePolicy(tokenizer, reply) as fake:
        box = Harness(Tau2Config(user="scripted", agent=agent), tokenizer, PolicyClient(fake.url))
        acting = box.agent(helpdesk, sampling={"temperature": 1.0, "max_new_tokens": 20_000})
        episode = await box.run(helpdesk, task, acting, seed=1)
        await box.close()
    return episode, fake.requests


async def through_slimes(tokenizer, helpdesk, reply, task):
    """(the episode, what the policy was sent, slime's samples of it)."""
    adapters = pytest.importorskip("slime.agent.adapters")
    from slime.utils.types import Sample

    async with FakePolicy(tokenizer, reply) as fake:
        adapter = adapters.OpenAIAdapter(tokenizer=tokenizer, sglang_url=fake.url, tool_parser="qwen25")
        server = TestServer(adapter.app)
        await server.start_server()
        adapter.open_session("s", sampling_defaults={"temperature": 1.0}, max_context_tokens=32_768)
        ToSlimes.access = SimpleNamespace(base_url=str(server.make_url("/v1")), api_key="s", model="policy")
        box = Harness(
            Tau2Config(user="scripted", agent="test_openai_adapter:ToSlimes"), tokenizer, PolicyClient(fake.url)
        )
        episode = await box.run(helpdesk, task, box.agent(helpdesk, sampling={}), seed=1)
        await box.close()
        samples = await adapter.finish_session("s", base_sample=Sample(index=0, group_index=0))
        await server.close()
    return episode, fake.requests, samples


async def compared(tokenizer, helpdesk, spelling, tasks):
    """(tokens that were sampled in these tasks, those of them that ours trains, those that slime's trains)."""
    sampled = ours_trained = theirs_trained = 0
    for task in tasks:
        ours, _ = await through_ours(tokenizer, helpdesk, spelling(teacher_reply()), task)
        theirs, _, samples = await through_slimes(tokenizer, helpdesk, spelling(teacher_reply()), task)
        assert ours.reward == theirs.reward == 1.0
        sampled += sum(len(tokenizer.encode(turn.text, add_special_tokens=False)) + 1 for turn in ours.turns)
        ours_trained += ours.segments[0].sampled
        theirs_trained += sum(sum(sample.loss_mask) for sample in samples)
    return sampled, ours_trained, theirs_trained


def as_the_template(reply):
    return reply


def without_spaces(reply):
    """A model that writes its calls as JSON without spaces."""

    def answer(prompt, n):
        said = reply(prompt, n)
        if not said.startswith("<tool_call>"):
            return said
        call = json.loads(said.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        return f"<tool_call>\n{json.dumps(call, separators=(',', ':'))}\n</tool_call>"

    return answer


async def test_calls_of_one_argument_in_the_templates_spelling_leave_the_same_tokens_in_both(tokenizer, helpdesk):
    ours, sent = await through_ours(tokenizer, helpdesk, teacher_reply(), "refunds_2")
    theirs, asked, [sample] = await through_slimes(tokenizer, helpdesk, teacher_reply(), "refunds_2")
    assert ours.reward == theirs.reward == 1.0
    assert [r["input_ids"] for r in asked] == [r["input_ids"] for r in sent]
    assert sample.tokens == ours.segments[0].tokens and sample.loss_mask == ours.segments[0].loss_mask
    assert sample.rollout_log_probs == ours.segments[0].log_probs


@pytest.mark.parametrize("spelling", [as_the_template, without_spaces])
async def test_a_call_that_is_not_rendered_as_it_was_sampled_does_not_train_there(tokenizer, helpdesk, spelling):
    """It hands arguments out in alphabetical order, and renders anew what comes back."""
    tasks = [f"{kind}_{n}" for kind in ("orders", "refunds", "phones") for n in range(1, 9)]
    sampled, ours, theirs = await compared(tokenizer, helpdesk, spelling, tasks)
    print(f"{spelling.__name__}: of {sampled} sampled tokens ours trains {ours}, slime's {theirs}")
    assert theirs < ours == sampled


async def test_of_several_calls_in_a_turn_only_the_first_is_made_there(tokenizer, helpdesk):
    calls = [("get_order", {"order_id": "W10"}), ("swap_item", {"order_id": "W10", "item": "sofa"})]
    blocks = "\n".join(f"<tool_call>\n{json.dumps({'name': n, 'arguments': a})}\n</tool_call>" for n, a in calls)

    def reply(prompt, n):
        return [blocks, "It is done."][min(n, 1)]

    ours, _ = await through_ours(tokenizer, helpdesk, reply, "orders_3")
    theirs, *_ = await through_slimes(tokenizer, helpdesk, reply, "orders_3")
    assert (ours.reward, theirs.reward) == (1.0, 0.0)
    assert (ours.turns[0].calls, theirs.turns[0].calls) == (2, 1)


async def test_a_reply_that_a_weight_update_cut_counts_as_whole_there(tokenizer, helpdesk):
    def cut():
        teacher = teacher_reply()

        def reply(prompt, n):
            return ("I loo", "abort") if n == 0 else teacher(prompt.replace("I loo", "", 1), n)

        return reply

    ours, _ = await through_ours(tokenizer, helpdesk, cut(), "orders_7")
    theirs, _, [sample] = await through_slimes(tokenizer, helpdesk, cut(), "orders_7")
    assert ours.turns[0].text.startswith("I loo") and ours.turns[0].text != "I loo"
    said = [m.get("content") for m in theirs.messages if m["role"] == "assistant"]
    assert "I loo" in said and sample.status.value == "completed" and not sample.weight_versions


async def test_a_client_sets_the_temperature_there(tokenizer, helpdesk):
    _, sent = await through_ours(tokenizer, helpdesk, teacher_reply(), "orders_7")
    _, asked, _ = await through_slimes(tokenizer, helpdesk, teacher_reply(), "orders_7")
    assert {r["sampling_params"]["temperature"] for r in asked} == {0.2}
    assert {r["sampling_params"]["temperature"] for r in sent} == {1.0}
