"""Every profile and script through slime's own `parse_args`, and what slime then makes of them: GPUs, engines, live
episodes, hooks.

One process parses them all, for slime's imports take longer than its parsing. GPU properties are the only stand-in.
Needs slime's, SGLang's and Megatron-LM's sources or wheels on PYTHONPATH, and a router.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from launch_commands import PROFILES, commands, fake_slime, launch, shown_file

from slime_tau2.doctor.plan import Plan

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        importlib.util.find_spec("slime") is None, reason="slime is not installed: put its source tree on PYTHONPATH"
    ),
    pytest.mark.skipif(importlib.util.find_spec("sglang") is None, reason="sglang is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("sglang_router") is None, reason="sglang-router is not installed"),
]
VARIANTS = {
    "card": ("--profile", "card"),
    "host-optimizer": ("--set", "CPU_OPTIMIZER=1"),
    "all-checkpoints": ("--set", "KEEP=all"),
    "two-gpu-users": ("--set", "USER_GPUS_PER_ENGINE=2"),
    "turn": ("--set", "tau2_credit=turn"),
    "own-router": ("--set", "ROUTER_POLICY=cache_aware", "--set", "FAULT_TOLERANCE=0"),
}
RUNS = {f"{script} {profile}": (script, ("--profile", profile)) for script in ("grpo", "sft") for profile in PROFILES}
RUNS |= {f"grpo 8gpu {name}": ("grpo", ("--profile", "8gpu", *extra)) for name, extra in VARIANTS.items()}
RUNS["grpo 2gpu host-optimizer"] = ("grpo", ("--profile", "2gpu", *VARIANTS["host-optimizer"]))
RUNS["rft train 8gpu"] = ("rft", ("train", "--profile", "8gpu"))

PARSE = """
import argparse, json, sys, types
import torch
card = types.SimpleNamespace(name="H100", total_memory=80 << 30, major=9, minor=0, multi_processor_count=132)
torch.cuda.get_device_properties = lambda device=None: card
parse = argparse.ArgumentParser.parse_known_args
def watched(self, *args, **kwargs):
    known, rest = parse(self, *args, **kwargs)
    unknown.append(set(w for w in rest if w.startswith("--")))
    return known, rest
argparse.ArgumentParser.parse_known_args = watched
from slime.utils.arguments import parse_args
from slime.utils.http_utils import get_rollout_num_engines
from slime.ray.placement_group import _get_placement_group_layout
from slime.backends.sglang_utils.sglang_config import SglangConfig
for name, words in json.load(sys.stdin).items():
    sys.argv, unknown = ["train.py", *words], []
    try:
        args = parse_args()
    except (Exception, SystemExit) as error:
        print("RESULT", json.dumps({"run": name, "error": f"{type(error).__name__}: {error}"}))
        continue
    models = []
    if getattr(args, "sglang_config", None):
        config = SglangConfig.from_yaml(args.sglang_config)
        for m in config.models:
            m.resolve(args)
            models.append([m.name, m.update_weights, [[g.num_gpus, g.num_gpus_per_engine] for g in m.server_groups]])
    kept = ("tensor_model_parallel_size sequence_parallel global_batch_size load ref_load save save_interval save_retain_interval no_load_optim"
            " override_opt_param_scheduler optimizer_cpu_offload use_fault_tolerance router_policy custom_advantage_function_path"
            " colocate offload_train tau2_credit tau2_protocol tau2_policy_concurrency tau2_workers rollout_num_gpus num_rollout").split()
    print("RESULT", json.dumps({
        "run": name, "unknown": sorted(set.intersection(*unknown)) if unknown else [], "models": models,
        "gpus": _get_placement_group_layout(args)[0], "live": getattr(args, "sglang_server_concurrency", 0) * get_rollout_num_engines(args),
        "args": {k: getattr(args, k, None) for k in kept},
    }))
