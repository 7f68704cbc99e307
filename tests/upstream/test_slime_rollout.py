"""Our hooks under slime's own rollout loop, evaluation, conversion and loss. Needs slime's source tree on PYTHONPATH
and its CPU imports.

Written against the measured contracts; skipped, with the reason, where slime is absent.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from slime_harness import TeacherServer, assert_trainable, fresh, make_args, manager, needs_slime, ray_cluster, roll

from slime_tau2.data import traces
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.dumps.arrays import unpack_floats, unpack_ids
from slime_tau2.dumps.store import Dump
from slime_tau2.errors import LedgerError
from slime_tau2.hooks.compat import HAS_SLIME, Sample
from slime_tau2.hooks.rollout_rows import KEPT_AFTER_ALL
from slime_tau2.hooks.samples import flatten
from slime_tau2.ledger import TokenLedger
from slime_tau2.rollouts.found import find

pytestmark = [pytest.mark.upstream, needs_slime]


@pytest.fixture
def teacher(tokenizer):
    with TeacherServer(tokenizer, delay=0.005) as server:
        yield server


def varied(group):
    """Whether the group's training rewards differ."""
    return len({s.reward for s in group} | {s.metadata["tau2"]["partial"] for s in group}) > 1


def dropped(out):
    """How many groups the dynamic filter dropped, by slime's own count."""
    return sum(n for key, n in (out.metrics or {}).items() if "drop" in key)


def test_without_any_variance_slime_keeps_what_it_needs_after_one_fetch(tokenizer, tmp_path):
    """Every group is solved: the filter drops those that slime can spare, and it keeps the rest rather than sample a
    round more.
    """
    with TeacherServer(tokenizer, flaws=0.0) as server:
        args = make_args(tmp_path, server.port)
        source = fresh(args)
        out = roll(args, 0, source)
    assert not any(map(varied, out.samples)) and len(out.samples) == args.rollout_batch_size
    assert dropped(out) == args.over_sampling_batch_size - args.rollout_batch_size
    assert {s.group_index for g in out.samples for s in g} <= set(range(args.over_sampling_batch_size)), "one fetch"


def test_generate_rollout_with_over_sampling_filter_and_abort(teacher, tmp_path):
    assert HAS_SLIME
    args = make_args(tmp_path, teacher.port)
    source = fresh(args)
    out = roll(args, 0, source)
    assert len(out.samples) == args.rollout_batch_size
    for group in out.samples:
        assert len({s.group_index for s in group}) == 1 and len({s.index for s in group}) == args.n_samples_per_prompt
        for s in group:
            assert_trainable(s)
            assert s.metadata["tau2"]["termination"] == "user_stop" or s.status in (
                Sample.Status.TRUNCATED,
                Sample.Status.COMPLETED,
            )
    spare = args.over_sampling_batch_size - args.rollout_batch_size
    assert all(map(varied, out.samples)) or dropped(out) >= spare, (
        "a group without variance is dropped while slime can spare it"
    )
    served = {s.group_index for g in out.samples for s in g}
    cut = [g for g in source.buffer if g[0].group_index not in served]
    for g in (
        cut
    ):  # it was cut off, or had finished when slime had enough and is begun anew: which of both, the load decides
        states = [s.status for s in g]
        assert Sample.Status.ABORTED in states or set(states) == {Sample.Status.PENDING}, (
            "what did not train is served again"
        )
    assert len(roll(args, 1, source).samples) == args.rollout_batch_size


def test_partial_rollout_restarts_what_was_aborted(tokenizer, tmp_path):
    with TeacherServer(tokenizer, delay=0.05) as server:
        args = make_args(
            tmp_path, server.port, partial_rollout=True, over_sampling_batch_size=16
        )  # twice what may live at a time
        source = fresh(args)
        roll(args, 0, source)
        assert source.buffer, "slime hands back what it aborted"
        indices = [g[0].group_index for g in source.buffer]
        assert len(indices) == len(set(indices)), "and nothing is handed back twice"
        out = roll(args, 1, source)
        for s in flatten(out.samples):
            assert_trainable(s)


