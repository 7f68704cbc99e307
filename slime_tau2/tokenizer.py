"""A model's tokenizer, from its directory; no remote code is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slime_tau2.errors import ConfigError
from slime_tau2.files import one_line


def load_tokenizer(path: Path) -> Any:
    """A tokenizer with a chat template, from a local directory."""
    from transformers import AutoTokenizer

    if not (Path(path) / "tokenizer.json").exists():
        raise ConfigError(f"{path} holds no tokenizer (no tokenizer.json); give the directory of a Hugging Face model")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # what its many readers stumble over
        why = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(f"{path}: no tokenizer that can be read ({why}); copy its files anew") from error
