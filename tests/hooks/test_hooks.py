"""The hooks, called with slime's signatures, over the real driver and a policy server with scripted replies."""

import asyncio
import copy
import inspect
import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from aiohttp import web
from fake_openai import FakeOpenAI
from fake_policy import FakePolicy, cut_in_three, teacher_reply

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import driver, harness
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.users import DomainUser
from slime_tau2.errors import ConfigError
from slime_tau2.hooks import advantages, data_source, filters, generate, rewards
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.hooks.training_reward import training_reward
from slime_tau2.limits import Limits

VAL = "orders_0"


def make_args(url="http://127.0.0.1:9", **over):
    host, port = url.removeprefix("http://").split(":")
    args = dict(
        hf_checkpoint=str(TOKENIZER),
        sglang_router_ip=host,
        sglang_router_port=int(port),
        sglang_server_concurrency=8,
        rollout_temperature=1.0,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=600,
        n_samples_per_prompt=3,
        tau2_user="scripted",
        tau2_policy_retries=0,
        tau2_episode_retries=1,
    )
    return Namespace(**args | over)


def sample(task_id="orders_3", index=0, group=0):
    return Sample(group_index=group, index=index, prompt=task_id, metadata={"domain": "helpdesk", "task_id": task_id})


async def generated(tokenizer, reply, given=None, **over):
    async with FakePolicy(tokenizer, reply) as fake:
        args, given = make_args(fake.url, **over), given or sample()
        out = await generate.generate(args, given, GenerateState(args).sampling_params)
        await generate.harness(args).close()
        return out, given, fake


def assert_well_formed(s):
    assert len(s.loss_mask) == s.response_length == len(s.rollout_log_probs) and len(s.tokens) > s.response_length > 0
    assert all(lp == 0.0 for lp, m in zip(s.rollout_log_probs, s.loss_mask) if not m)


def test_signatures_are_slimes():
    names = lambda f: list(inspect.signature(f).parameters)  # noqa: E731
    assert names(generate.generate) == [
        "args",
        "sample",
        "sampling_params",
        "evaluation",
    ] and inspect.iscoroutinefunction(generate.generate)
    assert names(rewards.reward)[:2] == ["args", "sample"] and names(rewards.reward_post_process) == ["args", "samples"]
    assert names(filters.dynamic_sampling_filter)[:2] == ["args", "samples"] and names(
        filters.rollout_sample_filter
    ) == ["args", "groups"]
    assert names(filters.buffer_filter) == ["args", "rollout_id", "buffer", "num_samples"]
    assert names(filters.process_all_samples) == ["args", "all_groups", "data_source"]
    assert names(log_hooks.log_rollout) == ["rollout_id", "args", "samples", "rollout_extra_metrics", "rollout_time"]
    assert names(log_hooks.log_eval) == ["rollout_id", "args", "data", "extra_metrics"]


async def test_generate_fills_the_sample_it_is_given(tokenizer):
    out, given, fake = await generated(tokenizer, teacher_reply())
    assert out is given and out.status is Sample.Status.COMPLETED and out.reward == 1.0 and not out.remove_sample
    assert_well_formed(out)
    trained = [t for t, m in zip(out.tokens[-out.response_length :], out.loss_mask) if m]
    assert tokenizer.decode(trained).replace("<|im_end|>", "\n").strip() == out.response
    assert out.tokens[: len(fake.requests[-1]["input_ids"])] == fake.requests[-1]["input_ids"]
    info = out.metadata["tau2"]
    assert info["termination"] == "user_stop" and info["partial"] == 1.0 and len(info["turn_partials"]) == info["turns"]
    assert json.dumps(info)


async def test_policy_and_user_are_routed_by_one_key_an_episode(tokenizer):
    """slime's session id where it gives one; a retried episode is another conversation."""
    seen: list[str] = []

    class Keyed(FakePolicy):
        def reply_to(self, request):
            seen.append(request.headers["X-SMG-Routing-Key"])
            return lambda p, n: web.Response(status=500) if len(seen) == 1 else "Sorry, I cannot."

    async with (
        Keyed(tokenizer, None) as policy,
        FakeOpenAI(lambda body: "Hi" if len(body["messages"]) == 2 else "Bye ###STOP###") as user,
    ):
        args = make_args(policy.url, tau2_user="llm", tau2_user_base_url=user.url)
        for n in range(2):
            given = sample(VAL, index=n)
            given.session_id = f"session-{n}"
            await generate.generate(args, given, GenerateState(args).sampling_params, evaluation=n == 1)
        await generate.harness(args).close()
    told = [h["X-SMG-Routing-Key"] for h in user.headers]
    assert seen[0] == told[0] == "session-0" and seen[1] == told[1] == told[2] not in ("session-0", "session-1")
    assert seen[2:] == ["session-1"] and told[3:] == ["session-1"] * 2


