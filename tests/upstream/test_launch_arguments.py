"""The flags of every launch script and profile, against the parsers that will read them.

slime ignores a flag that it does not know, silently, so that a mistyped one trains something else. Megatron's part is
checked with megatron-core's own parser, SGLang's with its ServerArgs, the whole with slime's `parse_args`; each where
it is installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "megatron"), str(TESTS / "sglang_cpu")]
import servers
from launch_commands import MODEL_ARGS, PROFILES, commands, fake_slime, launch, options
from test_megatron import installed

pytestmark = pytest.mark.upstream

SLIME_FLAGS = set(
    """--actor-num-nodes --actor-num-gpus-per-node --rollout-num-gpus --rollout-num-gpus-per-engine --num-gpus-per-node --colocate
 --hf-checkpoint --ref-load --prompt-data --input-key --metadata-key --tool-key --rollout-shuffle --num-rollout --num-epoch
 --rollout-batch-size --n-samples-per-prompt --over-sampling-batch-size --num-steps-per-rollout --rollout-max-response-len
 --rollout-temperature --balance-data --rollout-function-path --data-source-path --custom-generate-function-path --custom-rm-path
 --custom-reward-post-process-path --custom-advantage-function-path --dynamic-sampling-filter-path --buffer-filter-path
 --rollout-sample-filter-path --rollout-all-samples-process-path --custom-rollout-log-function-path --loss-mask-type --loss-type
 --custom-eval-rollout-log-function-path --rollout-data-postprocess-path --custom-config-path --advantage-estimator --eps-clip --eps-clip-high --entropy-coef --use-tis
 --calculate-per-token-loss --disable-compute-advantages-and-returns --debug-train-only --use-dynamic-batch-size --max-tokens-per-gpu
 --use-wandb --wandb-group --eval-config --skip-eval-before-train --router-policy --router-assignment-mode
 --use-fault-tolerance --train-env-vars""".split()
)
"""Those of ours that are slime v0.3.1's own; what is neither here nor `--sglang-…` must be Megatron's."""
RUNS = [("grpo", p) for p in PROFILES] + [("sft", p) for p in PROFILES]


def command(script, profile, directory, *arguments):
    slime = str(fake_slime(directory / "slime"))
    done = launch(
        script,
        "--profile",
        profile,
        "--dry-run",
        *arguments,
        SLIME_DIR=slime,
        OUTPUT_DIR=str(directory / "out"),
        WANDB_PROJECT="p",
    )
    return commands(done.stdout)[0], done.stdout


@pytest.mark.skipif(not installed(), reason="megatron-core is not installed (tests/megatron/test_megatron.py)")
@pytest.mark.parametrize("script, profile", RUNS)
def test_megatrons_flags_pass_megatrons_parser(script, profile, tmp_path):
    import shim

    shim.install()
    from megatron.training.arguments import add_megatron_arguments

    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_megatron_arguments(parser)
    found, _ = command(script, profile, tmp_path)
    own = {k: v for k, v in options(found).items() if k not in SLIME_FLAGS and not k.startswith("--sglang-")}
    words = [w for k, v in own.items() for w in ([k] if v is True else [k, str(v)])]
    got = parser.parse_args(words)
    assert (
        got.tensor_model_parallel_size == tensor_parallel(profile)
        and got.rotary_base == 5000000
        and got.num_query_groups == 8
    )
    assert len(own) > 30 and set(MODEL_ARGS) & set(own)


def tensor_parallel(profile):
    return 1 if profile == "1gpu" else 2


DUMP = "import argparse, json; from sglang.srt.server_args import ServerArgs; p = argparse.ArgumentParser(); ServerArgs.add_cli_args(p); "


def ask_sglang(code):
    environment = {
        "PYTHONPATH": str(servers.STUBS),
        "SGLANG_USE_CPU_ENGINE": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(Path.home()),
    }
    done = subprocess.run(
        [servers.PYTHON, "-W", "ignore", "-c", DUMP + code],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not servers.PYTHON, reason=servers.REASON)
def test_sglangs_flags_are_sglangs(tmp_path):
    known = set(ask_sglang("print(json.dumps(list(p._option_string_actions)))"))
    for script, profile in RUNS:
        for flag in (f for f in options(command(script, profile, tmp_path)[0]) if f.startswith("--sglang-")):
            if flag not in ("--sglang-config", "--sglang-server-concurrency"):  # slime's own, under the same prefix
                assert "--" + flag.removeprefix("--sglang-") in known, f"{script}, {profile}: {flag}"
    for script in ("serve_policy", "serve_user_sim"):
        (words,) = commands(launch(script, "--dry-run").stdout)
        got = ask_sglang(f"print(json.dumps(p.parse_args({words[words.index('sglang.launch_server') + 1 :]!r}).port))")
        assert got == (30001 if script == "serve_user_sim" else 30000)


PARSE = """
import argparse, json, sys, types
import torch
card = types.SimpleNamespace(name="H100", total_memory=80 << 30, major=9, minor=0, multi_processor_count=132)
torch.cuda.get_device_properties = lambda device=None: card  # Megatron asks the card what it can do; there is none here
unknown, parse = [], argparse.ArgumentParser.parse_known_args
def watched(self, *args, **kwargs):
    known, rest = parse(self, *args, **kwargs)
    unknown.append(set(w for w in rest if w.startswith("--")))
    return known, rest