def test_episodes_only_in_a_config_with_its_own_data_and_rewards(teacher, tmp_path):
    """docs/hooks.md's second configuration: slime's own data source and normalisation, our episodes and tau2's reward."""
    ours = (
        "custom_reward_post_process_path",
        "custom_advantage_function_path",
        "dynamic_sampling_filter_path",
        "rollout_sample_filter_path",
    )
    args = make_args(
        tmp_path,
        teacher.port,
        data_source_path="slime.rollout.data_source.RolloutDataSourceWithBuffer",
        buffer_filter_path=None,
        rollout_all_samples_process_path=None,
        custom_rollout_log_function_path=None,
        **dict.fromkeys(ours),
    )
    source = fresh(args)
    assert type(source).__module__.startswith("slime.")
    for rollout_id in range(2):
        out = roll(args, rollout_id, source)
        assert len(out.samples) == args.rollout_batch_size
        for s in flatten(out.samples):
            assert_trainable(s)
            assert s.reward in (0.0, 1.0) and s.metadata["tau2"]["termination"]


def test_evaluation(teacher, tmp_path):
    from slime.utils.eval_config import build_eval_dataset_configs

    args = make_args(tmp_path, teacher.port)
    source = fresh(args)
    datasets = [{"name": "helpdesk", "path": str(tmp_path / "tasks.jsonl"), "n_samples_per_eval_prompt": 2}]
    args.eval_datasets = build_eval_dataset_configs(args, datasets, {"max_response_len": 600})
    data = roll(args, 0, source, evaluation=True).data["helpdesk"]
    assert len(data["rewards"]) == 6 and all(s.metadata["tau2"]["termination"] for s in data["samples"])


@pytest.mark.parametrize("credit", ["episode", "turn", "call"])
def test_conversion_to_train_data(teacher, tmp_path, credit):
    args = make_args(tmp_path, teacher.port, tau2_credit=credit)
    source, served = fresh(args), []
    fetch = source.get_samples
    source.get_samples = lambda count: served.append(fetch(count)) or served[-1]
    made = manager(args, source)
    samples, _ = made._get_rollout_data(rollout_id=0)
    data = made._convert_samples_to_train_data(samples)
    assert set(data["raw_reward"]) <= {0.0, 1.0} and len(data["rewards"]) == len(samples)
    for group in range(0, len(samples), args.n_samples_per_prompt):
        assert abs(sum(data["rewards"][group : group + args.n_samples_per_prompt])) < 1e-5, (
            "mean-only advantages of a group sum to 0"
        )
    assert ("teacher_log_probs" in data) == (credit != "episode")
    if credit != "episode":
        assert [len(t) for t in data["teacher_log_probs"]] == data["response_lengths"]
    state = source.state_dict()
    source.save(0)
    again = fresh(args)
    again.load(0)
    waiting = {g[0].group_index for g in source.buffer}
    ended = [s for groups in served for g in groups for s in g if s.group_index not in waiting]
    assert len(ended) >= len(samples)
    assert sum(again.metadata["terminations"].values()) == len(ended), (
        "groups that the filter dropped are seen too: they say most"
    )
    assert again.state_dict()["next_index"] == state["next_index"]