async def test_failed_requests_are_counted_and_logged(tokenizer, monkeypatch):
    whole = teacher_reply()
    async with FakePolicy(tokenizer, lambda p, n: web.Response(status=503) if n == 0 else whole(p, n)) as fake:
        args = make_args(fake.url)
        generate.harness(args).policy.endpoint.retries = replace(
            generate.harness(args).policy.endpoint.retries, backoff_s=0.01
        )
        out = await generate.generate(args, sample(), GenerateState(args).sampling_params)
        await generate.harness(args).close()
    assert out.reward == 1.0 and out.metadata["tau2"]["reward_basis"] == ["DB", "COMMUNICATE"]
    logged = {}
    monkeypatch.setattr(log_hooks, "log_metrics", lambda args, metrics, step: logged.update(metrics))
    log_hooks.log_rollout(0, args, [out], None, 1.0)
    assert logged["tau2/faults/policy/http_503"] == 1.0 and logged["tau2/user_stopped_early"] == 0.0


async def test_sampling_parameters_are_never_mutated(tokenizer):
    async with FakePolicy(tokenizer, teacher_reply()) as fake:
        args = make_args(fake.url)
        params = GenerateState(args).sampling_params
        before = copy.deepcopy(params)
        await generate.generate(args, sample(VAL), params, evaluation=True)
        await generate.harness(args).close()
    assert params == before


@pytest.mark.parametrize("reply", [lambda p, n: web.Response(status=500), lambda p, n: web.Response(text="?")])
async def test_infrastructure_failure_is_retried_and_then_a_masked_placeholder(tokenizer, reply):
    out, _, fake = await generated(tokenizer, reply)
    assert len(fake.requests) == 2, "one retry of the episode"
    assert_well_formed(out)
    assert out.remove_sample and out.status is Sample.Status.ABORTED and sum(out.loss_mask) == 0
    assert out.metadata["tau2"]["termination"] == "policy_failure" and out.metadata["tau2"]["detail"]


async def test_a_bad_task_never_raises(tokenizer):
    for metadata in ({"domain": "helpdesk", "task_id": "nope"}, {"domain": "nope", "task_id": "1"}, {}):
        args = make_args()
        out = await generate.generate(args, Sample(index=0, metadata=metadata), {"temperature": 1.0})
        assert_well_formed(out)
        assert out.remove_sample and out.status is Sample.Status.FAILED and out.metadata["tau2"]["detail"]


async def test_a_bad_configuration_ends_the_run_at_its_first_sample():
    with pytest.raises(ConfigError, match="tau2_max_stesp; did you mean tau2_max_steps"):
        await generate.generate(make_args(tau2_max_stesp=3), Sample(index=0, metadata={}), {})


@pytest.mark.parametrize("under_slime, code", [(True, 1), (False, 0)])
def test_stand_ins_never_take_the_place_of_a_slime_that_runs(tmp_path, under_slime, code):
    (tmp_path / "slime").mkdir()
    (tmp_path / "slime" / "__init__.py").write_text("")
    first = "import slime; " if under_slime else ""
    script = f"{first}from slime_tau2.hooks import compat; print(compat.HAS_SLIME)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == code and "slime.rollout" in done.stderr
    assert under_slime or ("stand-ins take its place" in done.stderr and done.stdout == "False\n")


async def test_agent_failures_are_trained_zeros(tokenizer):
    out, _, _ = await generated(tokenizer, lambda p, n: ("endless", "length"))
    assert (
        out.reward == 0.0 and out.status is Sample.Status.TRUNCATED and not out.remove_sample and sum(out.loss_mask) > 0
    )


async def test_an_abort_keeps_the_tokens_and_a_second_try_starts_anew(tokenizer):
    async with FakePolicy(tokenizer, lambda p, n: ("cut", "abort")) as fake:
        args, given = make_args(fake.url), sample()
        running = asyncio.ensure_future(generate.generate(args, given, GenerateState(args).sampling_params))
        await asyncio.wait_for(fake.asked.wait(), 5)
        GenerateState(args).aborted = True  # as slime does, before it asks the servers to abort
        out = await running
        await generate.harness(args).close()
    assert out.status is Sample.Status.ABORTED and out.reward == 0.0 and sum(out.loss_mask) > 0 and out.remove_sample
    assert_well_formed(out)
    again, _, _ = await generated(tokenizer, teacher_reply(), given)
    assert again.status is Sample.Status.COMPLETED and again.reward == 1.0 and not again.remove_sample
    assert_well_formed(again)


