"""What slime taught: arguments of every shape, the shapes that its contracts ask of hooks, and what a reply's
`meta_info` must become.
"""

import inspect
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from fake_policy import LAYERS, TOP_K, FakePolicy, cut_in_three, expert, teacher_reply
from host_shapes import Properties, RecordingSample, Slots, bare
from test_hooks import assert_well_formed, make_args

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError
from slime_tau2.hooks import advantages, data_source, filters, generate, rewards, sft, trainer_dump
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import GenerateState, Sample

sys.path.append(str(Path(__file__).parents[1] / "upstream"))
import contract_shims

TASK = {"domain": "helpdesk", "task_id": "orders_0"}


# --- arguments
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [Namespace(tau2_alpha=0.5), Slots(tau2_alpha=0.5), Properties()], ids=lambda a: type(a).__name__
)
def test_options_are_found_whatever_the_arguments_are(args):
    assert Tau2Config.from_args(args).alpha == 0.5


def test_an_unknown_option_of_arguments_without_a_dict_is_named():
    odd = type("Args", (), {"__slots__": (), "tau2_alfa": 1.0})()
    with pytest.raises(ConfigError, match="tau2_alfa; did you mean tau2_alpha"):
        Tau2Config.from_args(odd)


@pytest.mark.parametrize("args", [None, object(), bare(), Slots(tau2_user="scripted")], ids=lambda a: type(a).__name__)
def test_every_hook_does_with_arguments_that_have_nothing(args):
    group = [
        Sample(index=n, group_index=0, reward=float(n), tokens=[n, n + 1], response_length=2, loss_mask=[1, 1])
        for n in range(2)
    ]
    raw, gains = rewards.reward_post_process(args, group)
    assert raw == [0.0, 1.0] and gains == [-0.5, 0.5]
    assert filters.dynamic_sampling_filter(args, group).keep
    filters.rollout_sample_filter(args, [group])
    filters.process_all_samples(args, [group], object())
    buffer = [[Sample(index=0)], [Sample(index=2)]]
    assert filters.buffer_filter(args, None, buffer, 1) == [[Sample(index=0)]] and len(buffer) == 1
    assert log_hooks.log_rollout(3, args, [Sample(index=0)], {"reward": 1.0}, 0.5) is False
    assert (
        log_hooks.log_eval(4, args, {"d": {"rewards": [1.0], "truncated": [False], "samples": [Sample(index=0)]}}, {})
        is False
    )
    assert isinstance(data_source.Tau2DataSource(args).get_samples(1), list)
    trainer_dump.keep_log_probs(args, 3, {})


@pytest.mark.parametrize("there", ["hf_checkpoint", "sglang_router_ip", None])
@pytest.mark.parametrize("metadata", [TASK, {}], ids=["a task", "no task"])
async def test_generate_answers_where_arguments_name_no_model_or_no_server(there, metadata):
    whole = vars(make_args())
    args = Namespace(**{k: v for k, v in whole.items() if k not in ("hf_checkpoint", "sglang_router_ip") or k == there})
    out = await generate.generate(args, Sample(index=0, prompt="prompt", metadata=dict(metadata)), {"temperature": 0.3})
    assert_well_formed(out)
    assert (
        isinstance(out.response, str) and out.reward == 0.0 and out.remove_sample and out.status is Sample.Status.FAILED
    )
    assert "has no attribute" in out.metadata["tau2"]["detail"]


# --- slime's plugin contracts
# ----------------------------------------------------------------------------------------------

