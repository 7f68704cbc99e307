"""Real SGLang on a CPU under our clients: a tiny Qwen3 that has learned some conversations by heart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time

import pytest
import servers
import torch

from slime_tau2 import bench
from slime_tau2.data.traces import TokenRow, to_row, tokenise
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import driver
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.recorder import Recorder
from slime_tau2.episode.token_agent import TokenAgent
from slime_tau2.episode.users import DomainUser, LLMUser
from slime_tau2.errors import PolicyAborted, PolicyError, UserSimulatorError
from slime_tau2.evaluation import audit
from slime_tau2.limits import Retries
from slime_tau2.local.batches import score_tokens
from slime_tau2.local.models import load_model, new_model, save_model
from slime_tau2.local.trainer import Trainer, TrainOptions

pytestmark = [pytest.mark.upstream, pytest.mark.skipif(not servers.PYTHON, reason=servers.REASON)]

TASKS = ["orders_3", "refunds_4", "phones_4"]
SEED, TEMPERATURE = 1, 0.5
CONTEXT = 2048
CALL = {"name": "check_status", "arguments": {}}


@pytest.fixture(scope="module")
def prompt(helpdesk):
    return bench.agent_prompt(helpdesk.policy)


async def traces(helpdesk, chat, prompt):
    """The teacher's conversations on TASKS, as training rows."""
    rows = []
    for task_id in TASKS:
        episode = await driver.run_episode(
            helpdesk, task_id, CallableAgent(Teacher(SEED, 0.0).act), DomainUser(), seed=SEED
        )
        assert episode.reward == 1.0
        rows.extend(tokenise(to_row(episode, prompt, helpdesk.tool_schemas), chat))
    return rows


def as_sglang_shows_it(schema):
    """SGLang 0.5.23's chat endpoint renders tools from its own class, which has a field more."""
    return {**schema, "defer_loading": None}


def user_row(helpdesk, tokenizer):
    """tau2's user simulator answering the agent's greeting with a call of its own tool."""
    environment, task = helpdesk.environments.fresh(), helpdesk.task("phones_4")
    schemas = json.loads(helpdesk.user_tool_schemas(task, environment))
    own = ChatRenderer(tokenizer, [as_sglang_shows_it(s) for s in schemas])
    heard = [
        {"role": "system", "content": bench.user_prompt(str(task.user_scenario), True)},
        {"role": "user", "content": "Hello."},
    ]
    name = schemas[0]["function"]["name"]
    reply = f"<tool_call>\n{json.dumps({'name': name, 'arguments': {}})}\n</tool_call>"
    said = [*tokenizer.encode(reply, add_special_tokens=False), tokenizer.eos_token_id]
    return TokenRow([*own.prompt(heard).values, *said], [1] * len(said), [0.0] * len(said)), name


@pytest.fixture(scope="module")
def models(tmp_path_factory, helpdesk, chat, prompt, tokenizer):
    """Directories of two models: one that knows the conversations, and the same before its last steps."""
    rows = [*asyncio.run(traces(helpdesk, chat, prompt)), user_row(helpdesk, tokenizer)[0]]
    trainer = Trainer(new_model(len(tokenizer), CONTEXT, seed=3, hidden=64), TrainOptions(lr=4e-3))
    root = tmp_path_factory.mktemp("models")
    for step in range(200):
        if step == 60:
            save_model(root / "before", trainer.model, tokenizer)
        done = trainer.sft_step(rows)
    assert done["loss"] < 0.01, "the conversations are known by heart"
    save_model(root / "after", trainer.model, tokenizer)
    return root


@pytest.fixture(scope="module")
def engine(models, tmp_path_factory):
    with servers.sglang(models / "after", tmp_path_factory.mktemp("log") / "sglang.log") as server:
        yield server


def agent(url, chat, prompt, **options):
    client = PolicyClient(url, retries=Retries(count=1, backoff_s=0.05, timeout_s=60.0))
    settings = {"max_turn_tokens": 64, "max_response_tokens": 1000, "max_context_tokens": CONTEXT} | options
    recorder = Recorder(
        client=client,
        chat=chat,
        sampling={"temperature": TEMPERATURE, "top_p": 1.0, "top_k": -1, "skip_special_tokens": False},
        **settings,
    )
    return TokenAgent(recorder=recorder, system_prompt=prompt)


