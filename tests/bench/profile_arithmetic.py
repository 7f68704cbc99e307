"""What a profile takes of a GPU, and of time, by arithmetic: `python tests/bench/profile_arithmetic.py [PROFILE…]`.

Memory is the sum that docs/training.md explains. Time is a forecast from the figures below, none of them measured on a
GPU: a live episode takes a turn of the agent's each CYCLE_S, training reads each token forward, backward and forward
again (8 flops a parameter) and once for its log-prob (2), and a host's Adam is bound by memory and PCIe.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from workers_needed import PROFILES, numbers

GIB = 2.0**30
PARAMETERS, LAYERS, HIDDEN, VOCABULARY, KV_BYTES = 4.02e9, 36, 2560, 151936, 144 * 1024
CARD_GIB, CUDA_GIB, ASLEEP_GIB, USER_GIB = 79.1, 3.0, 2.0, 17.0
"""Of an H100 of 80 GB; of CUDA, NCCL and a layer; of a sleeping engine; of the user simulator that has no GPU of its
own."""
TOKENS, TURNS, CYCLE_S = 9_000, 12, 2.9
"""An episode's tokens, prompt and all; its turns; seconds a turn."""
FLOPS, HOST_BYTES_S, PCIE_BYTES_S, SWAP_S = 4e14, 5e10, 2e10, 10.0
"""Of a GPU in training; of a host's Adam; of a bus; of a change of turns and a weight update."""


def fraction(profile: Path) -> float:
    """MEM_FRACTION."""
    texts = [(PROFILES / name).read_text(encoding="utf-8") for name in ("defaults.sh", profile.name)]
    return float(re.findall(r"\bMEM_FRACTION=([\d.]+)", "\n".join(texts))[-1])


def memory(profile: Path) -> dict[str, float]:
    """GiB of a training GPU by part, their sum, with the user where it shares the GPU, and KV cache in GiB and tokens."""
    has = numbers(profile)
    tp, trainers = has["TP"], has["ACTOR_GPUS"] * has["ACTOR_NODES"]
    parts = {
        "weights": 2 * PARAMETERS / tp / GIB,
        "gradients": 4 * PARAMETERS / tp / GIB,
        "optimizer": 0.0 if has["CPU_OPTIMIZER"] else 12 * PARAMETERS / trainers / GIB,
        "batch": has["MAX_TOKENS_PER_GPU"] * 2 / tp / 1024,  # 1.92 MiB a token, taken for 2
    }
    whole = sum(parts.values()) + CUDA_GIB + (ASLEEP_GIB if has["COLOCATE"] else 0.0)
    beside = USER_GIB if has["USER_GPUS"] == 0 else 0.0
    cache = (CARD_GIB - beside) * fraction(profile) - 2 * PARAMETERS / GIB
    return parts | {"sum": whole, "beside the user": whole + beside, "cache": cache, "tokens": cache * GIB / KV_BYTES}


def seconds(profile: Path) -> dict[str, float]:
    """Of one rollout and its training, where both take turns; and the episodes that train in an hour of them."""
    has = numbers(profile)
    trainers, samples = has["ACTOR_GPUS"] * has["ACTOR_NODES"], has["SAMPLES"]
    live, trained = has["CONCURRENCY"] * has["POLICY_GPUS"], has["GROUPS_A_ROLLOUT"] * samples
    episode = TURNS * CYCLE_S
    rollout = max(1.0, has["OVER_SAMPLING"] * samples / live) * episode + episode  # the last to begin ends last
    training = 10 * PARAMETERS * trained * TOKENS / (FLOPS * trainers)
    adam = 0.0
    if has["CPU_OPTIMIZER"]:
        adam = has["STEPS_A_ROLLOUT"] * PARAMETERS * (28 / HOST_BYTES_S + 6 / PCIE_BYTES_S)
    whole = rollout + training + adam + SWAP_S
    return {"rollout": rollout, "training": training, "adam": adam, "sum": whole, "an hour": 3600 / whole * trained}


def main() -> None:
    for name in sys.argv[1:] or ["1gpu", "2gpu", "8gpu"]:
        profile = PROFILES / f"{name}.sh"
        print(name)
        print("  GiB:    ", ", ".join(f"{part} {value:,.1f}" for part, value in memory(profile).items()))
        print("  seconds:", ", ".join(f"{part} {value:,.0f}" for part, value in seconds(profile).items()))


if __name__ == "__main__":
    main()