"""
HF_CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151936,
    "hidden_size": 2560,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 36,
    "intermediate_size": 9728,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000,
    "head_dim": 128,
    "max_position_embeddings": 262144,
}


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """{run: what slime made of it, and the plan that doctor would check}."""
    place = tmp_path_factory.mktemp("profiles")
    (place / "model").mkdir()
    (place / "model" / "config.json").write_text(json.dumps(HF_CONFIG))
    slime, words, plans = str(fake_slime(place / "slime")), {}, {}
    path = os.pathsep.join(filter(None, sys.path))  # so that the scripts ask the router that is installed here
    for name, (script, options) in RUNS.items():
        out = place / name.replace(" ", "-")
        out.mkdir()
        for rows in ("tasks", "airline", "retail", "telecom", "sft", "rft"):
            (out / f"{rows}.jsonl").write_text(json.dumps({"prompt": "x", "messages": [], "metadata": {}}) + "\n")
        where = {
            "SLIME_DIR": slime,
            "MODEL_DIR": str(place / "model"),
            "OUTPUT_DIR": str(out),
            "DATA_DIR": str(out),
            "PYTHONPATH": path,
        }
        done = launch(script, *options, "--dry-run", **where)
        assert done.returncode == 0, done.stderr
        for file in ("tau2.yaml", "sglang.yaml", "eval.yaml"):
            if f"/{file}:" in done.stdout:
                (out / file).write_text(shown_file(done.stdout, file))
        (command,) = commands(done.stdout)
        at = next(n for n, w in enumerate(command) if w.startswith(f"{slime}/train"))
        words[name] = command[at + 1 :]
        plans[name] = Plan.parse(done.stdout.partition("--plan ")[2].splitlines()[0])
    environment = os.environ | {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE],
        input=json.dumps(words),
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    lines = [json.loads(line.removeprefix("RESULT ")) for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    assert ran.returncode == 0 and len(lines) == len(RUNS), ran.stderr[-3000:]
    return {line["run"]: line | {"plan": plans[line["run"]]} for line in lines}


@pytest.mark.parametrize("run", RUNS)
def test_slime_takes_the_command_whole(run, parsed):
    got = parsed[run]
    assert "error" not in got, got["error"]
    assert got["unknown"] == [], "slime ignores what it does not know"
    args, script = got["args"], RUNS[run][0]
    assert got["gpus"] == got["plan"].gpus, "doctor asks Ray for as many as slime's placement group will"
    assert args["tensor_model_parallel_size"] == got["plan"].tp == (1 if "1gpu" in run else 2)
    assert args["sequence_parallel"] is (got["plan"].tp > 1), "Megatron switches it off where nothing is split"
    assert bool(args["optimizer_cpu_offload"]) == bool(got["plan"].cpu_optimizer)
    assert args["load"] == args["ref_load"], "without a checkpoint, from INIT_DIR"
    assert args["override_opt_param_scheduler"] is True
    if "all-checkpoints" in run:
        assert args["save_retain_interval"] is None and got["plan"].kept == 30
    else:
        assert args["save_retain_interval"] % args["save_interval"] == 0 and got["plan"].kept == 2
    if script == "grpo":
        policy_gpus = args["rollout_num_gpus"] - sum(g[0] for m in got["models"][1:] for g in m[2])
        assert args["tau2_workers"] == got["plan"].workers == (4 if "8nodes" in run else 2 if "nodes" in run else 0)
        assert got["live"] == args["tau2_policy_concurrency"] and got["live"] % policy_gpus == 0
        assert bool(args["offload_train"]) == bool(got["plan"].colocate) == bool(args["colocate"])
        if got["models"]:
            assert [m[:2] for m in got["models"]] == [["actor", True], ["user_sim", False]]
            ((policies, each),) = got["models"][0][2]
            assert each == 1 and got["models"][1][2] == [[got["plan"].engines - policies, 2 if "two-gpu" in run else 1]]


@functools.cache
def choices():
    from slime_tau2.doctor import router

    return router.policies()


def test_the_variants_arrive(parsed):
    args = {run: got["args"] for run, got in parsed.items()}
    assert args["grpo 8gpu card"]["tau2_protocol"] == "card" and args["grpo 8gpu card"]["num_rollout"] == 100
    assert args["grpo 8gpu turn"]["custom_advantage_function_path"] == "slime_tau2.hooks.advantages.turn_advantages"
    assert (
        args["grpo 8gpu"]["custom_advantage_function_path"] is None and args["grpo 8gpu"]["use_fault_tolerance"] is True
    )
    assert (
        args["grpo 8gpu own-router"]["use_fault_tolerance"] is False
        and args["grpo 8gpu own-router"]["router_policy"] == "cache_aware"
    )
    assert (
        args["grpo 2gpu host-optimizer"]["optimizer_cpu_offload"] is True
        and not args["grpo 2gpu"]["optimizer_cpu_offload"]
    )
    assert (
        args["grpo 8gpu"]["router_policy"] in ("consistent_hashing", "manual")
        and args["grpo 8gpu"]["router_policy"] in choices()
    )