@pytest.mark.parametrize("credit", ["episode", "call"])
def test_a_rollout_is_dumped_as_it_trains(teacher, tmp_path, credit):
    """Through slime's own rollout, log call and conversion: every group settled, and the numbers of the train data."""
    rollout_module = pytest.importorskip("slime.ray.rollout", reason="slime.ray.rollout needs sglang's modules")
    log = getattr(rollout_module, "log_rollout_data", None) or rollout_module._log_rollout_data
    args = make_args(tmp_path, teacher.port, tau2_credit=credit)
    source = fresh(args)
    made = manager(args, source)
    samples, metrics = made._get_rollout_data(rollout_id=0)
    log(0, args, samples, metrics, 1.5)
    data = made._convert_samples_to_train_data(samples)
    part = Dump(tmp_path / "ckpt" / "tau2_rollouts").rollout(0)
    told = Counter(g["fate"] for g in part["groups"])
    assert told["trained"] == args.rollout_batch_size and part["waiting"] == 0
    assert told["dropped"] + told["trained"] + told["returned"] == source.state_dict()["next_group"]
    said = [g for g in part["groups"] if g["verdict"] not in ("", "kept")]
    spared = [g for g in said if g["fate"] == "trained"]
    assert all(g["why"] == KEPT_AFTER_ALL for g in spared)
    drops = sum(n for key, n in (metrics or {}).items() if "drop" in key)
    assert drops <= len(said) - len(spared), "what finished while slime aborted is judged when the rollout ends"
    assert {g["served"]["by"] for g in part["groups"]} == {"order"}
    rows = {s["sample"]: s for g in part["groups"] if g["fate"] == "trained" for s in g["samples"]}
    wanted = dict(zip(data["sample_indices"], data["rewards"]))
    assert {index: row["advantage"] for index, row in rows.items()} == pytest.approx(wanted)
    places = {index: n for n, index in enumerate(data["sample_indices"])}
    assert len(part["samples"]) == 2 * args.n_samples_per_prompt
    for s in part["samples"]:
        n = places[s["sample"]]
        mask = data["loss_masks"][n]
        assert unpack_ids(part["prompts"][s["prompt"]]) + unpack_ids(s["ids"]) == list(data["tokens"][n])
        assert [k for a, b in s["trained"] for k in range(a, b)] == [k for k, m in enumerate(mask) if m]
        own = [p for p, m in zip(data["rollout_log_probs"][n], mask) if m]
        assert unpack_floats(s["log_probs"]) == pytest.approx(own)
        per_token = data["teacher_log_probs"][n] if credit == "call" else [data["rewards"][n]] * len(mask)
        assert unpack_floats(s["advantages"]) == pytest.approx([a for a, m in zip(per_token, mask) if m])
    print(f"\ngroups: {dict(told)}; verdicts: {Counter(g['verdict'] for g in part['groups'])}; slime's drops: {drops}")


def test_fully_async_rollouts_are_dumped_without_verdicts(teacher, tmp_path):
    from slime.rollout import fully_async_rollout as fully
    from slime.rollout.base_types import call_rollout_fn

    from slime_tau2.hooks.metrics import log_rollout

    args = make_args(
        tmp_path,
        teacher.port,
        sglang_server_concurrency=8,
        rollout_function_path="slime.rollout.fully_async_rollout.generate_rollout_fully_async",
    )
    source = fresh(args)
    try:
        for rollout_id in range(2):
            out = call_rollout_fn(fully.generate_rollout_fully_async, args, rollout_id, source, evaluation=False)
            log_rollout(rollout_id, args, flatten(out.samples), None, 1.0)
            part = Dump(tmp_path / "ckpt" / "tau2_rollouts").rollout(rollout_id)
            trained = [g for g in part["groups"] if g["fate"] == "trained"]
            assert len(trained) == args.rollout_batch_size and {g["verdict"] for g in part["groups"]} == {""}
            assert part["waiting"] <= len(source.groups.out), "the worker may have gone on since"
    finally:
        fully._stop_global_worker()


