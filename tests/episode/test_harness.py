"""One configuration, one set of clients; a second user model in evaluation."""

import asyncio
from dataclasses import replace

import pytest
from fake_openai import FakeOpenAI

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode import scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.harness import Harness
from slime_tau2.errors import UserError
from slime_tau2.terminations import Termination


async def play(box, helpdesk, evaluation):
    agent = ScriptedAgent(scripts.noop(None))
    return await box.run(helpdesk, "orders_0", agent, seed=3, evaluation=evaluation)


async def test_evaluation_may_have_another_user_model(helpdesk):
    async with FakeOpenAI([f"Bye {bench.STOP}"]) as training, FakeOpenAI([f"Bye {bench.STOP}"]) as other:
        config = Tau2Config(
            user="llm", user_base_url=training.url, user_model="a", eval_user_base_url=other.url, eval_user_model="b"
        )
        box = Harness(config)
        for evaluation in (False, True):
            assert (await play(box, helpdesk, evaluation)).termination is Termination.USER_STOP
        await box.close()
    assert [b["model"] for b in training.bodies] == ["a"] and [b["model"] for b in other.bodies] == ["b"]


async def test_without_one_evaluation_has_the_training_user(helpdesk):
    async with FakeOpenAI(["", f"Bye {bench.STOP}"]) as fake:
        box = Harness(Tau2Config(user="llm", user_base_url=fake.url, user_model="a"))
        box.user_client.endpoint.retries = replace(box.user_client.endpoint.retries, backoff_s=0.01)
        await play(box, helpdesk, True)
        assert box.take_faults() == {"user/empty": 1} and not box.take_faults(), "faults are taken once"
        await box.close()
    assert box.eval_user_client is box.user_client and len(fake.bodies) == 2


async def test_the_cross_check_is_a_matter_of_configuration(helpdesk):
    box = Harness(Tau2Config(user="gold", official_check=1))
    episode = await play(box, helpdesk, False)
    assert episode.reward == 0.0 and box.official.compared == 1
    await box.close()
    assert Harness(Tau2Config(user="gold")).official is None


async def test_all_is_closed_whatever_fails(helpdesk, monkeypatch, caplog):
    box, closed = Harness(Tau2Config(user="gold", official_check=1)), []
    first, second = box.user_client, box.judge.client

    def closing(name, error=None):
        async def close():
            closed.append(name)
            if error is not None:
                raise error

        return close

    monkeypatch.setattr(first, "close", closing("user", OSError()))
    monkeypatch.setattr(second, "close", closing("judge", asyncio.CancelledError()))
    monkeypatch.setattr(box.official, "close", lambda: closed.append("cross-check"))
    await box.close()
    assert sorted(closed) == ["cross-check", "judge", "user"]
    assert [record.exc_info[0] for record in caplog.records] == [OSError, asyncio.CancelledError]


async def test_what_nobody_used_is_not_made_to_be_closed():
    await Harness(Tau2Config(user="gold", agent="no_such_module:Agent")).close()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"agent_prompt": "no/such/prompt.txt"}, r"tau2_agent_prompt = no/such/prompt\.txt"),
        ({"user": "no_such_module:User"}, "tau2_user: no module no_such_module"),
        (
            {"user": "scripted", "domains": ["helpdesk", "mock"]},
            # another test of this process may have registered a domain that has one, too
            r"tau2_user=scripted exists for helpdesk(, \w+)* only, not mock",
        ),
        ({"user": "gold", "domains": ["helpdesk", "nowhere"]}, "nowhere"),
        ({"user": "llm", "user_base_url": "localhost:30001"}, "localhost:30001"),
        ({"user": "gold", "judge_base_url": "localhost:30001"}, "localhost:30001"),
    ],
)
def test_a_bad_option_is_found_before_the_first_episode(options, message):
    with pytest.raises(UserError, match=message):
        Harness(Tau2Config(**options)).check()


def test_the_renderer_of_each_domain_is_made_before_the_first_episode(tokenizer):
    box = Harness(Tau2Config(user="gold", domains=["helpdesk", "mock"]), tokenizer)
    box.check()
    assert set(box._chats) == {"helpdesk", "mock"}