argparse.ArgumentParser.parse_known_args = watched
sys.argv = ["train.py", *json.loads(sys.argv[1])]
from slime.utils.arguments import parse_args
args = parse_args()
print(json.dumps({"unknown": sorted(set.intersection(*unknown)) if unknown else [], "tp": args.tensor_model_parallel_size,
                  "global_batch_size": args.global_batch_size, "user": getattr(args, "tau2_user_base_url", None)}))
"""
POLICIES = """
import argparse, json
from sglang_router.router_args import RouterArgs
parser = argparse.ArgumentParser()
RouterArgs.add_cli_args(parser)
print(json.dumps(parser._option_string_actions["--policy"].choices))
"""


@functools.cache
def router_policies():
    """The routing policies of the installed router: PyPI's 0.3.2 has no consistent_hashing, slime's own build has."""
    done = subprocess.run([sys.executable, "-c", POLICIES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"slime's parse_args needs sglang-router: {done.stderr[-500:]}"
    return json.loads(done.stdout.splitlines()[-1])


def for_this_router(words):
    """The command with a policy that the installed router has; the launch scripts write for slime's container."""
    at = words.index("--router-policy") + 1 if "--router-policy" in words else None
    if at is None or words[at] in router_policies():
        return words
    assert words[at] == "consistent_hashing" and "manual" in router_policies()
    return [*words[:at], "manual", *words[at + 1 :]]


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


@pytest.mark.skipif(
    importlib.util.find_spec("slime") is None, reason="slime is not installed: put its source tree on PYTHONPATH"
)
@pytest.mark.parametrize("script, profile", RUNS)
def test_the_whole_command_passes_slimes_parse_args(script, profile, tmp_path):
    """Needs what slime's argument module imports: SGLang and Megatron-LM (source trees or wheels) on PYTHONPATH."""
    from launch_commands import shown_file

    model, slime = tmp_path / "model", tmp_path / "slime"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(HF_CONFIG))
    slime = str(fake_slime(slime))
    out = tmp_path / "out"
    out.mkdir()
    done = launch(
        script,
        "--profile",
        profile,
        "--dry-run",
        SLIME_DIR=slime,
        MODEL_DIR=str(model),
        OUTPUT_DIR=str(out),
        DATA_DIR=str(out),
    )
    for name in ("tau2.yaml", "sglang.yaml", "eval.yaml"):
        if f"/{name}:" in done.stdout:
            (out / name).write_text(shown_file(done.stdout, name))
    for name in ("tasks", "airline", "retail", "telecom", "sft"):
        (out / f"{name}.jsonl").write_text(json.dumps({"prompt": "x", "messages": [], "metadata": {}}) + "\n")
    words = commands(done.stdout)[0]
    at = next(n for n, w in enumerate(words) if w.endswith((f"{slime}/train.py", f"{slime}/train_async.py")))
    arguments, environment = (
        json.dumps(for_this_router(words[at + 1 :])),
        os.environ | {"CUDA_DEVICE_MAX_CONNECTIONS": "1"},
    )
    ran = subprocess.run(
        [sys.executable, "-c", PARSE, arguments], capture_output=True, text=True, timeout=300, env=environment
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    got = json.loads(ran.stdout.splitlines()[-1])
    assert got["unknown"] == [] and got["tp"] == tensor_parallel(profile)
    if script == "grpo":
        assert got["user"], "the options of slime_tau2 arrive on args"
