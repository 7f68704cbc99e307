"""`export-hf` and slime's converter on one checkpoint, side by side: `python tests/bench/converters.py DIR [--layers
36]`.

Writes a synthetic checkpoint with Qwen3-4B's shapes and so many layers as slime's trainer lays them out (bf16, layers
stacked in one tensor, the vocabulary padded for TP 2), then converts it with each in turn, ROUNDS times, every time in
a process of its own: seconds, seconds of CPU, peak memory, and whether the tensors are the same bit for bit. 36 layers
are the whole model: 7.5 GiB, three times on the disk; slime's converter holds all of it in memory. SLIME_DIR names
slime's source tree. DIR is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import export
import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open

ROUNDS = 2


def write(directory: Path, layers: int) -> None:
    config = {**export.CONFIG, "num_hidden_layers": layers, "architectures": ["Qwen3ForCausalLM"], "rms_norm_eps": 1e-6}
    hidden, ffn, dim, heads, groups = (
        config[k]
        for k in ("hidden_size", "intermediate_size", "head_dim", "num_attention_heads", "num_key_value_heads")
    )
    shapes = {
        "self_attention.linear_qkv.layer_norm_weight": (hidden,),
        "self_attention.linear_qkv.weight": ((heads + 2 * groups) * dim, hidden),
        "self_attention.q_layernorm.weight": (dim,),
        "self_attention.k_layernorm.weight": (dim,),
        "self_attention.linear_proj.weight": (hidden, heads * dim),
        "mlp.linear_fc1.layer_norm_weight": (hidden,),
        "mlp.linear_fc1.weight": (2 * ffn, hidden),
        "mlp.linear_fc2.weight": (hidden, ffn),
    }
    state = {f"decoder.layers.{k}": torch.randn((layers, *s), dtype=torch.bfloat16) for k, s in shapes.items()}
    state["embedding.word_embeddings.weight"] = torch.randn((export.PADDED, hidden), dtype=torch.bfloat16)
    state["decoder.final_layernorm.weight"] = torch.randn(hidden, dtype=torch.bfloat16)
    iteration = directory / "checkpoint" / "iter_0000001"
    dcp.save(state, checkpoint_id=iteration, no_dist=True)
    arguments = argparse.Namespace(
        vocab_size=config["vocab_size"],
        padded_vocab_size=export.PADDED,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_query_groups=groups,
        kv_channels=dim,
        num_layers=layers,
        untie_embeddings_and_output_weights=False,
        ffn_hidden_size=ffn,
        q_lora_rank=None,
        num_experts=None,
    )
    torch.save({"args": arguments}, iteration / "common.pt")
    (directory / "checkpoint" / "latest_checkpointed_iteration.txt").write_text("1")
    (directory / "hf").mkdir()
    (directory / "hf" / "config.json").write_text(json.dumps(config))


def measured(command: list[str]) -> tuple[float, float, float]:
    """(seconds, seconds of CPU, peak GiB) of a command that must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    words = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(words.decode(errors="replace")[-2000:])
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def index(directory: Path) -> dict[str, Path]:
    """{tensor: its file}."""
    out = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            out |= dict.fromkeys(handle.keys(), file)
    return out


def differing(one: Path, other: Path) -> tuple[int, list[str]]:
    """(tensors, names of those that differ), read one at a time."""
    ones, others = index(one), index(other)
    wrong = sorted(ones.keys() ^ others.keys())
    for name in sorted(ones.keys() & others.keys()):
        with safe_open(ones[name], "pt") as a, safe_open(others[name], "pt") as b:
            left, right = a.get_tensor(name), b.get_tensor(name)
        if left.dtype != right.dtype or not torch.equal(left, right):
            wrong.append(name)
    return len(ones), wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    directory, layers = options.directory, options.layers
    if options.write:
        return write(directory, layers)
    directory.mkdir(parents=True)
    source = directory / "checkpoint" / "iter_0000001"
    commands = {
        "export-hf": [
            "-m",
            "slime_tau2.cli",
            "export-hf",
            str(source),
            "--hf-config",
            str(directory / "hf"),
            "--output",
        ],
        "slime's converter": [
            f"{os.environ['SLIME_DIR']}/tools/convert_torch_dist_to_hf.py",
            "--input-dir",
            str(source),
            "--origin-hf-dir",
            str(directory / "hf"),
            "--vocab-size",
            str(export.CONFIG["vocab_size"]),
            "--force",
            "--output-dir",
        ],
    }
    try:
        subprocess.run([sys.executable, __file__, str(directory), "--layers", str(layers), "--write"], check=True)
        size = sum(f.stat().st_size for f in source.iterdir()) / 2**30
        print(
            f"{layers} layers of Qwen3-4B, bf16, {size:.2f} GiB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            flush=True,
        )
        for turn in range(ROUNDS):
            for n, (name, command) in enumerate(commands.items()):
                out = directory / f"out{n}"
                shutil.rmtree(out, ignore_errors=True)
                time.sleep(export.PAUSE_S)
                seconds, busy, peak = measured([sys.executable, "-W", "ignore", *command, str(out)])
                print(
                    f"round {turn + 1}, {name}: {seconds:.1f} s ({busy:.1f} s of CPU), peak {peak:.2f} GiB, load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
        tensors, wrong = differing(directory / "out0", directory / "out1")
        print(f"{tensors - len(wrong)} of {tensors} tensors equal bit for bit; different: {wrong or 'none'}")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
