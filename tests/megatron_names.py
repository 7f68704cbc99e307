"""A Hugging Face Qwen3's tensors under Megatron's names: what the exporter undoes. Written on its own, from Megatron's
layout.
"""

from __future__ import annotations

import torch

PADDED = 2048


def gqa_model(vocabulary: int, tied: bool = True):
    """A tiny Qwen3 with what can be mistaken: grouped queries, a head size of its own, norms that are not ones."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def megatron_state(config, weights, stacked=True, padded=PADDED):
    """{Megatron's name: whole tensor} of {Hugging Face's name: tensor} (weights, or gradients)."""
    out = {}
    kv, dim, hidden = config.num_key_value_heads, config.head_dim, config.hidden_size
    pad = (0, 0, 0, padded - config.vocab_size)
    out["embedding.word_embeddings.weight"] = torch.nn.functional.pad(weights["model.embed_tokens.weight"], pad)
    if not config.tie_word_embeddings:
        out["output_layer.weight"] = torch.nn.functional.pad(weights["lm_head.weight"], pad)
    out["decoder.final_layernorm.weight"] = weights["model.norm.weight"]
    layers = []
    for n in range(config.num_hidden_layers):
        w = {k.removeprefix(f"model.layers.{n}."): v for k, v in weights.items() if k.startswith(f"model.layers.{n}.")}
        q, k, v = (w[f"self_attn.{x}_proj.weight"].view(kv, -1, dim, hidden) for x in "qkv")
        layers.append(
            {
                "self_attention.linear_qkv.layer_norm_weight": w["input_layernorm.weight"],
                "self_attention.linear_qkv.weight": torch.cat([q, k, v], 1).reshape(-1, hidden),
                "self_attention.q_layernorm.weight": w["self_attn.q_norm.weight"],
                "self_attention.k_layernorm.weight": w["self_attn.k_norm.weight"],
                "self_attention.linear_proj.weight": w["self_attn.o_proj.weight"],
                "mlp.linear_fc1.layer_norm_weight": w["post_attention_layernorm.weight"],
                "mlp.linear_fc1.weight": torch.cat([w["mlp.gate_proj.weight"], w["mlp.up_proj.weight"]]),
                "mlp.linear_fc2.weight": w["mlp.down_proj.weight"],
            }
        )
    for name in layers[0]:
        if stacked:
            out[f"decoder.layers.{name}"] = torch.stack([layer[name] for layer in layers])
        else:
            out |= {f"decoder.layers.{n}.{name}": layer[name] for n, layer in enumerate(layers)}
    return {k: v.clone() for k, v in out.items()}