async def test_an_aborted_rollout_starts_no_turn(tokenizer):
    async with FakePolicy(tokenizer, teacher_reply()) as fake:
        args = make_args(fake.url)
        GenerateState(args).aborted = True
        out = await generate.generate(args, sample(), {"temperature": 1.0})
    assert not fake.requests and out.status is Sample.Status.ABORTED


async def test_rewards_in_single_and_batch_form():
    samples = [Sample(reward=1.0), Sample(reward=0.0), Sample(reward=None)]
    assert await rewards.reward(None, samples[0]) == 1.0
    assert await rewards.reward(None, samples) == [1.0, 0.0, 0.0] and await rewards.reward(None, []) == []


def scored(reward, partial, group, index, removed=False):
    s = sample(index=index, group=group)
    s.reward, s.remove_sample = reward, removed
    s.metadata["tau2"] = {"partial": partial, "termination": "user_stop", "card_components": {"action": 1.0}}
    return s


def test_post_process_shapes_and_normalises_by_group():
    args = Namespace(tau2_alpha=0.2)
    batch = [
        scored(1.0, 1.0, 0, 0),
        scored(0.0, 0.5, 0, 1),
        scored(0.0, 0.0, 1, 2),
        scored(0.0, 1.0, 1, 3),
        scored(0.0, 0.0, 0, 4, removed=True),
    ]
    raw, advantages = rewards.reward_post_process(args, batch)
    assert raw == [1.0, 0.0, 0.0, 0.0, 0.0], "the raw reward stays tau2's"
    assert advantages == pytest.approx([0.45, -0.45, -0.1, 0.1, 0.0])
    _, card = rewards.reward_post_process(Namespace(tau2_shaping="card", tau2_alpha=0.25), batch[:2])
    assert card == pytest.approx([0.5, -0.5])
    with pytest.raises(ConfigError, match="tau2_shape"):
        rewards.reward_post_process(Namespace(tau2_shape=1), batch)


def test_the_filter_keeps_what_can_teach():
    args = Namespace()
    keep = lambda *group: filters.dynamic_sampling_filter(args, list(group))  # noqa: E731
    assert keep(scored(1.0, 1, 0, 0), scored(0.0, 0, 0, 1)).keep
    assert keep(scored(0.0, 0.5, 0, 0), scored(0.0, 0, 0, 1)).keep, "partials differ"
    same = keep(scored(1.0, 1, 0, 0), scored(1.0, 1, 0, 1))
    assert not same.keep and same.reason == "all_1.0" and same.keep_when_insufficient
    spoiled = keep(scored(1.0, 1, 0, 0), scored(0.0, 0, 0, 1, removed=True))
    assert not spoiled.keep and spoiled.reason == "infrastructure" and not spoiled.keep_when_insufficient
    assert filters.dynamic_sampling_filter(args, [[scored(1.0, 1, 0, 0)], [scored(0.0, 0, 0, 1)]]).keep, "fan-out lists"


def test_overlong_samples_can_be_masked():
    s = scored(0.0, 0.0, 0, 0)
    s.metadata["tau2"]["termination"] = "length"
    filters.rollout_sample_filter(Namespace(), [[s]])
    assert not s.remove_sample
    filters.rollout_sample_filter(Namespace(tau2_overlong="mask"), [[s]])
    assert s.remove_sample


def test_overlong_samples_can_be_charged():
    s = scored(0.0, 0.4, 0, 0)
    s.metadata["tau2"]["termination"] = "max_steps"
    charged = Tau2Config(overlong="penalty", overlong_penalty=0.3)
    assert training_reward(charged, s, 0.0) == pytest.approx(0.25 * 0.4 - 0.3)
    s.metadata["tau2"]["termination"] = "user_stop"
    assert training_reward(charged, s, 0.0) == pytest.approx(0.1) == training_reward(Tau2Config(), s, 0.0)


def source_args(tmp_path, **over):
    return Namespace(n_samples_per_prompt=2, save=str(tmp_path), load=str(tmp_path), tau2_user="scripted", **over)


