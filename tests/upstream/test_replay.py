"""What the server says of each reply, in slime's own hands: prefix-cache figures, top-p sets and routed experts up to
its train data.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import subprocess
import sys
import time
import urllib.request

import pytest
from fake_policy import LAYERS, TOP_K, cut_in_three, expert
from slime_harness import TeacherServer, assert_trainable, fresh, make_args, manager, needs_slime, roll

from slime_tau2.errors import ConfigError
from slime_tau2.hooks import generate
from slime_tau2.hooks.compat import HAS_SLIME
from slime_tau2.hooks.samples import flatten
from slime_tau2.local.process import free_port

pytestmark = [pytest.mark.upstream, needs_slime]

TOP_P = {"rollout_top_p": 0.9}
EXPERTS = {"use_rollout_routing_replay": True, "num_layers": LAYERS, "moe_router_topk": TOP_K, "moe_layer_freq": None}


def of_slime(*paths):
    """The first of slime's functions that is there: HEAD has moved some of v0.3.1's."""
    for path in paths:
        module, _, name = path.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    raise AssertionError(f"slime has none of {paths}")


@pytest.fixture
def teacher(tokenizer):
    with TeacherServer(tokenizer, delay=0.002) as server:
        yield server


def test_slimes_own_figure_of_prefix_cache_hits(teacher, tmp_path):
    assert HAS_SLIME
    args = make_args(tmp_path, teacher.port, dynamic_sampling_filter_path=None, over_sampling_batch_size=4)
    samples = flatten(roll(args, 0, fresh(args)).samples)
    figures = of_slime(
        "slime.observability.rollout_metrics._compute_prefix_cache_metrics",
        "slime.ray.rollout._compute_prefix_cache_metrics",
    )(args, samples)
    sent = sum(s.metadata["tau2"]["usage"]["policy"]["prompt"] for s in samples)
    assert sent == sum(len(r["input_ids"]) for r in teacher.requests)
    cached = sum(len(r["input_ids"]) // 2 for r in teacher.requests)
    assert figures["prefix_cache_hit_rate"] == pytest.approx(cached / sent) and figures["prefix_cache_hit_rate"] > 0.4
    for s in samples:
        assert len(s.weight_versions) == s.metadata["tau2"]["turns"] and s.status.value == "completed", (
            "both stay the episode's"
        )


@pytest.mark.parametrize("flags", [TOP_P, EXPERTS, TOP_P | EXPERTS], ids=["top-p", "experts", "both"])
def test_what_the_trainer_replays_reaches_its_data(teacher, tmp_path, flags):
    args = make_args(tmp_path, teacher.port, dynamic_sampling_filter_path=None, over_sampling_batch_size=4, **flags)
    made = manager(args, fresh(args))
    samples, _ = made._get_rollout_data(rollout_id=0)
    generate.placeholder(
        samples[1], "connection refused", args=args
    )  # a sample that infrastructure ended has records too
    data = made._convert_samples_to_train_data(samples)
    of_slime(
        "slime.observability.rollout_data_utils.tensorize_rollout_data_for_training",
        "slime.ray.rollout._tensorize_rollout_data_for_training",
    )(data)
    assert ("rollout_top_p_token_ids" in data) == ("rollout_top_p" in flags)
    assert ("rollout_routed_experts" in data) == ("num_layers" in flags)
    for n, s in enumerate(samples):
        assert_trainable(s)
        response, mask = s.tokens[len(s.tokens) - s.response_length :], data["loss_masks"][n].tolist()
        if "rollout_top_p" in flags:
            ids, ends = data["rollout_top_p_token_ids"][n].tolist(), data["rollout_top_p_token_offsets"][n].tolist()
            assert [ids[a:b] for a, b in itertools.pairwise(ends)] == [
                [t, t + 1] if m else [] for t, m in zip(response, mask)
            ]
        if "num_layers" in flags:
            told = data["rollout_routed_experts"][n]
            assert told.shape == (len(s.tokens) - 1, LAYERS, TOP_K)
            if n != 1:
                assert told[-1].tolist() == [
                    [expert(len(s.tokens) - 2, layer, k) for k in range(TOP_K)] for layer in range(LAYERS)
                ]


@pytest.mark.parametrize(
    "flags, named",
    [(TOP_P, "--rollout-top-p 0.9"), (EXPERTS, "--use-rollout-routing-replay")],
    ids=["top-p", "experts"],
)
def test_a_server_without_records_ends_slimes_rollout_with_one_line(teacher, tmp_path, flags, named):
    teacher.replays = False
    args = make_args(tmp_path, teacher.port, **flags)
    with pytest.raises(ConfigError, match=named):
        roll(args, 0, fresh(args))


@contextlib.contextmanager
def router(worker):
    """The installed sglang-router in front of a worker; yields its port."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "sglang_router.launch_router",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--worker-urls",
        worker,
    ]
    process = subprocess.Popen(
        [*command, "--prometheus-port", str(free_port())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(120):
            with contextlib.suppress(OSError, ValueError):
                if json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/workers", timeout=5))["workers"]:
                    break
            assert process.poll() is None, "the router has ended"
            time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("flags", [TOP_P, EXPERTS], ids=["top-p", "experts"])
def test_the_installed_router_lets_the_request_for_records_through_or_the_run_ends(teacher, tmp_path, flags):
    """PyPI's 0.3.2 drops the fields; slime's own build does not."""
    pytest.importorskip("sglang_router", reason="sglang-router is not installed")
    with router(teacher.url) as port:
        args = make_args(tmp_path, port, dynamic_sampling_filter_path=None, over_sampling_batch_size=4, **flags)
        try:
            samples = flatten(roll(args, 0, fresh(args)).samples)
        except ConfigError as error:
            samples, said = [], str(error)
    asked = [r.get("return_routed_experts") or r["sampling_params"].get("custom_params") for r in teacher.requests]
    print(f"\n{len(asked)} requests came through the router, {sum(map(bool, asked))} of them with {flags}")
    assert asked and (all(asked) and samples if any(asked) else not samples and "sglang-router" in said)


def test_what_a_weight_update_cuts_is_aligned_in_slimes_sample(tokenizer, tmp_path):
    """Two aborts within the first turn: three replies in one turn, one of them empty."""
    import asyncio

    from slime.rollout.sglang_rollout import GenerateState

    with TeacherServer(tokenizer) as server:
        reply = cut_in_three()
        server.reply_to = lambda request: reply
        args = make_args(tmp_path, server.port, **TOP_P, **EXPERTS)
        ((sample, *_),) = fresh(args).get_samples(1)
        asyncio.run(generate.generate(args, sample, GenerateState(args).sampling_params.copy()))
    assert sample.reward == 1.0 and sample.status.value == "completed"
    assert len(sample.weight_versions) == len(server.requests) == sample.metadata["tau2"]["turns"] + 2
    assert len(sample.rollout_top_p_token_offsets) == sample.response_length + 1
    rows = [
        [[expert(n, layer, k) for k in range(TOP_K)] for layer in range(LAYERS)] for n in range(len(sample.tokens) - 1)
    ]
    assert sample.rollout_routed_experts.tolist() == rows
