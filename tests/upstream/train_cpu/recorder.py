"""`--rollout-data-postprocess-path recorder.keep`: slime calls it in every trainer after the advantages are there,
before the step. Our own hook at that place, `trainer_dump.keep_log_probs`, is called here too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

KEPT = (
    "tokens",
    "total_lengths",
    "response_lengths",
    "loss_masks",
    "rewards",
    "advantages",
    "returns",
    "rollout_log_probs",
    "log_probs",
    "teacher_log_probs",
    "sample_indices",
)


def keep(args: Any, rollout_id: int, rollout_data: dict[str, Any]) -> None:
    """Write what this rank will train on to RECORD_DIR/ROLLOUT_RANK.pt, with its place in the parallel groups."""
    import torch
    from megatron.core import mpu

    from slime_tau2.hooks.trainer_dump import keep_log_probs

    keep_log_probs(args, rollout_id, rollout_data)

    place = {
        "tp": mpu.get_tensor_model_parallel_rank(),
        "cp": mpu.get_context_parallel_rank(),
        "dp": mpu.get_data_parallel_rank(with_context_parallel=False),
    }
    path = Path(os.environ["RECORD_DIR"]) / f"{rollout_id}_{torch.distributed.get_rank()}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**{k: rollout_data[k] for k in KEPT if k in rollout_data}, "place": place}, path)
