"""What trainer, engine and checkpoints need of a Hugging Face model: the shape of transformers' Qwen3ForCausalLM.

transformers types these attributes as Module or Tensor; here each has the type that it is used as.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Protocol

import torch
from torch import nn


class ModelConfig(Protocol):
    """The fields of `config.json` that are read."""

    vocab_size: int
    max_position_embeddings: int
    num_hidden_layers: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool


class HiddenStates(Protocol):
    """What a forward pass of the decoder gives: [rows, tokens, hidden]."""

    last_hidden_state: torch.Tensor


class Decoder(Protocol):
    """The transformer without its head. `embed_tokens`, `layers` and `norm` are its parts in the order of use."""

    embed_tokens: nn.Module
    rotary_emb: nn.Module
    layers: nn.ModuleList
    norm: nn.Module

    def __call__(
        self, *, input_ids: torch.Tensor, use_cache: bool, past_key_values: Any | None = None
    ) -> HiddenStates: ...


class CausalLM(Protocol):
    """A decoder with its head."""

    config: ModelConfig
    model: Decoder
    lm_head: nn.Module

    @property
    def device(self) -> torch.device: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def to(self, device: str) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...

    def set_attn_implementation(self, name: str) -> None: ...

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], strict: bool = True) -> Any: ...

    def save_pretrained(self, save_directory: str | PathLike[str]) -> Any: ...