def test_slimes_own_dump_is_read_without_running_it(teacher, tmp_path, tokenizer):
    """`--save-debug-rollout-data`, by torch's reader of weights."""
    rollout_module = pytest.importorskip("slime.ray.rollout", reason="slime.ray.rollout needs sglang's modules")
    args = make_args(tmp_path, teacher.port, save_debug_rollout_data=str(tmp_path / "debug" / "{rollout_id}.pt"))
    made = manager(args, fresh(args))
    samples, _ = made._get_rollout_data(rollout_id=3)
    if hasattr(rollout_module, "save_debug_rollout_data"):
        rollout_module.save_debug_rollout_data(args.save_debug_rollout_data, samples, rollout_id=3, evaluation=False)
    else:
        made._save_debug_rollout_data(samples, rollout_id=3, evaluation=False)
    found = find(tmp_path, TOKENIZER)
    assert found.written() == [3]
    part = found.rollout(3)
    rows = [s for g in part["groups"] for s in g["samples"]]
    assert [s["sample"] for s in rows] == [s.index for s in samples]
    assert [s["reward"] for s in rows] == [s.reward for s in samples] and {s["training_reward"] for s in rows} == {None}
    for s, told in zip(samples, part["samples"], strict=True):
        assert unpack_ids(part["prompts"][told["prompt"]]) + unpack_ids(told["ids"]) == s.tokens


