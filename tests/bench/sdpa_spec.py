"""Decoder layers for Megatron without Transformer Engine, on a GPU: `--spec sdpa_spec block_spec` of slime's command
line.

The layers are those of tests/upstream/train_cpu/cpu_layers.py: Megatron's own, but for the norms. Only the attention
differs. It runs torch's flash kernel, which keeps no matrix of scores, so that memory and time are those of a training.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.append(str(Path(__file__).parents[1] / "upstream" / "train_cpu"))

import cpu_layers
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

KERNELS = {"cuda": [SDPBackend.FLASH_ATTENTION], "cpu": [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]}
"""By device. On a GPU no other kernel will do: a quadratic one would be measured in its place, and nobody told."""


class FlashAttention(cpu_layers.PackedAttention):
    """The same by torch's flash kernel, which takes keys and values of fewer heads as they are."""

    def _one(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads_first = [t.transpose(0, 1)[None] for t in (query, key, value)]
        with sdpa_kernel(KERNELS[query.device.type]):
            out = F.scaled_dot_product_attention(*heads_first, is_causal=True, scale=self.scale, enable_gqa=True)
        return out[0].transpose(0, 1)


def block_spec(args: Any, config: Any, vp_stage: int | None = None) -> TransformerBlockSubmodules:
    """What slime's model provider calls: the decoder, with the attention above."""
    block = cpu_layers.block_spec(args, config, vp_stage)
    for layer in block.layer_specs:
        layer.submodules.self_attention.submodules.core_attention = FlashAttention
    return block
