"""What reaches a Ray job from the shell that submits it: whole paths, the variables that it needs, and no secret."""

import importlib.util
import json

import pytest
import yaml
from launch_commands import LAUNCH, commands, fake_slime, launch, options, shown_file

spec = importlib.util.spec_from_file_location("runtime_env", LAUNCH / "runtime_env.py")
runtime_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runtime_env)

RELATIVE = {
    "SLIME_DIR": "slime",
    "MEGATRON_DIR": "./megatron",
    "MODEL_DIR": "models/m",
    "USER_MODEL_DIR": "models/u",
    "DATA_DIR": "data",
    "OUTPUT_DIR": "./outputs/x",
    "TAU2_CONFIG": "own.yaml",
    "INIT_DIR": "outputs/sft/checkpoints",
    "TAU2_DATA_DIR": "tau2/data",
}


def job_environment(command):
    return json.loads(command[command.index("--runtime-env-json") + 1])["env_vars"]


@pytest.mark.parametrize("script, profile", [("grpo", "8gpu"), ("grpo", "2gpu"), ("sft", "8gpu")])
def test_paths_given_from_here_are_whole_in_the_job(script, profile, tmp_path):
    fake_slime(tmp_path / "slime")
    (tmp_path / "own.yaml").write_text(
        "tau2_domains: [retail, ./sets/x, sets/y, mine]\ntau2_prefix_starts: outputs/a.jsonl\ntau2_agent_prompt: null\n"
    )
    for name in ("mine", "retail"):  # a domain goes before a directory of its name
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    done = launch(script, "--profile", profile, "--dry-run", cwd=tmp_path, SFT_DATA="rows.jsonl", **RELATIVE)
    assert done.returncode == 0, done.stderr
    (command,) = commands(done.stdout)
    got, environment = options(command), job_environment(command)
    entry = next(w for w in command if w.endswith(("train.py", "train_async.py")))
    paths = [
        entry,
        got["--hf-checkpoint"],
        got["--ref-load"],
        got["--load"],
        got["--save"],
        got["--prompt-data"],
        environment["TAU2_DATA_DIR"],
    ]
    paths += environment["PYTHONPATH"].split(":")
    assert all(p.startswith(f"{tmp_path}/") for p in paths if p != str(LAUNCH.parent)), paths
    assert (
        got["--ref-load"] == f"{tmp_path}/outputs/sft/checkpoints"
        and got["--load"] == f"{tmp_path}/outputs/x/checkpoints"
    )
    assert not any("/./" in w for w in command)
    if script == "grpo":
        shown = yaml.safe_load(shown_file(done.stdout, "tau2.yaml"))
        assert shown["tau2_prefix_starts"] == f"{tmp_path}/outputs/a.jsonl" and shown["tau2_agent_prompt"] is None
        assert shown["tau2_domains"] == [
            "retail",
            *(f"{tmp_path}/{name}" for name in ("sets/x", "sets/y", "mine")),
        ]
        assert all(
            d["path"].startswith(f"{tmp_path}/data/")
            for d in yaml.safe_load(shown_file(done.stdout, "eval.yaml"))["eval"]["datasets"]
        )
        simulator = shown["tau2_user_model"]
        assert simulator == f"{tmp_path}/models/u"
        if profile == "8gpu":
            assert yaml.safe_load(shown_file(done.stdout, "sglang.yaml"))["sglang"][1]["model_path"] == simulator


def test_paths_in_the_environment_are_whole_in_the_job_too(tmp_path):
    fake_slime(tmp_path / "slime")
    (tmp_path / "own.yaml").write_text("tau2_task_sets: [sets/z]\n")
    given = {"TAU2_DOMAINS": "airline,./sets/x", "TAU2_TASK_SETS": "sets/y", "TAU2_PREFIX_STARTS": "/whole/a.jsonl"}
    done = launch("grpo", "--profile", "8gpu", "--dry-run", cwd=tmp_path, **RELATIVE, **given)
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(shown_file(done.stdout, "tau2.yaml"))
    assert shown["tau2_domains"] == ["airline", f"{tmp_path}/sets/x"]
    assert shown["tau2_task_sets"] == [f"{tmp_path}/sets/z"], "the file wins over the environment, as in the job"
    assert "tau2_prefix_starts" not in shown, "it is whole, and the job has it from the environment"


def test_other_scripts_paths_are_whole_too(tmp_path):
    done = launch("export_hf", "--dry-run", cwd=tmp_path, CHECKPOINT="a/iter_0000001", EXPORT_DIR="hf")
    assert f"{tmp_path}/a/iter_0000001" in done.stdout and f"{tmp_path}/hf" in done.stdout
    done = launch("serve_user_sim", "--dry-run", cwd=tmp_path, USER_MODEL_DIR="u")
    (command,) = commands(done.stdout)
    assert options(command)["--served-model-name"] == f"{tmp_path}/u", (
        "the name that grpo.sh asks for, from whatever directory"
    )


