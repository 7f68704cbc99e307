"""Decoder layers for Megatron without Transformer Engine: `--spec cpu_layers block_spec` of slime's command line.

Everything is Megatron's own and imported where it runs (column- and row-parallel linear layers, rotary embedding, the
split of queries, keys and values, MLP, layer, block) but three modules of ours, which carry Transformer Engine's
parameter names, because slime's converters know no others: the norm, the linear layer with a norm before it, and the
attention. Megatron's local layers would not do: their attention refuses packed sequences, which slime always sends, and
their norm refuses sequence parallelism.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint


class Norm(torch.nn.RMSNorm):
    """RMSNorm whose gradient Megatron sums over the sequence-parallel ranks (it looks for the mark)."""

    def __init__(self, config: Any, hidden_size: int, eps: float = 1e-6, **_: Any):
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        self.weight.sequence_parallel = config.sequence_parallel


class NormedColumnParallelLinear(ColumnParallelLinear):
    """A column-parallel linear layer that norms its input first: `layer_norm_weight` beside `weight`."""

    def __init__(self, input_size: int, output_size: int, *, config: Any, **options: Any):
        super().__init__(input_size, output_size, config=config, **options)
        self.eps = config.layernorm_epsilon
        self.layer_norm_weight = torch.nn.Parameter(torch.ones(input_size, dtype=config.params_dtype))
        self.layer_norm_weight.sequence_parallel = config.sequence_parallel

    def forward(self, input_: torch.Tensor, *args: Any, **options: Any) -> Any:
        return super().forward(
            F.rms_norm(input_, input_.shape[-1:], self.layer_norm_weight, self.eps), *args, **options
        )

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> Any:
        own = self.state_dict(prefix="", keep_vars=True)
        groups = {"tp_group": self.tp_group, "dp_cp_group": (metadata or {}).get("dp_cp_group")}
        return make_sharded_tensors_for_checkpoint(own, prefix, {"weight": 0, "bias": 0}, sharded_offsets, **groups)


class PackedAttention(MegatronModule):
    """Causal attention over packed sequences, one after the other; over context-parallel ranks by gathering the whole
    sequence.
    """

    def __init__(
        self,
        config: Any,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        softmax_scale: float | None = None,
        **_: Any,
    ):
        super().__init__(config=config)
        self.ranks, self.scale = config.context_parallel_size, softmax_scale

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *_: Any,
        packed_seq_params: Any = None,
        **__: Any,
    ):
        """[tokens of this rank, heads, dim] each (fewer heads in keys and values) -> [tokens of this rank, heads *
        dim].
        """
        bounds = getattr(packed_seq_params, "bounds", None)
        if bounds is None:  # a GPU is waited for once per micro-batch, not once per layer
            bounds = packed_seq_params.bounds = packed_seq_params.cu_seqlens_q.tolist()
        if self.ranks > 1:
            return self._over_ranks(query, key, value, bounds)
        return torch.cat([self._one(query[a:b], key[a:b], value[a:b]) for a, b in pairwise(bounds) if b > a]).flatten(1)

    def _one(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        repeat = query.shape[1] // key.shape[1]
        key, value = (t.repeat_interleave(repeat, 1) for t in (key, value))
        out = F.scaled_dot_product_attention(
            *(t.transpose(0, 1) for t in (query, key, value)), is_causal=True, scale=self.scale
        )
        return out.transpose(0, 1)

    def _over_ranks(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: list[int]
    ) -> torch.Tensor:
        """A rank holds two chunks of 2 * ranks of each sequence, the r-th from the front and from the back. `bounds`
        are of whole sequences.
        """
        ranks, rank, group = (
            self.ranks,
            parallel_state.get_context_parallel_rank(),
            parallel_state.get_context_parallel_group(),
        )
        parts = [
            gather_from_sequence_parallel_region(t.contiguous(), tensor_parallel_output_grad=True, group=group).view(
                ranks, *t.shape
            )
            for t in (query, key, value)
        ]
        out = []
        for a, b in pairwise(bounds):
            if b <= a:
                continue
            start, chunk = a // ranks, (b - a) // ranks // 2
            front, back = slice(start, start + chunk), slice(start + chunk, start + 2 * chunk)
            whole = (
                torch.cat([*(t[r, front] for r in range(ranks)), *(t[r, back] for r in reversed(range(ranks)))])
                for t in parts
            )
            done = self._one(*whole).split(chunk)
            out += [done[rank], done[2 * ranks - 1 - rank]]
        return torch.cat(out).flatten(1)


def block_spec(args: Any, config: Any, vp_stage: int | None = None) -> TransformerBlockSubmodules:
    """What slime's model provider calls: the decoder of this pipeline stage."""
    attention = SelfAttentionSubmodules(
        linear_qkv=NormedColumnParallelLinear,
        core_attention=PackedAttention,
        linear_proj=RowParallelLinear,
        q_layernorm=Norm,
        k_layernorm=Norm,
    )
    layer = TransformerLayerSubmodules(
        self_attention=ModuleSpec(
            module=SelfAttention, params={"attn_mask_type": AttnMaskType.causal}, submodules=attention
        ),
        self_attn_bda=get_bias_dropout_add,
        mlp=ModuleSpec(
            module=MLP, submodules=MLPSubmodules(linear_fc1=NormedColumnParallelLinear, linear_fc2=RowParallelLinear)
        ),
        mlp_bda=get_bias_dropout_add,
    )
    spec = ModuleSpec(module=TransformerLayer, submodules=layer)
    return TransformerBlockSubmodules(layer_specs=[spec] * get_num_layers_to_build(config, vp_stage), layer_norm=Norm)
