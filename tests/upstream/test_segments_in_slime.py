"""Episodes of several samples under slime's own rollouts, conversion, schedule, reducer and loss. Needs slime's source
tree on PYTHONPATH (and Megatron-LM's for the reducer).
"""

from __future__ import annotations

import itertools

import pytest
import torch
from slime_harness import TeacherServer, assert_trainable, fresh, make_args, manager, needs_slime, roll
from thinking_models import thinking_teacher, tokenizer_of

from slime_tau2.errors import ConfigError
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.fan_out import episodes, first_samples
from slime_tau2.hooks.samples import flatten, info

pytestmark = [pytest.mark.upstream, needs_slime]
FULLY = "slime.rollout.fully_async_rollout.generate_rollout_fully_async"


class ThinkingServer(TeacherServer):
    """The teacher's, of a model that thinks; `abort_each`: every so many requests one is aborted, as by a weight
    update.
    """

    def __init__(self, tokenizer, abort_each=0, **options):
        super().__init__(tokenizer, **options)
        self.abort_each, self.count = abort_each, itertools.count(1)

    def reply_to(self, request):
        key = request.headers["X-SMG-Routing-Key"]
        if key not in self.teachers:
            self.teachers[key] = thinking_teacher(flaws=self.flaws, seed=key)
        reply = self.teachers[key]
        if self.abort_each and next(self.count) % self.abort_each == 0:
            return lambda prompt, n: ("", "abort")
        return reply


