"""Keys are used and never kept: a run against servers that want them, then every byte that it left; and what we never do to files."""

import os
import re
import subprocess
import sys
from pathlib import Path

from fake_openai import FakeOpenAI
from serving import Serving

ROOT = Path(__file__).parents[1]
KEYS = {"OPENAI_API_KEY": "planted-policy", "USER_KEY": "planted-user", "WANDB_API_KEY": "planted-wandb", "HF_TOKEN": "planted-hf"}


def test_keys_reach_their_servers_and_nothing_else(tmp_path):
    speak = lambda body: "Please help." if len(body["messages"]) == 2 else "Bye. ###STOP###"  # noqa: E731
    with Serving(FakeOpenAI(["Sorry, I cannot help."])) as policy, Serving(FakeOpenAI(speak)) as user:
        command = [
            sys.executable, "-m", "slime_tau2.cli", "eval", "--domain", "retail", "--policy", policy.url, "--model", "m", "--user", "llm",
            "--task", "0", "--attempts", "2", "--output", str(tmp_path / "run"), "--set", f"user_base_url={user.url}", "--set", "user_model=u",
            "--set", "user_key_env=USER_KEY", "--set", "retail_basis=communicate",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **KEYS})
    assert done.returncode == 0, done.stderr
    assert {h["Authorization"] for h in policy.headers} == {"Bearer planted-policy"}
    assert {h["Authorization"] for h in user.headers} == {"Bearer planted-user"}
    for follow in (
        ["report"],
        ["export-tau2", "--output", str(tmp_path / "tau2.json")],
        ["card", "--name", "m", "--output", str(tmp_path / "c.md")],
    ):
        after = subprocess.run(
            [sys.executable, "-m", "slime_tau2.cli", follow[0], str(tmp_path / "run"), *follow[1:]], capture_output=True, text=True,
            env={**os.environ, **KEYS},
        )  # fmt: skip
        assert after.returncode == 0, after.stderr
        done.stdout += after.stdout + after.stderr
    left = [done.stdout.encode(), done.stderr.encode(), *(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())]
    assert len(left) >= 8 and not any(b"planted-" in text for text in left)


def test_nothing_untrusted_is_executed_and_servers_stay_at_home():
    """What would run somebody's code from a file, or open a port to the network, is nowhere in the package or its scripts."""
    forbidden = {
        "trust_remote_code": r"trust_remote_code\s*=\s*True|--trust-remote-code",
        "pickle": r"\bpickle\.loads?\(|\bcloudpickle\b|\bdill\b",
        "torch.load of anything": r"torch\.load\((?![^)]*weights_only=True)",
        "yaml.load": r"\byaml\.load\(",
        "shell=True": r"shell\s*=\s*True",
        "all interfaces": r"0\.0\.0\.0",
    }
    files = [*ROOT.glob("slime_tau2/**/*.py"), *ROOT.glob("launch/**/*.sh")]
    assert len(files) > 100
    found = [f"{p.relative_to(ROOT)}: {what}" for p in files for what, pattern in forbidden.items() if re.search(pattern, p.read_text())]
    assert set(found) == set(JUSTIFIED)
    assert "weights_only=False" not in (ROOT / "slime_tau2/local/checkpoint.py").read_text()


JUSTIFIED = {
    "slime_tau2/checkpoints/torch_dist.py: torch.load of anything": "Megatron's metadata, through an unpickler that knows a few harmless classes",
    "slime_tau2/episode/environments.py: pickle": "databases that this process itself has pickled, in memory",
}


def test_every_locked_package_has_a_version_and_hashes():
    for name in ("base", "dev", "tau2"):
        entries = re.findall(r"^\S+==.*(?:\n    .*)*", (ROOT / "launch" / "lock" / f"{name}.txt").read_text(), re.MULTILINE)
        assert entries and all("--hash=sha256:" in e for e in entries), name