SHAPES = {
    generate.generate: ("args", "sample", "sampling_params"),
    rewards.reward: ("args", "sample"),
    rewards.reward_post_process: ("args", "samples"),
    advantages.turn_advantages: ("args", "rollout_data"),
    filters.dynamic_sampling_filter: ("args", "samples"),
    filters.buffer_filter: ("args", "rollout_id", "buffer", "num_samples"),
    filters.rollout_sample_filter: ("args", "groups"),
    sft.generate_rollout: ("args", "rollout_id", "data_buffer", "evaluation"),
    filters.process_all_samples: ("args", "all_groups", "data_source"),
    data_source.Tau2DataSource.__init__: ("self", "args"),
    trainer_dump.keep_log_probs: ("args", "rollout_id", "rollout_data"),
    log_hooks.log_rollout: ("rollout_id", "args", "samples", "rollout_extra_metrics", "rollout_time"),
    log_hooks.log_eval: ("rollout_id", "args", "data", "extra_metrics"),
}
EXACT = (rewards.reward_post_process, trainer_dump.keep_log_probs, log_hooks.log_rollout, log_hooks.log_eval)


@pytest.mark.parametrize("hook", SHAPES, ids=lambda h: h.__qualname__)
def test_parameters_have_slimes_names(hook):
    names = tuple(inspect.signature(hook).parameters)
    assert names[: len(SHAPES[hook])] == SHAPES[hook]
    assert hook not in EXACT or names == SHAPES[hook]
    shim = vars(contract_shims).get(hook.__name__) if inspect.isfunction(hook) and hook.__name__[0] != "_" else None
    assert shim is None or tuple(inspect.signature(shim).parameters) == names, (
        "a shim has the shape of what it stands for"
    )


def test_the_shims_leave_the_marks_that_the_contracts_look_for_and_call_ours(monkeypatch):
    called = []
    for module, name in [
        (log_hooks, "log_rollout"),
        (log_hooks, "log_eval"),
        (filters, "rollout_sample_filter"),
        (filters, "process_all_samples"),
    ]:
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, own=own, name=name: called.append(name) or own(*a))
    args, groups = bare(), [[Sample(index=0), Sample(index=1)], [Sample(index=2), Sample(index=3)]]
    assert (
        isinstance(contract_shims.log_rollout(3, args, [Sample(index=0)], {}, 0.5), bool)
        and args.logged_rollout_id == 3
    )
    assert isinstance(contract_shims.log_eval(4, args, {}, {}), bool) and args.logged_eval_rollout_id == 4
    contract_shims.rollout_sample_filter(object(), groups)
    assert [s.remove_sample for g in groups for s in g] == [True, False, False, False]
    contract_shims.process_all_samples(args, [[Sample(index=0)]], object())
    assert args.processed_group_count == 1 and len(called) == len(set(called)) == 4


# --- meta_info
# -------------------------------------------------------------------------------------------------------------

TOP_P = {"rollout_top_p": 0.9}
EXPERTS = {"use_rollout_routing_replay": True, "num_layers": LAYERS, "moe_router_topk": TOP_K}


TEACHERS = pytest.mark.parametrize("teacher", [teacher_reply, cut_in_three], ids=["whole turns", "interrupted"])


async def generated(tokenizer, reply, given=None, evaluation=False, replays=True, **over):
    async with FakePolicy(tokenizer, reply) as fake:
        fake.replays = replays
        args, given = (
            make_args(fake.url, **over),
            given or RecordingSample(group_index=0, index=0, prompt="p", metadata=dict(TASK)),
        )
        params = dict(GenerateState(args).sampling_params)
        if args.rollout_top_p != 1.0 and not evaluation:
            params["custom_params"] = {"return_top_p_token_ids": True}  # as slime's own state has them
        try:
            return await generate.generate(args, given, params, evaluation=evaluation), fake
        finally:
            await generate.harness(args).close()