@pytest.fixture(scope="module")
def thinker(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("thinker")
    made, _ = tokenizer_of(tokenizer, "qwen3")
    made.save_pretrained(path)
    return made, str(path)


@pytest.fixture
def server(thinker):
    with ThinkingServer(thinker[0], delay=0.005) as running:
        yield running


def asked(thinker, tmp_path, port, **over):
    return make_args(tmp_path, port, hf_checkpoint=thinker[1], tau2_max_turn_tokens=200, **over)


def one_process():
    """Megatron's groups, of this process alone."""
    import torch.distributed as dist
    from megatron.core import mpu

    from slime_tau2.local.process import free_port

    if not dist.is_initialized():
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{free_port()}", rank=0, world_size=1)
        mpu.initialize_model_parallel()


def assert_whole(args, groups):
    """Groups as slime's trainer wants them: whole episodes, each of them the samples of one rollout id."""
    assert len(groups) == args.rollout_batch_size
    for group in groups:
        assert len(group) == args.n_samples_per_prompt and all(isinstance(episode, list) for episode in group)
        for episode in group:
            assert len({(s.index, s.group_index, s.rollout_id, s.reward) for s in episode}) == 1
            assert [info(s).get("segment", 0) for s in episode] == list(range(len(episode)))
            assert len(info(episode[0]).get("segments", [0])) == len(episode)
            for s in episode:
                assert_trainable(s)
    ids = [episode[0].rollout_id for group in groups for episode in group]
    assert len(set(ids)) == len(ids) and None not in ids
    assert max(len(episode) for group in groups for episode in group) > 1


def test_a_rollout_with_filter_over_sampling_and_abort(thinker, server, tmp_path):
    args = asked(thinker, tmp_path, server.port)
    source = fresh(args)
    for rollout_id in range(2):
        assert_whole(args, roll(args, rollout_id, source).samples)
    assert all(len(group) == args.n_samples_per_prompt for group in source.buffer)


def test_fully_async_hands_back_what_was_aborted(thinker, tmp_path):
    from slime.rollout import fully_async_rollout as fully

    with ThinkingServer(thinker[0], delay=0.005, abort_each=60) as server:
        over = {"sglang_server_concurrency": 8, "rollout_function_path": FULLY, "tau2_episode_retries": 0}
        args = asked(thinker, tmp_path, server.port, **over)
        source, back = fresh(args), []
        take = source.add_samples
        source.add_samples = lambda groups: back.append(groups) or take(groups)
        from slime_tau2.episode import recorder

        patience, recorder.MAX_INTERRUPTIONS = recorder.MAX_INTERRUPTIONS, 1
        try:
            for rollout_id in range(2):
                assert_whole(args, roll(args, rollout_id, source).samples)
        finally:
            recorder.MAX_INTERRUPTIONS = patience
            fully._stop_global_worker()
    assert back, "some were aborted"
    whole = [first_samples(flatten(group)) for groups in back for group in groups]
    assert all(len(group) == args.n_samples_per_prompt for group in whole)


def test_partial_rollout_begins_anew_what_was_aborted(thinker, tmp_path):
    with ThinkingServer(thinker[0], delay=0.03) as server:
        args = asked(thinker, tmp_path, server.port, partial_rollout=True, over_sampling_batch_size=16)
        source = fresh(args)
        assert_whole(args, roll(args, 0, source).samples)
        assert source.buffer and all(len(group) == args.n_samples_per_prompt for group in source.buffer)
        states = {s.status for group in source.buffer for s in group}
        assert states <= {Sample.Status.PENDING, Sample.Status.ABORTED}, "nothing finished is left in it"
        assert_whole(args, roll(args, 1, source).samples)


def test_evaluation_counts_an_episode_once(thinker, server, tmp_path):
    from slime.utils.eval_config import EvalDatasetConfig

    args = asked(thinker, tmp_path, server.port, tau2_i_know=True)
    source = fresh(args)
    common = {"temperature": 0.6, "top_p": 1.0, "top_k": -1, "max_response_len": 600, "n_samples_per_eval_prompt": 2}
    dataset = EvalDatasetConfig(name="helpdesk", path=str(tmp_path / "tasks.jsonl"), **common)
    dataset.input_key, dataset.metadata_key = "prompt", "metadata"
    args.eval_datasets = [dataset]
    data = roll(args, 0, source, evaluation=True).data["helpdesk"]
    assert len(data["rewards"]) == 6 and all(isinstance(s, Sample) for s in data["samples"])


@pytest.mark.parametrize("flag", ["group_rm", "log_passrate"])
def test_what_slime_cannot_do_with_lists_is_refused(thinker, server, tmp_path, flag):
    args = asked(thinker, tmp_path, server.port, **{flag: True})
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        roll(args, 0, fresh(args))


@pytest.mark.parametrize("credit", ["episode", "turn", "call"])
def test_no_episode_weighs_more_for_its_segments_under_slimes_own_reducer(thinker, server, tmp_path, credit):
    """From the rollout through slime's conversion, DP schedule and reducer, micro-batch by micro-batch."""
    reducer = pytest.importorskip(
        "slime.backends.megatron_utils.cp_utils", reason="Megatron-LM is not installed: put its tree on PYTHONPATH"
    )
    from slime.utils.dp_schedule import build_dp_schedule

    one_process()
    args = asked(thinker, tmp_path, server.port, tau2_credit=credit, global_batch_size=8, max_tokens_per_gpu=3000)
    made = manager(args, fresh(args))
    samples, _ = made._get_rollout_data(rollout_id=0)
    data = made._convert_samples_to_train_data(samples)
    played = episodes(samples)
    assert len(played) == args.rollout_batch_size * args.n_samples_per_prompt < len(samples)
    totals = {
        s.rollout_id: sum(sum(m) for m, t in zip(data["loss_masks"], samples) if t.rollout_id == s.rollout_id)
        for s in samples
    }
    assert data["rollout_mask_sums"] == [totals[s.rollout_id] for s in samples]
    for episode in played:
        assert len({data["rewards"][samples.index(s)] for s in episode}) == 1
    by_group: dict[int, float] = {}
    for episode in played:
        group = episode[0].group_index
        by_group[group] = by_group.get(group, 0.0) + data["rewards"][samples.index(episode[0])]
    assert all(abs(total) < 1e-5 for total in by_group.values()), "normalised over episodes"

    lengths = [len(t) for t in data["tokens"]]
    parallel = {"dp_size": 2, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
    partitions, micro, _, sizes = build_dp_schedule(
        args, parallel, lengths, global_batch_size=args.global_batch_size, rollout_indices=data["rollout_ids"]
    )
    assert sizes == [8, 8] and sorted(n for part in partitions for n in part) == list(range(len(samples)))
    weights = [torch.ones(n, requires_grad=True) for n in data["response_lengths"]]
    denominators = torch.tensor(data["rollout_mask_sums"], dtype=torch.float32)
    for rank, batches in zip(partitions, micro):
        for batch in batches:
            part = [rank[n] for n in batch]
            mean = reducer.get_sum_of_sample_mean(
                [lengths[n] for n in part],
                [data["response_lengths"][n] for n in part],
                [torch.tensor(data["loss_masks"][n]) for n in part],
                denominators[part],
                False,
            )
            mean(torch.cat([weights[n] for n in part])).backward()
    pulled = {s.rollout_id: 0.0 for s in samples}
    for s, w in zip(samples, weights):
        pulled[s.rollout_id] += float(w.grad.sum())
    assert all(pull == pytest.approx(1.0, abs=1e-5) for pull in pulled.values()), "each episode pulls alike"
    for s, w in zip(samples, weights):
        assert {round(float(g) * totals[s.rollout_id], 4) for g, bit in zip(w.grad, s.loss_mask) if bit} == {1.0}, (
            "and so does each of its tokens, whichever segment holds it"
        )


def test_the_gradient_of_slimes_own_loss_over_all_segments_is_the_models(thinker, server, tmp_path, monkeypatch):
    """slime's advantages and policy loss on every segment, in micro-batches, beside a plain mean over each episode."""
    pytest.importorskip("megatron.core", reason="megatron-core is not installed")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    from slime.backends.megatron_utils.loss import compute_advantages_and_returns, loss_function

    from slime_tau2.local.models import new_model

    one_process()
    off = ("use_rollout_logprobs", "use_kl_loss", "use_opsm", "use_tis", "get_mismatch_metrics", "allgather_cp")
    unset = ("eps_clip_c", "custom_pg_loss_reducer_function_path", "custom_tis_function_path")
    switches = {
        **dict.fromkeys((*off, "calculate_per_token_loss", "recompute_loss_function"), False),
        **dict.fromkeys(unset),
        **{"loss_type": "policy_loss", "kl_coef": 0.0, "kl_loss_type": "low_var_kl", "eps_clip": 0.2},
        **{"eps_clip_high": 0.28, "entropy_coef": 0.0, "log_probs_chunk_size": -1, "context_parallel_size": 1},
    }
    args = asked(thinker, tmp_path, server.port, tau2_credit="turn", **switches)
    made = manager(args, fresh(args))
    samples, _ = made._get_rollout_data(rollout_id=0)
    data = made._convert_samples_to_train_data(samples)
    played = episodes(samples)
    model = new_model(len(thinker[0]), 4096, seed=0, hidden=32, layers=1)
    ids = [torch.tensor(t) for t in data["tokens"]]
    masks = [torch.tensor(m, dtype=torch.int) for m in data["loss_masks"]]

    def scores(n):
        logits = model(ids[n][None]).logits[0].float()
        own = logits.log_softmax(-1)[:-1].gather(1, ids[n][1:, None])[-data["response_lengths"][n] :, 0]
        return logits, own

    with torch.no_grad():
        before = [scores(n)[1] for n in range(len(samples))]
    parts = [list(range(start, min(start + 5, len(samples)))) for start in range(0, len(samples), 5)]
    for part in parts:
        batch = {
            "unconcat_tokens": [ids[n] for n in part],
            "total_lengths": [len(ids[n]) for n in part],
            "response_lengths": [data["response_lengths"][n] for n in part],
            "loss_masks": [masks[n] for n in part],
            "log_probs": [before[n] for n in part],
            "rollout_log_probs": [torch.tensor(data["rollout_log_probs"][n]) for n in part],
            "rewards": [data["rewards"][n] for n in part],
            "rollout_mask_sums": torch.tensor([data["rollout_mask_sums"][n] for n in part], dtype=torch.float32),
            "teacher_log_probs": [torch.tensor(data["teacher_log_probs"][n]) for n in part],
        }
        compute_advantages_and_returns(args, batch)
        loss, _, _ = loss_function(args, batch, 1, len(played), torch.cat([scores(n)[0] for n in part])[None])
        loss.backward()
    theirs = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for n, sample in enumerate(samples):
        advantages = torch.tensor(data["teacher_log_probs"][n])
        own = -(advantages * scores(n)[1] * masks[n]).sum() / data["rollout_mask_sums"][n] / len(played)
        own.backward()
        assert sample.rollout_id is not None
    for p, theirs_of in zip(model.parameters(), theirs):
        assert torch.allclose(p.grad, theirs_of, atol=1e-6)
    assert len(samples) > len(played) and any(float(g.abs().max()) > 1e-4 for g in theirs)