def log_probs(model_dir, ledger):
    """Hugging Face's log-probs of an episode's response tokens, after temperature, as SGLang gives them."""
    row = TokenRow(ledger.tokens, ledger.loss_mask, ledger.log_probs)
    with torch.no_grad():
        return score_tokens(load_model(model_dir).eval(), [row], TEMPERATURE).log_probs[0]


def worst(model_dir, ledger):
    """Largest difference of SGLang's and Hugging Face's log-probs over the sampled tokens."""
    ours, mask = log_probs(model_dir, ledger), torch.tensor(ledger.loss_mask, dtype=torch.bool)
    return float((ours - torch.tensor(ledger.log_probs))[mask].abs().max())


async def play(url, helpdesk, chat, prompt, task="orders_3", **options):
    speaker = agent(url, chat, prompt, **options)
    try:
        return await driver.run_episode(helpdesk, task, speaker, DomainUser(), seed=SEED)
    finally:
        await speaker.recorder.client.close()


@pytest.mark.parametrize("task", TASKS)
async def test_whole_episodes_with_native_tool_calls(engine, models, helpdesk, chat, prompt, task):
    episode = await play(engine.url, helpdesk, chat, prompt, task)
    assert episode.reward == 1.0, episode.detail or [t.text for t in episode.turns]
    assert not audit.is_mismatch(episode, chat, prompt)
    assert sum(t.calls for t in episode.turns) >= 1 and not any(t.malformed for t in episode.turns)
    ends = [
        t
        for t, m in zip(episode.segments[0].tokens[episode.segments[0].prompt_length :], episode.segments[0].loss_mask)
        if m and t == chat.end_of_turn
    ]
    assert len(ends) == len(episode.turns), "the sampled end of turn comes back with its log-prob"
    assert worst(models / "after", episode.segments[0]) < 1e-4
    assert 0 < episode.usage["policy"]["cached"] < episode.usage["policy"]["prompt"], (
        "a turn finds the last one in the prefix cache"
    )


async def test_stop_at_the_tool_call(engine, helpdesk, chat, prompt):
    episode = await play(engine.url, helpdesk, chat, prompt, stop_at_tool_call=True)
    assert episode.reward == 1.0 and not audit.is_mismatch(episode, chat, prompt)
    response = zip(episode.segments[0].tokens[episode.segments[0].prompt_length :], episode.segments[0].loss_mask)
    assert {m for t, m in response if t == chat.end_of_turn} == {0, 1}, (
        "closed untrained after a call, sampled after a text"
    )


async def test_length_stops_and_a_full_context(engine, helpdesk, chat, prompt):
    cut = await play(engine.url, helpdesk, chat, prompt, max_turn_tokens=3)
    assert cut.termination.value == "length" and cut.turns[-1].finish_reason == "length"
    full = await play(engine.url, helpdesk, chat, prompt, max_context_tokens=len(cut.segments[0]) + 1)
    assert full.termination.value == "context_overflow"


async def test_a_request_beyond_the_context_is_refused_at_once(engine):
    client = PolicyClient(engine.url, retries=Retries(count=3, backoff_s=5.0))
    started = time.perf_counter()
    with pytest.raises(PolicyError, match="400"):
        await client.generate(json.dumps([5] * (CONTEXT + 10)).encode(), {"max_new_tokens": 8})
    await client.close()
    assert time.perf_counter() - started < 4, "no retry of what can never succeed"


async def busy(server):
    """Wait until the server generates, and a little longer."""
    for _ in range(1000):
        if any(load["num_running_reqs"] for load in server.get("/v1/loads")["loads"]):
            return await asyncio.sleep(0.3)
        await asyncio.sleep(0.02)
    raise TimeoutError("the server never began to generate")


def abort(server):
    server.post("/abort_request", {"rid": "", "abort_all": True})