@TEACHERS
async def test_slime_counts_the_prefix_cache_hits_of_every_request(tokenizer, teacher):
    out, fake = await generated(tokenizer, teacher())
    sent = [len(r["input_ids"]) for r in fake.requests]
    assert out.status is Sample.Status.COMPLETED and out.reward == 1.0 and out.weight_versions == ["3"] * len(sent)
    assert out.prefix_cache_info.total_prompt_tokens == sum(sent) == out.metadata["tau2"]["usage"]["policy"]["prompt"]
    assert (
        out.prefix_cache_info.cached_tokens
        == sum(n // 2 for n in sent)
        == out.metadata["tau2"]["usage"]["policy"]["cached"]
    )
    assert out.rollout_top_p_token_offsets is None and out.rollout_routed_experts is None
    assert all(set(r) == {"input_ids", "sampling_params", "return_logprob"} for r in fake.requests)


async def test_a_sample_that_comes_back_counts_its_last_try_only(tokenizer):
    given = RecordingSample(group_index=0, index=0, prompt="p", metadata=dict(TASK))
    first, _ = await generated(tokenizer, teacher_reply(), given)
    before = first.prefix_cache_info.total_prompt_tokens
    again, _ = await generated(tokenizer, teacher_reply(), given)
    assert again is given and again.prefix_cache_info.total_prompt_tokens == before


@TEACHERS
async def test_each_sampled_token_has_the_set_that_top_p_kept(tokenizer, teacher):
    out, _ = await generated(tokenizer, teacher(), **TOP_P)
    assert out.reward == 1.0 and len(out.rollout_top_p_token_offsets) == out.response_length + 1
    response = out.tokens[len(out.tokens) - out.response_length :]
    sets = [
        out.rollout_top_p_token_ids[a:b]
        for a, b in zip(out.rollout_top_p_token_offsets, out.rollout_top_p_token_offsets[1:])
    ]
    assert sets == [[t, t + 1] if m else [] for t, m in zip(response, out.loss_mask)] and sum(out.loss_mask) > 10


@pytest.mark.parametrize("replays", [True, "whole"], ids=["from where it was asked", "from the beginning"])
@TEACHERS
async def test_each_token_has_the_experts_that_it_met(tokenizer, teacher, replays):
    out, fake = await generated(tokenizer, teacher(), replays=replays, **EXPERTS)
    assert out.reward == 1.0
    rows = [[expert(n, layer, k) for layer in range(LAYERS) for k in range(TOP_K)] for n in range(len(out.tokens) - 1)]
    assert out.rollout_routed_experts == rows
    starts = [r["routed_experts_start_len"] for r in fake.requests]
    assert starts[0] == 0 and all(r["return_routed_experts"] for r in fake.requests)
    assert starts == sorted(starts) and starts[-1] > len(fake.requests[0]["input_ids"]), "a turn asks for what is new"


@pytest.mark.parametrize(
    "flags, named",
    [
        (TOP_P, r"--rollout-top-p 0\.9: .*no top_p_token_ids.*--rollout-top-p 1\.0"),
        (EXPERTS, "--use-rollout-routing-replay: .*no routed_experts.*drop the flag"),
    ],
)
async def test_a_server_without_records_ends_the_run_at_its_first_sample_and_no_evaluation(tokenizer, flags, named):
    with pytest.raises(ConfigError, match=named):
        await generated(tokenizer, teacher_reply(), replays=False, **flags)
    out, fake = await generated(tokenizer, teacher_reply(), evaluation=True, replays=False, **flags)
    assert out.reward == 1.0 and not any("return_routed_experts" in r for r in fake.requests)


async def test_what_trains_nothing_has_records_of_the_right_shape(tokenizer):
    out, _ = await generated(tokenizer, lambda p, n: ("", "abort"), **TOP_P, **EXPERTS, tau2_episode_timeout_s=0.3)
    assert out.remove_sample and out.rollout_top_p_token_ids == [] and out.rollout_top_p_token_offsets == [0, 0]
    experts = out.rollout_routed_experts
    assert tuple(experts.shape) == (len(out.tokens) - 1, LAYERS, TOP_K)
    assert all(len(set(row)) == TOP_K for row in experts[0].tolist()), "slime refuses a layer without experts"