def test_a_positive_advantage_raises_log_probs_under_slimes_own_loss(teacher, tmp_path, tokenizer):
    """slime's compute_advantages_and_returns with our hook, its policy loss, AdamW on a small Qwen3; one process over
    gloo.
    """
    pytest.importorskip("megatron.core", reason="megatron-core is not installed")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch
    import torch.distributed as dist
    from megatron.core import mpu
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns, loss_function

    from slime_tau2.local.models import new_model
    from slime_tau2.local.process import free_port

    if not dist.is_initialized():
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{free_port()}", rank=0, world_size=1)
        mpu.initialize_model_parallel()
    switches = dict(
        loss_type="policy_loss",
        use_rollout_logprobs=False,
        kl_coef=0.0,
        kl_loss_type="low_var_kl",
        use_kl_loss=False,
        eps_clip=0.2,
        eps_clip_high=0.28,
        eps_clip_c=None,
        use_opsm=False,
        use_tis=False,
        get_mismatch_metrics=False,
        entropy_coef=0.0,
        custom_pg_loss_reducer_function_path=None,
        custom_tis_function_path=None,
        calculate_per_token_loss=False,
        recompute_loss_function=False,
        allgather_cp=False,
        log_probs_chunk_size=-1,
        context_parallel_size=1,
    )
    args = make_args(tmp_path, teacher.port, tau2_credit="turn", **switches)
    source = fresh(args)
    made = manager(args, source)
    samples, _ = made._get_rollout_data(rollout_id=0)
    data = made._convert_samples_to_train_data(samples)
    ids = [torch.tensor(t) for t in data["tokens"]]
    masks = [torch.tensor(m, dtype=torch.int) for m in data["loss_masks"]]
    batch = {
        "unconcat_tokens": ids,
        "total_lengths": [len(t) for t in ids],
        "response_lengths": data["response_lengths"],
        "loss_masks": masks,
        "rollout_log_probs": [torch.tensor(x) for x in data["rollout_log_probs"]],
        "rewards": data["rewards"],
        "rollout_mask_sums": torch.tensor(data["rollout_mask_sums"], dtype=torch.float32),
        "teacher_log_probs": [torch.tensor(x) for x in data["teacher_log_probs"]],
    }
    compute_advantages_and_returns(args, batch)
    assert all(torch.allclose(a, t) for a, t in zip(batch["advantages"], batch["teacher_log_probs"])), (
        "the hook copied them"
    )
    model = new_model(len(tokenizer), 4096, seed=0, hidden=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def per_token():
        with torch.no_grad():
            rows = [model(t[None]).logits[0].float().log_softmax(-1)[:-1].gather(1, t[1:, None])[:, 0] for t in ids]
        return [r[-n:] for r, n in zip(rows, data["response_lengths"])]

    before = per_token()
    for _ in range(5):
        loss, _, _ = loss_function(
            args, batch, 1, len(samples), torch.cat([model(t[None]).logits[0] for t in ids])[None].float()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = torch.cat([(b - a)[m.bool()] for a, b, m in zip(before, per_token(), masks)])
    wanted = torch.cat([a[m.bool()] for a, m in zip(batch["advantages"], masks)])
    assert float(torch.corrcoef(torch.stack([moved, wanted]))[0, 1]) > 0.2


def test_sft_rows_equal_the_one_shot_template(tmp_path, qwen_tokenizer, helpdesk):
    """slime's loss-mask generator on our rows, consecutive tool results among them: the same tokens as one render, at
    every version.
    """
    from slime.utils.mask_utils import MultiTurnLossMaskGenerator

    messages = [
        {"role": "system", "content": "policy"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "two"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_order", "arguments": {"order_id": n}}} for n in ("W1", "W2")],
        },
        {"role": "tool", "content": "r1"},
        {"role": "tool", "content": "r2"},
        {"role": "assistant", "content": "Done."},
    ]
    rows = traces.row_messages(messages)
    generator = MultiTurnLossMaskGenerator(qwen_tokenizer, tokenizer_type="qwen3")
    ids, mask = generator.get_loss_mask(rows, tools=helpdesk.tool_schemas)
    assert qwen_tokenizer.decode(ids) == qwen_tokenizer.apply_chat_template(
        messages, tools=helpdesk.tool_schemas, tokenize=False
    )
    trained = "".join(qwen_tokenizer.decode([t]) for t, m in zip(ids, mask) if m)
    assert "Hi!" not in trained and "get_order" in trained and "Done." in trained and "r1" not in trained


def test_fully_async_rollout_trains_zero_variance_groups_with_advantage_zero(teacher, tmp_path):
    from slime.rollout import fully_async_rollout as fully
    from slime.rollout.base_types import call_rollout_fn

    args = make_args(tmp_path, teacher.port, sglang_server_concurrency=8)
    source = fresh(args)
    try:
        out = call_rollout_fn(fully.generate_rollout_fully_async, args, 0, source, evaluation=False)
        assert len(out.samples) == args.rollout_batch_size
        from slime_tau2.hooks.rewards import reward_post_process

        flat = flatten(out.samples)
        raw, advantages = reward_post_process(args, flat)
        for n in range(0, len(flat), args.n_samples_per_prompt):
            part = slice(n, n + args.n_samples_per_prompt)
            if len(set(raw[part])) == 1 and len({s.metadata["tau2"]["partial"] for s in flat[part]}) == 1:
                assert advantages[part] == [0.0] * args.n_samples_per_prompt
    finally:
        fully._stop_global_worker()


def test_256_concurrent_samples_reach_the_latency_bound(tokenizer, tmp_path):
    """Whole rollouts against what the turns' latency alone would take."""
    with TeacherServer(tokenizer, delay=0.5) as server:
        args = make_args(
            tmp_path,
            server.port,
            rollout_batch_size=32,
            over_sampling_batch_size=32,
            n_samples_per_prompt=8,
            dynamic_sampling_filter_path=None,
            sglang_server_concurrency=256,
        )
        source = fresh(args)
        started = time.perf_counter()
        out = roll(args, 0, source)
        wall = time.perf_counter() - started
        turns = max(s.metadata["tau2"]["turns"] for s in flatten(out.samples))
        print(
            f"\nload {os.getloadavg()[0]:.1f}; 256 samples in {wall:.2f} s, the longest has {turns} turns of 0.5 s: {turns * 0.5 / wall:.0%} of the bound"
        )


def test_rollout_manager_as_a_ray_actor(teacher, tmp_path):
    pytest.importorskip("slime.ray.rollout", reason="slime.ray.rollout needs sglang's modules")
    from slime.ray.placement_group import create_rollout_manager

    with ray_cluster() as ray:
        args = make_args(
            tmp_path,
            teacher.port,
            rollout_external=False,
            num_rollout=2,
            num_epoch=None,
            check_weight_update_equal=False,
            offload_rollout=False,
            colocate=False,
            actor_num_nodes=0,
            actor_num_gpus_per_node=0,
            rollout_num_gpus=0,
            rollout_num_engines=1,
            prefill_num_servers=None,
            sglang_config=None,
            wandb_mode=None,
        )
        made, _ = create_rollout_manager(args, (None, [], []))
        ray.get(made.load.remote(-1))
        shape = {"dp_size": 2, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
        ray.get(made.set_train_parallel_config.remote(shape))
        for rollout_id in range(2):
            assert len(ray.get(made.generate.remote(rollout_id))) == shape["dp_size"], "converted and split"
            ray.get(made.save.remote(rollout_id))
        ray.get(made.dispose.remote())
        state = json.loads((tmp_path / "ckpt" / "rollout" / "tau2_data_source_1.json").read_text())
        ended, size = sum(state["metadata"]["terminations"].values()), args.n_samples_per_prompt
        assert ended == state["next_index"] - len(state["returned"]) * size, (
            "a sample that was served has ended, or is served again"
        )
        assert ended >= 2 * args.rollout_batch_size * size


def test_generate_group_by_group_never_raises(tmp_path, tokenizer):
    """A dead server under slime's own `generate_and_rm_group`: placeholders, not exceptions."""
    from slime.rollout.sglang_rollout import GenerateState, generate_and_rm_group

    args = make_args(tmp_path, 9, tau2_policy_retries=0, tau2_episode_retries=0)
    source = fresh(args)
    (group,) = source.get_samples(1)

    async def run():
        return await generate_and_rm_group(args, group, sampling_params=GenerateState(args).sampling_params.copy())

    for s in asyncio.run(run()):
        assert_trainable(s)
        assert s.remove_sample and s.metadata["tau2"]["termination"] == "policy_failure"


BROKEN = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from slime_harness import fresh, make_args, roll
from slime_tau2.errors import LedgerError
from slime_tau2.ledger import TokenLedger
from slime_tau2.rollouts.found import find

def append_sampled(self, ids, log_probs):
    raise LedgerError("3 sampled ids came with 2 log-probs")

TokenLedger.append_sampled = append_sampled
args = make_args(Path(sys.argv[1]), int(sys.argv[2]), rollout_batch_size=2, sglang_server_concurrency=8, **OVER)
roll(args, 0, fresh(args))
print("goes on")
"""
FULLY_ASYNC = {"rollout_function_path": "slime.rollout.fully_async_rollout.generate_rollout_fully_async"}


@pytest.mark.parametrize(
    "over", [{}, {"partial_rollout": True}, FULLY_ASYNC], ids=["synchronous", "partial", "fully-async"]
)
def test_a_broken_ledger_ends_the_process_that_rolls_out(teacher, tmp_path, over):
    """docs/hooks.md, "What generate raises": slime lets it through, or could not swallow it."""
    here = Path(__file__).parent
    script = BROKEN.replace("**OVER", f"**{over!r}")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), str(teacher.port), str(here), str(here.parent)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "3 sampled ids came with 2 log-probs" in done.stderr, done.stderr[-2000:]
    assert "goes on" not in done.stdout


def test_a_broken_ledger_ends_an_evaluation(teacher, tmp_path, monkeypatch):
    from slime.utils.eval_config import build_eval_dataset_configs

    def append_sampled(self, ids, log_probs):
        raise LedgerError("3 sampled ids came with 2 log-probs")

    monkeypatch.setattr(TokenLedger, "append_sampled", append_sampled)
    args = make_args(tmp_path, teacher.port)
    source = fresh(args)
    datasets = [{"name": "helpdesk", "path": str(tmp_path / "tasks.jsonl"), "n_samples_per_eval_prompt": 2}]
    args.eval_datasets = build_eval_dataset_configs(args, datasets, {"max_response_len": 600})
    with pytest.raises(LedgerError, match="3 sampled ids"):
        roll(args, 0, source, evaluation=True)