async def test_hopeless_tasks_begin_within_a_success(tmp_path, tokenizer, helpdesk):
    whole = await driver.run_episode(
        helpdesk, "orders_3", CallableAgent(Teacher("0", 0.0).act), DomainUser(), seed=3, limits=Limits(max_steps=60)
    )
    assert whole.reward == 1.0
    path = tmp_path / "attempts.jsonl"
    path.write_text(json.dumps({"attempt": 0, **whole.record()}) + "\n")
    source = data_source.Tau2DataSource(source_args(tmp_path, tau2_curriculum=True, tau2_prefix_starts=path))
    task = source.tasks["helpdesk/orders_3"]
    assert all("prefix" not in source.factory.group(task)[0].metadata for _ in range(20)), "nothing is known of it yet"
    source.order.curriculum.observe("helpdesk/orders_3", 0, 40)
    groups = [source.factory.group(task) for _ in range(40)]
    begun = [g for g in groups if "prefix" in g[0].metadata]
    assert 8 < len(begun) < 32 and all(g[0].metadata["prefix"] == g[1].metadata["prefix"] for g in begun), (
        "every other group"
    )
    out, *_ = await generated(tokenizer, lambda p, n: "Sorry.", given=begun[0][0])
    assert_well_formed(out)
    assert tokenizer.decode(out.tokens).count("<|im_start|>assistant") > sum(
        m["role"] == "assistant" for m in out.metadata["prefix"]
    )
    before = dict(source.order.curriculum.counts)
    rewards.reward_post_process(source.args, [out])
    assert source.order.curriculum.counts == before, "an easier task than the one that is counted"


def test_turn_credit_reaches_the_trainer(tmp_path):
    args = Namespace(tau2_credit="turn", custom_advantage_function_path="slime_tau2.hooks.advantages.turn_advantages")
    batch = [scored(1.0, 1.0, 0, 0), scored(0.0, 0.5, 0, 1), scored(0.0, 0.0, 0, 2, removed=True)]
    for s, gains in zip(batch, ([0.0, 1.0], [0.5, 0.0], [0.0, 0.0])):
        s.loss_mask, s.response_length = [1, 1, 0, 1], 4
        s.metadata["tau2"]["turn_gains"] = gains
    _, per_sample = rewards.reward_post_process(args, batch)
    per_token = [s.teacher_log_probs for s in batch]
    assert all(len(t) == 4 and t[2] == 0.0 for t in per_token) and per_token[2] == [0.0] * 4
    assert per_token[0][3] > per_sample[0] > per_token[0][0] > per_token[1][0] > per_sample[1] > per_token[1][3]
    data = {"teacher_log_probs": [torch.tensor(t) for t in per_token], "rewards": per_sample}
    advantages.turn_advantages(args, data)
    assert (
        all(torch.equal(a, c) for a, c in zip(data["advantages"], data["teacher_log_probs"]))
        and len(data["returns"]) == 3
    )
    # a rank holds some samples of the group (data parallel), and of each some tokens (context parallel): it needs no
    # more than those
    share = {"teacher_log_probs": [torch.tensor(t)[1::2] for t in per_token[:2]], "rewards": per_sample[:2]}
    advantages.turn_advantages(args, share)
    assert all(torch.equal(a, torch.tensor(t)[1::2]) for a, t in zip(share["advantages"], per_token))
    plain = {"log_probs": [torch.zeros(3), torch.zeros(2)], "rewards": [0.5, -0.5]}
    advantages.turn_advantages(Namespace(), plain)
    assert plain["advantages"][0].tolist() == [0.5] * 3 and plain["advantages"][1].tolist() == [-0.5] * 2
    for bad in ({"use_opd": True}, {"normalize_advantages": True}, {"custom_advantage_function_path": None}):
        with pytest.raises(ConfigError, match=r"tau2_credit: turn"):
            data_source.Tau2DataSource(source_args(tmp_path, tau2_credit="turn", **bad))
        with pytest.raises(ConfigError, match=r"tau2_credit: turn"):  # with a data source of somebody else's
            rewards.reward_post_process(Namespace(tau2_credit="turn", **bad), batch)
    for args in (
        Namespace(tau2_credit="turn", advantage_estimator="grpo"),
        Namespace(tau2_credit="turn_discounted", advantage_estimator="x"),
    ):
        with pytest.raises(
            ConfigError, match="turn_advantages, and it is absent"
        ):  # slime before v0.3.0 has no such flag
            advantages.check(args, Tau2Config.from_args(args))
    advantages.check(Namespace(), Tau2Config(credit="turn"))  # the local trainer calls the hook itself


