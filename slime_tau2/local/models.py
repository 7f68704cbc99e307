"""Models on disk: Qwen3 in Hugging Face's own layout, so that plain `transformers` loads whatever this package saves.

A save is whole or absent: it is written beside its target, synced and renamed. Nothing is unpickled and no remote code
is trusted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from slime_tau2.errors import CheckpointError, ConfigError
from slime_tau2.files import one_line
from slime_tau2.local.causal_lm import CausalLM
from slime_tau2.tokenizer import Tokenizer

HEADS = 4
"""Attention heads of a new model."""


def new_model(vocabulary: int, context: int, seed: int, hidden: int = 128, layers: int = 2) -> CausalLM:
    """A freshly initialised Qwen3; at the defaults and the bundled vocabulary, about half a million parameters.

    What a short training needs most is to copy names from far back. Four wide heads, a rotary base for short contexts
    and weights of about 1 / sqrt(hidden), not Qwen3's 0.02, make it learn that early, whatever the seed
    (docs/performance.md).
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=hidden // HEADS,
        initializer_range=1.5 / hidden**0.5,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cast(CausalLM, Qwen3ForCausalLM(config))


def _no_progress_bar() -> None:
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def default_device() -> str:
    """cuda where torch sees a GPU, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(path: Path, device: str | None = None) -> CausalLM:
    """A causal LM in float32. `device` None is `default_device()`.

    Raises:
        ConfigError: the directory holds no model that transformers can load.
    """
    from transformers import AutoModelForCausalLM

    _no_progress_bar()
    if not (Path(path) / "config.json").exists():
        raise ConfigError(f"{path} holds no model (no config.json); give the directory of a Hugging Face model")
    try:
        loaded = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True)
        model = cast(CausalLM, loaded)
        model.to(device or default_device())
        return model
    except Exception as error:  # what its many readers stumble over
        raise ConfigError(
            f"cannot load a model from {path} ({type(error).__name__}: {one_line(error)}); copy its files anew"
        ) from error


def load_weights(model: CausalLM, path: Path) -> None:
    """Replace a model's weights in place; all or nothing.

    Raises:
        CheckpointError: the directory holds no weights, or those of another architecture.
    """
    from safetensors.torch import load_file

    files = sorted(Path(path).glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{path} holds no safetensors")
    state = {k: v for file in files for k, v in load_file(file).items()}
    current = model.state_dict()
    wrong = [k for k, v in state.items() if k not in current or current[k].shape != v.shape]
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    missing = set(current) - set(state) - tied
    if wrong or missing:
        raise CheckpointError(
            f"{path} does not fit the model: {len(wrong)} unknown or misshapen, {len(missing)} missing tensors"
        )
    model.load_state_dict(state, strict=False)


def save_model(path: Path, model: CausalLM, tokenizer: Tokenizer) -> None:
    """Save a model and its tokenizer as one Hugging Face directory, whole or not at all."""

    def write(staging: Path) -> None:
        _no_progress_bar()
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)

    atomic_directory(path, write)


def atomic_directory(path: Path, write: Callable[[Path], None]) -> None:
    """Fill a new directory and put it at `path`, replacing what was there. On any failure `path` is as it was.

    Raises:
        CheckpointError: the disk refused (full, read-only, …); names it.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise CheckpointError(f"cannot save to {path}: {error.strerror or error}; nothing was changed") from error
    old = path.with_name(f".{path.name}.old")
    try:
        write(staging)
        for file in staging.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        os.chmod(staging, 0o755)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        staging.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not path.exists() and old.exists():
            old.replace(path)
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"cannot save to {path}: {reason}; what was there before is untouched") from error
