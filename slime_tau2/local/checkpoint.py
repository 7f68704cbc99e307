"""Checkpoints that survive kill -9, a full disk and a flipped bit.

One directory per iteration: model (Hugging Face layout), optimizer, and `state.json` with everything else (RNG, data
source, curriculum, stage position). A manifest of sha256 sums is written last; the directory is renamed into place
whole. Loading takes the newest one whose sums hold and says so when it is not the newest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import torch

from slime_tau2.errors import CheckpointError
from slime_tau2.local.models import atomic_directory, load_weights
from slime_tau2.local.trainer import Trainer
from slime_tau2.tokenizer import Tokenizer

log = logging.getLogger(__name__)
KEEP = 2  # checkpoints of a stage


def save(root: Path, iteration: int, trainer: Trainer, tokenizer: Tokenizer, state: dict[str, Any]) -> Path:
    """Write checkpoint `iteration` and delete all but the newest KEEP.

    Args:
        state: whatever else a stage needs to resume, as JSON can hold it.

    Raises:
        CheckpointError: the disk refused; earlier checkpoints are untouched.
    """

    def write(staging: Path) -> None:
        trainer.model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        torch.save(trainer.optimizer.state_dict(), staging / "optimizer.pt")
        everything = {"iteration": iteration, "step_count": trainer.step_count, "rng": _rng_state(), **state}
        (staging / "state.json").write_text(json.dumps(everything), encoding="utf-8")
        sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(staging.iterdir())}
        (staging / "manifest.json").write_text(json.dumps(sums, indent=1), encoding="utf-8")

    target = root / f"iter_{iteration:07d}"
    atomic_directory(target, write)
    for old in checkpoints(root)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def checkpoints(root: Path) -> list[Path]:
    """All checkpoint directories, oldest first."""
    return sorted(p for p in root.glob("iter_*") if p.is_dir())


def broken(path: Path) -> str:
    """Why a checkpoint cannot be used; empty when it can."""
    try:
        sums = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "its manifest is absent or unreadable"
    for name, expected in sums.items():
        file = path / name
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            return f"{name} is absent or corrupt"
    return ""


def load(root: Path, trainer: Trainer) -> dict[str, Any] | None:
    """Restore the newest whole checkpoint into the trainer.

    Returns:
        What `save` was given as its state, with `iteration`, `step_count` and `rng`; None where there is no checkpoint.

    Raises:
        CheckpointError: there are checkpoints and none is whole.
    """
    saved = checkpoints(root)
    for path in reversed(saved):
        reason = broken(path)
        if reason:
            log.warning("checkpoint %s is corrupt (%s); trying the one before it", path, reason)
            continue
        load_weights(trainer.model, path)
        trainer.optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        trainer.step_count = state["step_count"]
        _restore_rng(state["rng"])
        return state
    if saved:
        raise CheckpointError(
            f"all {len(saved)} checkpoints in {root} are corrupt; delete the directory to start this stage anew"
        )
    return None


def _rng_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    return {"python": [version, list(numbers), gauss], "torch": torch.get_rng_state().tolist()}


def _restore_rng(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