async def test_a_weight_update_continues_the_same_turn(tokenizer):
    """Under fully-async rollout SGLang aborts every request for a weight update, and slime's `aborted` stays False."""
    out, _, fake = await generated(tokenizer, cut_in_three())
    assert out.reward == 1.0 and out.status is Sample.Status.COMPLETED
    assert_well_formed(out)
    sent = [r["input_ids"] for r in fake.requests]
    assert sent[1][: len(sent[0])] == sent[0] and sent[1] == sent[2] and len(sent[1]) > len(sent[0])
    budgets = [r["sampling_params"]["max_new_tokens"] for r in fake.requests[:3]]
    assert budgets[0] - budgets[1] == len(sent[1]) - len(sent[0]) and budgets[1] == budgets[2]
    assert out.loss_mask[: len(sent[2]) - len(sent[0])] == [1] * (len(sent[2]) - len(sent[0]))
    assert len(out.weight_versions) == len(fake.requests) == out.metadata["tau2"]["turns"] + 2


def test_the_user_can_be_a_model_that_slime_serves():
    args = make_args(
        tau2_user_base_url="slime:user_sim",
        sglang_model_routers={"actor": ("10.0.0.1", 3000), "user_sim": ("10.0.0.2", 3001)},
    )
    assert generate.resolved(args, Tau2Config.from_args(args)).user_base_url == "http://10.0.0.2:3001/v1"
    with pytest.raises(ConfigError, match=r"tau2_user_base_url = slime:user_sim: slime serves one model only"):
        generate.resolved(make_args(), Tau2Config(user_base_url="slime:user_sim"))


async def test_an_episode_never_outgrows_the_servers_context(tokenizer):
    out, _, fake = await generated(tokenizer, lambda p, n: "Which order?", sglang_context_length=700)
    assert out.metadata["tau2"]["termination"] == "context_overflow" and len(out.tokens) <= 700
    assert all(len(r["input_ids"]) + r["sampling_params"]["max_new_tokens"] < 700 for r in fake.requests)


def test_buffer_filter_takes_what_it_returns():
    buffer = [[sample(index=5)], [sample(index=1)], [sample(index=3)]]
    taken = filters.buffer_filter(None, None, buffer, 2)
    assert [g[0].index for g in taken] == [1, 3] and [g[0].index for g in buffer] == [5]


def test_log_hooks_report_by_domain_and_let_slime_log_too():
    batch = [scored(1.0, 1.0, 0, 0), scored(0.0, 0.5, 0, 1), scored(0.0, 0.0, 0, 2, removed=True)]
    metrics = log_hooks.episode_metrics(batch, "p")
    assert metrics["p/reward"] == 0.5 and metrics["p/partial"] == 0.75 and metrics["p/dropped"] == pytest.approx(1 / 3)
    batch[0].metadata["tau2"] |= {"user_stopped_early": True, "user_s": 2.0}
    metrics = log_hooks.episode_metrics(batch, "p")
    assert metrics["p/user_stopped_early"] == 0.5 and metrics["p/user_s"] == 1.0
    assert log_hooks.log_rollout(0, Namespace(), batch, None, 1.0) is False
    assert log_hooks.log_eval(0, Namespace(), {"d": {"samples": batch}}, None) is False


def test_stand_in_sample_guards_the_invariant():
    s = Sample()
    s.append_response_tokens(None, tokens=[1, 2], log_probs=[-1.0, -2.0])
    s.append_response_tokens(None, tokens=[3], trainable=False)
    assert (s.loss_mask, s.rollout_log_probs, s.response_length) == ([1, 1, 0], [-1.0, -2.0, 0.0], 3)
    with pytest.raises(ValueError):
        s.append_response_tokens(None, tokens=[1])
    with pytest.raises(ValueError):
        s.append_response_tokens(None, tokens=[1], trainable=False, log_probs=[-1.0])


def test_concurrent_generates_share_one_harness():
    args = make_args()
    assert generate.harness(args) is generate.harness(args)
    asyncio.run(generate.harness(args).close())


async def test_tasks_that_were_served_are_prepared_while_others_play(tokenizer, monkeypatch):
    """Once this process plays, and never without a loop."""
    prepared = []
    monkeypatch.setattr(harness.Harness, "prepare", lambda self, *task: prepared.append(task))
    async with FakePolicy(tokenizer, teacher_reply()) as server:
        args = make_args(server.url)
        source = data_source.Tau2DataSource(args)
        first = source.get_samples(2)
        await asyncio.sleep(0.05)
        assert not prepared
        await generate.generate(args, first[0][0], GenerateState(args).sampling_params)
        served = source.get_samples(3)
        await asyncio.sleep(0.05)
        await generate.harness(args).close()
    tasks = [(group[0].metadata["domain"], group[0].metadata["task_id"]) for group in served]
    assert prepared == list(dict.fromkeys(tasks))
