"""Export of a synthetic checkpoint with Qwen3-4B's shapes (36 layers, bf16, 7.5 GiB): `python tests/bench/export.py
DIR`.

Writes DIR/checkpoint (needs 9 GiB of memory once), then three times exports it in a process of its own: seconds, peak
memory, and the speed beside that of writing as many bytes to the same disk with fsync and nothing else. Needs 16 GiB of
disk; DIR is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

CONFIG = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
PADDED = 152064
ROUNDS, PAUSE_S = 3, 15
"""The pause lets the machine forget the pages that were just freed: a write into them is several times as fast as into
others.
"""
ONE = """
import resource, sys, time
from pathlib import Path
from slime_tau2.checkpoints.export import export
started = time.perf_counter()
done = export(Path(sys.argv[1]) / "checkpoint", Path(sys.argv[1]) / "hf", Path(sys.argv[1]) / "out")
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, done.size, done.shards, done.tensors)
"""


def write(directory: Path) -> None:
    hidden, ffn, layers, dim = 2560, 9728, 36, 128
    shapes = {
        "self_attention.linear_qkv.layer_norm_weight": (hidden,),
        "self_attention.linear_qkv.weight": (48 * dim, hidden),
        "self_attention.q_layernorm.weight": (dim,),
        "self_attention.k_layernorm.weight": (dim,),
        "self_attention.linear_proj.weight": (hidden, 32 * dim),
        "mlp.linear_fc1.layer_norm_weight": (hidden,),
        "mlp.linear_fc1.weight": (2 * ffn, hidden),
        "mlp.linear_fc2.weight": (hidden, ffn),
    }
    # one tensor a layer, as chunks of the stacked ones would be read
    state = {f"decoder.layers.{n}.{k}": torch.randn(s).bfloat16() for n in range(layers) for k, s in shapes.items()}
    state["embedding.word_embeddings.weight"] = torch.randn(PADDED, hidden).bfloat16()
    state["decoder.final_layernorm.weight"] = torch.randn(hidden).bfloat16()
    iteration = directory / "checkpoint" / "iter_0000001"
    dcp.save(state, checkpoint_id=iteration, no_dist=True)
    torch.save({"args": argparse.Namespace(vocab_size=CONFIG["vocab_size"])}, iteration / "common.pt")
    (directory / "checkpoint" / "latest_checkpointed_iteration.txt").write_text("1")
    (directory / "hf").mkdir()
    (directory / "hf" / "config.json").write_text(json.dumps(CONFIG))


def disk_speed(directory: Path, size: int) -> float:
    """MB/s of writing `size` bytes and an fsync."""
    block = os.urandom(1 << 26)
    started = time.perf_counter()
    with (directory / "raw").open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    (directory / "raw").unlink()
    return size / seconds / 1e6


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True)
    try:
        subprocess.run([sys.executable, __file__, "--write", str(directory)], check=True)
        ratios = []
        for _ in range(ROUNDS):
            time.sleep(PAUSE_S)
            done = subprocess.run(
                [sys.executable, "-c", ONE, str(directory)], check=True, capture_output=True, text=True
            ).stdout.split()
            seconds, rss, size, shards, tensors = (
                float(done[0]),
                float(done[1]),
                int(done[2]),
                int(done[3]),
                int(done[4]),
            )
            shutil.rmtree(directory / "out")
            time.sleep(PAUSE_S)
            raw = disk_speed(directory, size)
            speed = size / seconds / 1e6
            ratios.append(speed / raw)
            print(
                f"load {os.getloadavg()[0]:.1f}; {tensors} tensors, {size / 2**30:.2f} GiB, {shards} files: {seconds:.1f} s, peak {rss:.2f} GiB "
                f"RSS; {speed:.0f} MB/s, the disk alone {raw:.0f} MB/s: {ratios[-1]:.0%}",
                flush=True,
            )
        print(f"median of {ROUNDS}: {statistics.median(ratios):.0%} of the disk's speed")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write(Path(sys.argv[2]))
    else:
        main()
