"""An agent of one's own through the hooks: samples, credit, workers, and the local trainer with its real server."""

import asyncio
import copy
from argparse import Namespace
from functools import partial

import pytest
import torch
from fake_policy import FakePolicy, teacher_reply
from own_agents import THOUGHT, advised_reply, on_path, planning_reply
from serving import Serving
from test_call_credit_hook import LOOK, OTHER, SWAP, block
from test_hooks import assert_well_formed, make_args, sample

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.hooks import advantages, data_source, generate, player, rewards
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.local.batches import score_tokens
from slime_tau2.local.rollout import generate_rollout
from slime_tau2.local.trainer import Trainer, TrainOptions
from slime_tau2.masks import spans
from slime_tau2.tokenizer import load_tokenizer
from slime_tau2.workers.pool import Pool
from slime_tau2.workers.processes import Processes

PLANNER, HELPED = "planner:Planner", "helped:Helped"


@pytest.fixture(scope="module", autouse=True)
def page(tmp_path_factory):
    yield from on_path(tmp_path_factory.mktemp("page"))


async def played(tokenizer, reply, given=None, **over):
    async with FakePolicy(tokenizer, reply) as fake:
        args = make_args(fake.url, rollout_max_response_len=2000, **over)
        out = await generate.generate(args, given or sample(), dict(GenerateState(args).sampling_params))
        await generate.harness(args).close()
    return out, fake


def token_fields(s):
    return s.tokens, s.loss_mask, s.rollout_log_probs, s.response, s.weight_versions, s.status, s.reward


async def test_a_sample_of_a_client_is_that_of_our_own_agent(tokenizer):
    ours, _ = await played(tokenizer, teacher_reply())
    theirs, _ = await played(tokenizer, teacher_reply(), tau2_agent=HELPED)
    assert token_fields(theirs) == token_fields(ours) and theirs.reward == 1.0
    times = {"policy_s", "user_s", "wall_s"}
    known = [{k: v for k, v in s.metadata["tau2"].items() if k not in times} for s in (ours, theirs)]
    assert known[0] == known[1]


async def test_both_calls_of_a_turn_train_and_have_its_gain(tokenizer):
    out, fake = await played(tokenizer, planning_reply(), tau2_agent=PLANNER)
    assert_well_formed(out)
    left = out.metadata["tau2"]
    assert out.reward == 1.0 and out.status is Sample.Status.COMPLETED
    turns = len(left["turn_gains"])
    assert turns == len(left["turn_calls"]) == len(left["turn_spans"]) == left["turns"]
    assert len(fake.requests) == 2 * turns and sum(left["turn_gains"]) == pytest.approx(1.0)
    assert [len(spans(out.loss_mask[start:end])) for start, end in left["turn_spans"]] == [2] * turns
    assert sum(sum(out.loss_mask[start:end]) for start, end in left["turn_spans"]) == sum(out.loss_mask)
    assert len([c for turn in left["turn_calls"] for c in turn]) == left["calls"]
    assert out.tokens[: len(fake.requests[-1]["input_ids"])] == fake.requests[-1]["input_ids"]


