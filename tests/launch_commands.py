"""What the launch scripts would run, from their dry runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

LAUNCH = Path(__file__).parents[1] / "launch"
MODEL_SCRIPT = "scripts/models/qwen3-4B-Instruct-2507.sh"
MODEL_ARGS = """--swiglu --num-layers 36 --hidden-size 2560 --ffn-hidden-size 9728 --num-attention-heads 32 --group-query-attention
 --num-query-groups 8 --use-rotary-position-embeddings --disable-bias-linear --normalization RMSNorm --norm-epsilon 1e-6 --rotary-base
 5000000 --vocab-size 151936 --kv-channels 128 --qk-layernorm""".split()
PROFILES = sorted(p.stem for p in (LAUNCH / "profiles").glob("*.sh") if p.stem not in ("defaults", "card"))


def fake_slime(directory: Path) -> Path:
    """A source tree with what the scripts read of slime's: the Megatron arguments of the model."""
    script = directory / MODEL_SCRIPT
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"MODEL_ARGS=({shlex.join(MODEL_ARGS)})\n")
    return directory


def launch(script: str, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    kept = {
        "HOME": os.environ["HOME"],
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # `slime-tau2` is beside Python
    command = ["bash", str(LAUNCH / f"{script}.sh"), *arguments]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=60, cwd=cwd)


def commands(stdout: str) -> list[list[str]]:
    """The commands of a dry run, split into words; the files that it shows (lines with #) left out."""
    text = "\n".join(line for line in stdout.splitlines() if not line.startswith("#"))
    return [shlex.split(line) for line in re.sub(r" \\\n", " ", text).splitlines() if line.strip()]


def shown_file(stdout: str, name: str) -> str:
    """The content of a file that a dry run would write."""
    lines = stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if re.fullmatch(rf"# .*/{re.escape(name)}:", line)) + 1
    content = []
    for line in lines[start:]:
        if not line.startswith("#   "):
            break
        content.append(line[4:])
    return "\n".join(content)


def options(command: list[str]) -> dict[str, str | bool]:
    """{--flag: value or True} behind train.py or train_async.py."""
    at = next(n for n, word in enumerate(command) if word.endswith((".py", "launch_server")))
    words, out = command[at + 1 :], {}
    for n, word in enumerate(words):
        if word.startswith("--"):
            value = words[n + 1] if n + 1 < len(words) and not words[n + 1].startswith("--") else True
            out[word] = value
    return out
