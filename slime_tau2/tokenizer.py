"""A model's tokenizer, from its directory; no remote code is trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from slime_tau2.errors import ConfigError
from slime_tau2.files import one_line


class Tokenizer(Protocol):
    """What is used here of a tokenizer of `transformers`. A fast one has a `backend_tokenizer` too."""

    @property
    def name_or_path(self) -> str: ...

    @property
    def chat_template(self) -> Any: ...

    @property
    def eos_token_id(self) -> Any: ...

    @property
    def unk_token_id(self) -> Any: ...

    def __len__(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        *,
        tools: Sequence[Any] | None = None,
        tokenize: bool,
        add_generation_prompt: bool,
        **more: Any,
    ) -> str:
        """The text of a conversation; `tokenize` is False throughout this package."""

    def convert_tokens_to_ids(self, tokens: str) -> Any: ...

    def get_vocab(self) -> Mapping[str, int]: ...

    def save_pretrained(self, save_directory: Path) -> object: ...


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer with a chat template, from a local directory."""
    from transformers import AutoTokenizer

    if not (Path(path) / "tokenizer.json").exists():
        raise ConfigError(f"{path} holds no tokenizer (no tokenizer.json); give the directory of a Hugging Face model")
    try:
        return cast(Tokenizer, AutoTokenizer.from_pretrained(path, local_files_only=True))
    except Exception as error:  # what its many readers stumble over
        why = f"{type(error).__name__}: {one_line(error)}"
        raise ConfigError(f"{path}: no tokenizer that can be read ({why}); copy its files anew") from error