@pytest.mark.parametrize("credit", ["episode", "turn", "turn_discounted", "call"])
async def test_each_conversation_is_a_sample_of_its_own(tokenizer, credit):
    """All of an episode share index, reward and advantage; a turn has its gain in each that it spoke in."""
    options = {"tau2_agent": "odd_agents:Advised", "tau2_credit": credit, "tau2_shaping": "none"}
    won, _ = await played(tokenizer, advised_reply(), **options)
    lost, _ = await played(tokenizer, lambda prompt, n: "It is done.", given=sample(index=1), **options)
    adviser, doer = won
    assert [type(s) for s in won] == [Sample] * 2 and adviser.rollout_id == doer.rollout_id == adviser.index
    ours, _ = await played(tokenizer, teacher_reply())
    assert (doer.tokens, doer.loss_mask, doer.reward) == (ours.tokens, ours.loss_mask, adviser.reward)
    told = [s.metadata["tau2"] for s in won]
    assert told[0]["turn_gains"] == told[1]["turn_gains"] and sum(told[0]["turn_gains"]) == pytest.approx(1.0)
    assert not any(told[0]["turn_calls"]) and sum(map(len, told[1]["turn_calls"])) == told[1]["calls"]
    args = make_args("http://127.0.0.1:1", custom_advantage_function_path=advantages.PATH, **options)
    flat = [*won, *lost]
    for s in flat:
        s.group_index = 0
    given, gains = rewards.reward_post_process(args, flat)
    assert given == [1.0, 1.0, *[0.0] * len(lost)] and gains[0] == gains[1] == -gains[2] > 0
    if credit != "episode":
        spread = [getattr(s, advantages.FIELD) for s in won]
        trained = sum(sum(s.loss_mask) for s in won)
        assert sum(map(sum, spread)) == pytest.approx(gains[0] * trained)
        by_turn = [
            [{own[n] for n in range(*span) if s.loss_mask[n]} for span in s.metadata["tau2"]["turn_spans"]]
            for s, own in zip(won, spread)
        ]
        assert credit == "call" or by_turn[0] == by_turn[1], "adviser and doer share a turn's"
        assert all((a != 0.0) == bool(bit) for s, own in zip(won, spread) for a, bit in zip(own, s.loss_mask))


async def test_a_call_that_does_not_train_has_mask_0(tokenizer):
    asked = "<|im_end|>\n<|im_start|>user\nThink.<|im_end|>\n<|im_start|>assistant\n"
    between = asked[11:] + f"{THOUGHT}<|im_end|>\n<|im_start|>user\nSay it.<|im_end|>\n"
    teacher = teacher_reply()

    def reply(prompt, n):
        return THOUGHT if prompt.endswith(asked) else teacher(prompt.replace(between, ""), n)

    out, fake = await played(tokenizer, reply, tau2_agent="odd_agents:Untrained")
    assert_well_formed(out)
    thought = len(tokenizer.encode(THOUGHT, add_special_tokens=False)) + 1
    ours, _ = await played(tokenizer, teacher_reply())
    assert out.reward == 1.0 and sum(out.loss_mask) == sum(ours.loss_mask)
    assert len(fake.requests) == 2 * out.metadata["tau2"]["turns"] == 2 * len(out.metadata["tau2"]["turn_gains"])
    assert out.prefix_cache_info.total_prompt_tokens == sum(len(r["input_ids"]) for r in fake.requests)
    assert len(out.tokens) > len(ours.tokens) + thought * out.metadata["tau2"]["turns"]


async def test_credit_by_call_finds_the_calls_behind_a_plan(tokenizer, tiny_model):
    """And a step of the local trainer makes the right write likelier than the wrong one."""

    def turns(*texts):
        said = [text for act in texts for text in (THOUGHT, act)]
        return lambda prompt, n: [*said, THOUGHT, "It is done."][min(n, len(said) + n % 2)]

    won, _ = await played(tokenizer, turns(block(LOOK), f"{block(OTHER)}\n{block(SWAP)}"), tau2_agent=PLANNER)
    lost, _ = await played(tokenizer, turns(block(LOOK), block(OTHER)), tau2_agent=PLANNER)
    assert (won.reward, lost.reward) == (1.0, 0.0)
    found = [c for span in won.metadata["tau2"]["turn_calls"] for c in span]
    response = won.tokens[-won.response_length :]
    assert [tokenizer.decode(response[c["start"] : c["end"]]) for c in found] == [*map(block, (LOOK, OTHER, SWAP))]
    _, advantages = rewards.reward_post_process(Namespace(tau2_credit="call"), [won, lost])
    for s, advantage in zip((won, lost), advantages):
        assert sum(s.teacher_log_probs) == pytest.approx(advantage * sum(s.loss_mask))
        assert all(a == 0.0 for a, m in zip(s.teacher_log_probs, s.loss_mask) if not m)
    _, other, swap = (won.teacher_log_probs[c["start"]] for c in found)
    assert swap > other
    for s in (won, lost):
        with torch.no_grad():
            s.rollout_log_probs = score_tokens(tiny_model, [s]).log_probs[0].tolist()

    def lead(model):
        with torch.no_grad():
            scores = score_tokens(model, [won]).log_probs[0]
        means = [float(scores[c["start"] : c["end"]].mean()) for c in found]
        return means[2] - means[1]

    model = copy.deepcopy(tiny_model)
    Trainer(model, TrainOptions(lr=1e-3)).grpo_step([won, lost], advantages)
    assert lead(model) > lead(tiny_model)