async def test_an_abort_carries_its_tokens(engine):
    client = PolicyClient(engine.url)
    params = {"temperature": 1.0, "max_new_tokens": 1500, "ignore_eos": True}
    asked = asyncio.ensure_future(client.generate(b"[5,6,7]", params))
    await busy(engine)
    await asyncio.to_thread(abort, engine)
    with pytest.raises(PolicyAborted) as caught:
        await asked
    await client.close()
    assert 0 < len(caught.value.token_ids) == len(caught.value.log_probs) < 1500


async def test_a_turn_goes_on_behind_a_weight_update(engine, models, helpdesk, chat, prompt):
    """Fully-async: SGLang aborts what runs, loads weights, goes on; the ids sampled before keep the old weights'
    log-probs.
    """
    speaker = agent(engine.url, chat, prompt, max_turn_tokens=400, max_response_tokens=400)
    speaker.recorder.sampling |= {"ignore_eos": True}
    acting = asyncio.ensure_future(speaker.act([bench.UserMessage(role="user", content="Hello.")], None))
    await busy(engine)

    def update():
        engine.post("/pause_generation", {"mode": "abort"})
        engine.post("/update_weights_from_disk", {"model_path": str(models / "before"), "weight_version": "7"})
        engine.post("/continue_generation", {})

    await asyncio.to_thread(update)
    action = await acting
    await speaker.recorder.client.close()
    ledger, versions = speaker.segments[0], action.weight_versions
    assert action.termination is not None and action.finish_reason == "length" and ledger.sampled == 400
    assert len(versions) > 1 and versions[-1] == "7" and versions[0] != "7"
    old, new = (log_probs(models / name, ledger) for name in ("after", "before"))
    sampled = torch.tensor(ledger.log_probs)
    gap = torch.minimum((old - sampled).abs(), (new - sampled).abs())
    assert float(gap.max()) < 1e-4, "each token has the log-prob of the weights that sampled it"
    assert float((old - sampled)[:5].abs().max()) < 1e-4 and float((new - sampled)[-5:].abs().max()) < 1e-4
    engine.post("/update_weights_from_disk", {"model_path": str(models / "after"), "weight_version": "8"})
    again = await play(engine.url, helpdesk, chat, prompt)
    assert (
        again.reward == 1.0
        and set(again.weight_versions) == {"8"}
        and worst(models / "after", again.segments[0]) < 1e-4
    )


async def test_the_user_simulator_calls_its_own_tools(engine, helpdesk, tokenizer):
    client = ChatClient(
        f"{engine.url}/v1",
        "default",
        key_env="NO_KEY",
        failure=UserSimulatorError,
        options={"temperature": 0.0, "max_tokens": 64},
    )
    user, task = LLMUser(client), helpdesk.task("phones_4")
    user.start(helpdesk, task, helpdesk.environments.fresh(), [], seed=0)
    said = await user.respond(bench.AssistantMessage(role="assistant", content="Hello."))
    await client.close()
    assert [c.name for c in said.tool_calls] == [user_row(helpdesk, tokenizer)[1]] and said.tool_calls[
        0
    ].requestor == "user"
    assert not client.endpoint.faults


async def test_episodes_through_the_router(engine, models, helpdesk, chat, prompt, tmp_path):
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(servers.sglang(models / "after", tmp_path / "other.log"))
        router = stack.enter_context(servers.router([engine, other], tmp_path / "router.log"))
        deadline = time.monotonic() + 60
        while sum(w["is_healthy"] for w in router.get("/workers")["workers"]) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        episodes = await asyncio.gather(
            *(play(router.url, helpdesk, chat, prompt, TASKS[n % 3], routing_key=f"episode-{n}") for n in range(12))
        )
    assert [e.reward for e in episodes] == [1.0] * 12
    shares = [e.usage["policy"]["cached"] / e.usage["policy"]["prompt"] for e in episodes]
    print(
        f"\nload {os.getloadavg()[0]:.1f}; prefix cache over two servers: {min(shares):.0%} to {max(shares):.0%} of the tokens sent"
    )
    assert min(shares) > 0.4, "a conversation stays on the server that has its prefix"
