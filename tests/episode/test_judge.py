"""The judge: tau2's own question over HTTP, an answer on every assertion or none at all."""

import json

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI, completion

from slime_tau2 import bench
from slime_tau2.episode import driver, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.endpoint import Garbage
from slime_tau2.episode.judge import LLMJudge, verdicts
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import JudgeError
from slime_tau2.limits import Retries
from slime_tau2.terminations import Termination


def answer(*met):
    return json.dumps(
        {"results": [{"expectedOutcome": f"a{n}", "reasoning": "r", "metExpectation": m} for n, m in enumerate(met)]}
    )


@pytest.fixture
def judged():
    """mock's world with one of its tasks judged, as 40 of v1.0.x's retail tasks are."""
    world = worlds.build(bench.EnvironmentSpec(domain="mock"))
    task = next(t for t in world.tasks.values() if t.evaluation_criteria and t.evaluation_criteria.nl_assertions)
    criteria = task.evaluation_criteria.model_copy(update={"reward_basis": [bench.RewardType.NL_ASSERTION]})
    world.tasks[task.id] = task.model_copy(update={"evaluation_criteria": criteria})
    return world, task.id, len(criteria.nl_assertions)


async def play(world, task_id, answers):
    async with FakeOpenAI(answers) as fake:
        client = ChatClient(
            fake.url,
            "judge",
            key_env="K",
            failure=JudgeError,
            options={"temperature": 0.0},
            retries=Retries(count=1, backoff_s=0.01),
        )
        said = bench.AssistantMessage(role="assistant", content="It is done. @@END")
        episode = await driver.run_episode(world, task_id, ScriptedAgent([said]), GoldUser(), judge=LLMJudge(client))
        await client.close()
    return episode, fake, client.endpoint.faults


@pytest.mark.parametrize("met", [True, False])
async def test_its_verdict_is_the_reward(judged, met):
    world, task_id, n = judged
    episode, fake, _ = await play(world, task_id, ["```json\n" + answer(*[met] * n) + "\n```"])
    assert episode.termination is Termination.USER_STOP and episode.reward == float(met)
    assert [c["met"] for c in episode.outcome.reward_info["nl_assertions"]] == [met] * n
    assert "It is done." in fake.bodies[0]["messages"][1]["content"] and fake.bodies[0]["temperature"] == 0.0


@pytest.mark.parametrize("bad", ["I think so.", '{"results": []}', '{"results": [{"metExpectation": "yes"}]}', ""])
async def test_an_answer_that_leaves_something_out_is_infrastructure(judged, bad):
    """tau2 would take an empty list of results for all met."""
    world, task_id, n = judged
    episode, fake, faults = await play(world, task_id, [bad])
    assert episode.termination is Termination.JUDGE_FAILURE and episode.reward is None and len(fake.bodies) == 2
    assert sum(faults.values()) == 2
    mended, _, _ = await play(world, task_id, [bad, answer(*[True] * n)])
    assert mended.reward == 1.0


async def test_what_it_used_and_thought_is_in_the_record(judged):
    """It is asked when the conversation is over, and its answers that were refused cost tokens too."""
    world, task_id, n = judged
    bad, good = (json.loads(completion(text).body) for text in ("I think so.", answer(*[True] * n)))
    good["choices"][0]["message"]["reasoning_content"] = "Hm."
    used = {"usage": {"prompt_tokens": 70, "completion_tokens": 7}}
    episode, _, _ = await play(world, task_id, [web.json_response(a | used) for a in (bad, good)])
    assert episode.usage == {"judge": {"requests": 2, "unreported": 0, "prompt": 140, "cached": 0, "completion": 14}}
    assert episode.reasoning == [{"role": "judge", "message": len(episode.messages), "text": "Hm."}]


async def test_no_judge_is_said_and_not_scored(judged):
    world, task_id, _ = judged
    said = bench.AssistantMessage(role="assistant", content="@@END")
    episode = await driver.run_episode(world, task_id, ScriptedAgent([said]), GoldUser())
    assert episode.termination is Termination.JUDGE_FAILURE and "no judge" in episode.detail


def test_every_assertion_is_judged_once():
    assert len(verdicts(answer(True, False), 2)) == 2
    for text, n in ((answer(True), 2), (answer(True, True), 1), ("[]", 0)):
        with pytest.raises(Garbage):
            verdicts(text, n)