@pytest.mark.parametrize("agent", [PLANNER, HELPED])
async def test_an_aborted_sample_keeps_its_tokens_out_of_training(tokenizer, agent):
    async with FakePolicy(tokenizer, lambda p, n: ("I loo", "abort")) as fake:
        args = make_args(fake.url, tau2_agent=agent)
        GenerateState(args).aborted = False
        playing = asyncio.ensure_future(generate.generate(args, sample(), dict(GenerateState(args).sampling_params)))
        await fake.asked.wait()
        GenerateState(args).aborted = True
        out = await asyncio.wait_for(playing, 20)
        await generate.harness(args).close()
    assert out.status is Sample.Status.ABORTED and out.remove_sample and sum(out.loss_mask) > 0
    assert_well_formed(out)


@pytest.mark.parametrize("agent", [PLANNER, HELPED])
def test_workers_leave_the_samples_that_one_process_leaves(tokenizer, agent):
    """The player that `tau2_workers` starts in an actor, in processes of this machine."""
    reply = planning_reply if agent == PLANNER else teacher_reply
    jobs = [
        player.Job(
            domain="helpdesk",
            task_id=task_id,
            seed=3,
            sampling={"max_new_tokens": 2000, "temperature": 1.0},
            sampling_seed=None,
            routing_key=task_id,
            evaluation=False,
            routed_experts=False,
            prefix=(),
        )
        for task_id in ("orders_3", "refunds_2")
    ]

    def ledger_of(episode):
        assert episode.reward == 1.0 and not episode.transcripts
        return episode.segments[0].tokens, episode.segments[0].loss_mask, episode.segments[0].log_probs

    async def whole(url, config):
        here = player.player(config, load_tokenizer(TOKENIZER), url)
        alone = [await here.play(job, lambda: False) for job in jobs]
        await here.close()
        workers = Pool(2, Processes(partial(player.in_worker, config, load_tokenizer(TOKENIZER), url), 2))
        try:
            apart = [await workers.play(job, (job.domain, job.task_id)) for job in jobs]
        finally:
            await workers.close()
        for episode in alone:
            episode.transcripts = []
        return [ledger_of(e) for e in alone], [ledger_of(e) for e in apart]

    with Serving(FakePolicy(tokenizer, reply())) as server:
        alone, apart = asyncio.run(whole(server.url, Tau2Config(user="scripted", agent=agent)))
    assert alone == apart


@pytest.mark.parametrize("agent", [PLANNER, HELPED])
def test_the_local_trainer_samples_and_trains_it(server, tiny_model, tmp_path, agent):
    """A rollout over the real server, twice at different concurrency, and a step on it."""

    def rollout(concurrency):
        args = make_args(
            server.url,
            hf_checkpoint=str(TOKENIZER),
            save=str(tmp_path / f"{agent[:4]}{concurrency}"),
            load=None,
            rollout_batch_size=2,
            over_sampling_batch_size=2,
            n_samples_per_prompt=2,
            sglang_server_concurrency=concurrency,
            rollout_max_response_len=200,
            tau2_agent=agent,
            tau2_max_turn_tokens=8,
            tau2_seeded_sampling=True,
            tau2_domains=["helpdesk"],
        )
        source = data_source.Tau2DataSource(args)
        return asyncio.run(generate_rollout(args, 0, source)).samples

    one, many = rollout(1), rollout(4)
    assert len(one) == 4 and [s.tokens for s in one] == [s.tokens for s in many]
    for s in one:
        assert_well_formed(s)
        with torch.no_grad():
            scores = score_tokens(tiny_model, [s]).log_probs[0]
        for sampled, scored, bit in zip(s.rollout_log_probs, scores.tolist(), s.loss_mask):
            assert not bit or sampled == pytest.approx(scored, abs=1e-3)
    figures = Trainer(copy.deepcopy(tiny_model), TrainOptions(lr=1e-3)).grpo_step(one, [1.0, -1.0, 1.0, -1.0])
    assert figures["grad_norm"] > 0