WANTED = {
    "TAU2_DATA_DIR": "/tau2/data",
    "TAU2_USER_CONCURRENCY": "7",
    "TAU2_USER_KEY_ENV": "MY_KEY",
    "SLIME_HOST_IP": "10.0.0.1",
    "NCCL_SOCKET_IFNAME": "eth0",
    "GLOO_SOCKET_IFNAME": "eth0",
    "TP_SOCKET_IFNAME": "eth0",
    "no_proxy": "localhost,10.0.0.1",
    "NO_PROXY": 'a "quoted" one',
    "HF_HUB_OFFLINE": "1",
    "MY_SWITCH": "on",
}
SECRETS = {
    "WANDB_API_KEY": "sekret-1",
    "OPENAI_API_KEY": "sekret-2",
    "HF_TOKEN": "sekret-3",
    "TAU2_API_KEY": "sekret-4",
    "SLIME_PASSWORD": "sekret-5",
    "NCCL_SECRET": "sekret-6",
    "TAU2_USER_BASE_URL": "http://me:sekret-7@host/v1",
    "OTHER": "sekret-8",
}


def test_the_variables_that_a_job_needs_arrive_and_no_secret(tmp_path):
    done = launch(
        "grpo",
        "--dry-run",
        SLIME_DIR=str(fake_slime(tmp_path)),
        JOB_ENV="MY_SWITCH",
        PYTHONPATH="/mine",
        **WANTED,
        **SECRETS,
    )
    environment = job_environment(commands(done.stdout)[0])
    assert WANTED.items() <= environment.items()
    assert environment["PYTHONPATH"].endswith(":/mine") and environment["PYTHONPATH"].startswith("/root/Megatron-LM:")
    assert "sekret" not in done.stdout + done.stderr and not {"SLIME_DIR", "TAU2_CONFIG", "OTHER"} & set(environment)
    for name in ("TAU2_API_KEY", "SLIME_PASSWORD", "NCCL_SECRET", "TAU2_USER_BASE_URL"):
        assert f"{name} " in done.stderr and "before `ray start`" in done.stderr, "what is left out is said"


@pytest.mark.parametrize("asked", ["WANDB_API_KEY", "hf_token", "PROXY"])
def test_a_secret_that_is_asked_for_is_refused(asked):
    here = {"JOB_ENV": asked, "WANDB_API_KEY": "sekret", "hf_token": "sekret", "PROXY": "http://me:sekret@proxy:1"}
    passed, told = runtime_env.environment({}, here)
    assert asked not in passed and told[0].startswith(f"error: JOB_ENV: {asked} ") and "sekret" not in str(told)
    assert runtime_env.environment({}, {"JOB_ENV": "NOPE"})[1] == ["error: JOB_ENV names NOPE, which is not set"]


def test_a_launch_ends_at_a_refused_variable(tmp_path):
    done = launch(
        "grpo", "--dry-run", SLIME_DIR=str(fake_slime(tmp_path)), JOB_ENV="WANDB_API_KEY", WANDB_API_KEY="sekret"
    )
    assert done.returncode == 2 and not done.stdout and "WANDB_API_KEY looks like a secret" in done.stderr


def test_names_of_options_are_no_secrets():
    """TAU2_USER_KEY_ENV names a variable, TAU2_MAX_TURN_TOKENS is a number."""
    from slime_tau2.config import Tau2Config

    assert [k for k in Tau2Config.model_fields if runtime_env.secret(f"TAU2_{k.upper()}", "x")] == []


KEYS = [
    "MYAPIKEY",
    "GITHUB_PAT",
    "HF_TOKEN_READ",
    "TAU2_API_KEY_2",
    "NCCL_X_TOKENS",
    "SLIME_MYTOKEN",
    "PGPASSWORD",
    "SLIME_AUTH_HEADER",
]
PLAIN = ["TAU2_USER_KEY_ENV", "NCCL_IB_PKEY", "SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION", "TAU2_DATA_PATH", "SLIME_PATCH"]


@pytest.mark.parametrize("name", [*KEYS, *PLAIN, *runtime_env.NAMES])
def test_secrets_are_known_by_their_names(name):
    assert bool(runtime_env.secret(name, "x")) == (name in KEYS)


@pytest.mark.parametrize(
    "value", ["https://ghp_abc@host", "http://me:x@host/v1", "a,socks5://:x@host:1", "http://a@b@host"]
)
def test_a_url_with_a_user_is_a_secret(value):
    assert runtime_env.secret("SLIME_X", value) == "SLIME_X holds a URL with a user or a password"
    assert not runtime_env.secret("SLIME_X", "http://host/v1?mail=me@host") and not runtime_env.secret(
        "SLIME_X", "http://host/a@b"
    )
