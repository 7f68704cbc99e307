"""Dense Qwen3: Megatron's tensors -> Hugging Face's. Names and shapes are known before anything is read.

| Hugging Face | Megatron |
|---|---|
| embed_tokens, lm_head (untied) | embedding.word_embeddings, output_layer; rows padded to a multiple, trimmed here |
| q_proj, k_proj, v_proj | self_attention.linear_qkv, rows grouped by key-value head: its queries, its key, its value |
| gate_proj, up_proj | mlp.linear_fc1: gate over up |
| input_layernorm, post_attention_layernorm | linear_qkv.layer_norm_weight, linear_fc1.layer_norm_weight |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from slime_tau2.checkpoints.torch_dist import TorchDist
from slime_tau2.errors import CheckpointError

EMBEDDING = "embedding.word_embeddings.weight"
HEAD = "output_layer.weight"
FINAL_NORM = "decoder.final_layernorm.weight"
MAX_PADDING = 128 * 64
"""Megatron pads the vocabulary to a multiple of 128 · TP."""


@dataclass(frozen=True)
class Group:
    """Tensors that are read together: their names and shapes in Hugging Face's model, and what reads them in order."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]
    read: Callable[[], list[torch.Tensor]]


class Qwen3:
    """The mapping for one checkpoint and one `config.json`.

    Raises:
        CheckpointError: the two disagree; names the tensor, its shape and what the configuration asks for.
    """

    def __init__(self, source: TorchDist, config: dict[str, Any]):
        if config.get("model_type") != "qwen3":
            raise CheckpointError(
                f"config.json has model_type {config.get('model_type')!r}; only dense 'qwen3' models are exported"
            )
        self.source = source
        self.layers: int = config["num_hidden_layers"]
        self.hidden: int = config["hidden_size"]
        self.ffn: int = config["intermediate_size"]
        self.heads: int = config["num_attention_heads"]
        self.kv: int = config["num_key_value_heads"]
        self.head_dim: int = config.get("head_dim") or self.hidden // self.heads
        self.vocab: int = config["vocab_size"]
        self.tied: bool = config.get("tie_word_embeddings", False)
        self._check()

    @property
    def dtype(self) -> torch.dtype:
        """The checkpoint's."""
        return self.source.tensors[FINAL_NORM].dtype

    def _layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """A layer's tensors in Megatron, by name."""
        return {
            "self_attention.linear_qkv.layer_norm_weight": (self.hidden,),
            "self_attention.linear_qkv.weight": ((self.heads + 2 * self.kv) * self.head_dim, self.hidden),
            "self_attention.q_layernorm.weight": (self.head_dim,),
            "self_attention.k_layernorm.weight": (self.head_dim,),
            "self_attention.linear_proj.weight": (self.hidden, self.heads * self.head_dim),
            "mlp.linear_fc1.layer_norm_weight": (self.hidden,),
            "mlp.linear_fc1.weight": (2 * self.ffn, self.hidden),
            "mlp.linear_fc2.weight": (self.hidden, self.ffn),
        }

    def _check(self) -> None:
        if self.heads % self.kv:
            raise CheckpointError(f"config.json: {self.heads} attention heads cannot share {self.kv} key-value heads")
        expected: dict[str, tuple[int, ...]] = {FINAL_NORM: (self.hidden,)}
        for name, shape in self._layer_shapes().items():
            if f"decoder.layers.{name}" in self.source.tensors:
                expected[f"decoder.layers.{name}"] = (self.layers, *shape)
            else:
                expected |= {f"decoder.layers.{n}.{name}": shape for n in range(self.layers)}
        for name, shape in expected.items():
            stored = self.source.tensors.get(name)
            if stored is None:
                raise CheckpointError(
                    f"{self.source.path} has no tensor {name}, which a Qwen3 of this config.json needs"
                )
            if stored.shape != shape:
                raise CheckpointError(
                    f"{self.source.path}: {name} has shape {stored.shape}, config.json asks for {shape}"
                )
        vocabularies = [EMBEDDING] if self.tied else [EMBEDDING, HEAD]
        trained = self.source.arguments().get("vocab_size")
        for name in vocabularies:
            self._check_vocabulary(name, trained)
        known = {*expected, EMBEDDING, HEAD}  # a tied model's checkpoint may hold the head all the same
        unknown = [k for k in self.source.weights() if k not in known]
        if unknown:
            raise CheckpointError(
                f"{self.source.path} has {len(unknown)} tensors that a Qwen3 has not, e.g. {unknown[0]}"
            )

    def _check_vocabulary(self, name: str, trained: Any) -> None:
        """`trained`: the trainer's own vocab_size, where the checkpoint says."""
        stored = self.source.tensors.get(name)
        if stored is None:
            tie = "; is tie_word_embeddings right?" if name == HEAD else ""
            raise CheckpointError(f"{self.source.path} has no tensor {name}{tie}")
        rows, width = stored.shape
        if width != self.hidden or rows < self.vocab:
            raise CheckpointError(
                f"{self.source.path}: {name} has shape {stored.shape}, config.json asks for at least "
                f"{(self.vocab, self.hidden)}"
            )
        if isinstance(trained, int) and self.vocab < trained:
            raise CheckpointError(
                f"config.json has vocab_size {self.vocab}, the checkpoint was trained with {trained}: "
                f"{trained - self.vocab} rows of {name} would be lost; use the config.json that it was trained with"
            )
        if not isinstance(trained, int) and rows - self.vocab >= MAX_PADDING:
            raise CheckpointError(
                f"{name} has {rows} rows, config.json says {self.vocab}: more than padding; is vocab_size right?"
            )

    def groups(self) -> Iterator[Group]:
        """Every tensor of the Hugging Face model, in its order."""
        hidden, vocab = self.hidden, self.vocab
        yield Group((("model.embed_tokens.weight", (vocab, hidden)),), lambda: [self.source.read(EMBEDDING)[:vocab]])
        for n in range(self.layers):
            yield from self._layer(n)
        yield Group((("model.norm.weight", (hidden,)),), lambda: [self.source.read(FINAL_NORM)])
        if not self.tied:
            yield Group((("lm_head.weight", (vocab, hidden)),), lambda: [self.source.read(HEAD)[:vocab]])

    def _layer(self, n: int) -> Iterator[Group]:
        prefix, hidden, dim = f"model.layers.{n}.", self.hidden, self.head_dim

        def single(name: str, shape: tuple[int, ...], source: str) -> Group:
            return Group(((prefix + name, shape),), lambda: [self._read(source, n)])

        queries, keys = (self.heads * dim, hidden), (self.kv * dim, hidden)
        attention = zip(("q_proj", "k_proj", "v_proj"), (queries, keys, keys), strict=True)
        yield single("input_layernorm.weight", (hidden,), "self_attention.linear_qkv.layer_norm_weight")
        yield Group(tuple((f"{prefix}self_attn.{p}.weight", s) for p, s in attention), lambda: self._attention(n))
        yield single("self_attn.q_norm.weight", (dim,), "self_attention.q_layernorm.weight")
        yield single("self_attn.k_norm.weight", (dim,), "self_attention.k_layernorm.weight")
        yield single("self_attn.o_proj.weight", (hidden, self.heads * dim), "self_attention.linear_proj.weight")
        yield single("post_attention_layernorm.weight", (hidden,), "mlp.linear_fc1.layer_norm_weight")
        gate_up = tuple((f"{prefix}mlp.{p}.weight", (self.ffn, hidden)) for p in ("gate_proj", "up_proj"))
        yield Group(gate_up, lambda: list(self._read("mlp.linear_fc1.weight", n).chunk(2)))
        yield single("mlp.down_proj.weight", (hidden, self.ffn), "mlp.linear_fc2.weight")

    def _attention(self, n: int) -> list[torch.Tensor]:
        """A layer's queries [heads * head_dim, hidden], keys and values [key-value heads * head_dim, hidden]."""
        # per key-value head: its queries, its key, its value
        grouped = self._read("self_attention.linear_qkv.weight", n).view(
            self.kv, self.heads // self.kv + 2, self.head_dim, self.hidden
        )
        return [part.reshape(-1, self.hidden) for part in (grouped[:, :-2], grouped[:, -2], grouped[:, -1])]

    def _read(self, name: str, layer: int) -> torch.Tensor:
        """A layer's tensor, whether it is stored by itself or stacked with those of the other layers."""
        alone = f"decoder.layers.{layer}.{name}"
        if alone in self.source.tensors:
            return self.source.read(alone)
        return self.source.read(f"decoder.layers.{name}", layer)
