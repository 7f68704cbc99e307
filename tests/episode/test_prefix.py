"""Episodes that begin within a conversation: played again, shown to the agent, earning it nothing."""

import json

import pytest
from fake_policy import FakePolicy

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.users import DomainUser
from slime_tau2.evaluation import audit
from slime_tau2.limits import Limits
from slime_tau2.schedule import prefixes
from slime_tau2.terminations import Termination


class Recorded:
    """A user who goes on as in a recorded conversation."""

    def __init__(self, told):
        self.told = iter(told)

    def start(self, world, task, environment, history, seed):
        self.history = history

    async def respond(self, message):
        return bench.parse_message({k: v for k, v in next(self.told).items() if k not in ("timestamp", "turn_idx")})


def as_text(message):
    """What a policy writes for an agent's message."""
    if not message.get("tool_calls"):
        return message["content"]
    (call,) = message["tool_calls"]
    return f"<tool_call>\n{json.dumps({'name': call['name'], 'arguments': call['arguments']})}\n</tool_call>"


async def solved(helpdesk, task):
    """What agent and user said in an episode that the expert solved in more than one turn."""
    for seed in range(20):
        episode = await run_episode(
            helpdesk,
            task,
            CallableAgent(Teacher(str(seed), 0.0).act),
            DomainUser(),
            seed=seed,
            limits=Limits(max_steps=60),
        )
        if episode.reward == 1.0:
            return prefixes.spoken(json.loads(json.dumps(episode.record()))["messages"])
    raise AssertionError("the expert solves it")


def turns_of(said):
    return [n for n, m in enumerate(said) if m["role"] == "assistant"]


@pytest.mark.parametrize("task", ["orders_3", "phones_4", "refunds_6"])
async def test_every_cut_of_a_success_can_be_finished(helpdesk, tokenizer, task):
    said = await solved(helpdesk, task)
    cuts = turns_of(said)[1:]
    assert cuts
    for at in cuts:
        replies = [as_text(m) for m in said[at:] if m["role"] == "assistant"]
        user = Recorded([m for m in said[at:] if m["role"] == "user"])
        async with FakePolicy(tokenizer, lambda prompt, n, replies=replies: replies[n]) as fake:
            box = Harness(Tau2Config(user="scripted"), tokenizer, PolicyClient(fake.url))
            agent = box.agent(helpdesk, sampling={"max_new_tokens": 2000}, seed=1)
            episode = await run_episode(helpdesk, task, agent, user, prefix=said[:at])
            await box.close()
        assert episode.reward == 1.0 and episode.termination is Termination.USER_STOP, (at, episode.detail)
        assert len(episode.turns) == len(replies), "only live turns are turns"
        assert episode.segments[0].prompt_length == len(fake.requests[0]["input_ids"])
        prompt = tokenizer.decode(fake.requests[0]["input_ids"])
        assert all(m["content"] in prompt for m in said[:at] if m.get("content"))
        earned_before = episode.turns[-1].partial - sum(t.gain for t in episode.turns)
        assert -1e-6 <= earned_before <= 1.0 and episode.turns[-1].partial == 1.0
        assert not audit.is_mismatch(episode, box.chat("helpdesk"), box.system_prompt(helpdesk))
        assert [m.content for m in user.history if isinstance(m, bench.UserMessage)] == [
            m.get("content") for m in said[:at] if m["role"] == "user"
        ]


async def test_what_the_prefix_did_is_not_earned_again(helpdesk):
    said = await solved(helpdesk, "orders_3")
    agent = CallableAgent(lambda text, error: bench.AssistantMessage(role="assistant", content="Sorry.", cost=0.0))
    episode = await run_episode(
        helpdesk, "orders_3", agent, DomainUser(), prefix=said[: turns_of(said)[-1]], limits=Limits(max_steps=60)
    )
    assert sum(t.gain for t in episode.turns) == pytest.approx(0.0) and episode.outcome.partial > 0.5


async def test_a_scripted_user_remembers_what_was_said(helpdesk):
    said = await solved(helpdesk, "orders_3")
    at = turns_of(said)[-1]
    user = DomainUser()
    agent = CallableAgent(
        lambda text, error: bench.AssistantMessage(role="assistant", content="Done, swapped.", cost=0.0)
    )
    await run_episode(helpdesk, "orders_3", agent, user, prefix=said[:at], limits=Limits(max_steps=60))
    assert user.user.user.opened, "it does not open the conversation a second time"


async def test_a_prefix_that_cannot_be_played_is_an_error_with_its_reason(helpdesk):
    agent = CallableAgent(lambda text, error: bench.AssistantMessage(role="assistant", content="Hi.", cost=0.0))
    episode = await run_episode(
        helpdesk, "orders_3", agent, DomainUser(), prefix=[{"role": "assistant", "content": "Hello?"}]
    )
    assert episode.termination is Termination.ENVIRONMENT_ERROR and "where tau2 awaits user" in episode.detail
