"""Run by torchrun: `worker.py save|step DIR`. Megatron's model from DIR/hf at TP = world size, saved as a torch_dist
checkpoint.

`save` writes DIR/checkpoint. `step` first takes one GRPO step on DIR/batch.pt with Megatron's DDP and optimizer, and
also writes the whole gradients to DIR/grads.pt and what the step said to DIR/report.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import shim
import torch
import torch.distributed as dist
from megatron_names import megatron_state
from safetensors.torch import load_file

from slime_tau2.local.losses import LossOptions, policy_loss, reduce

LEARNING_RATE = 1e-3


def build(config: dict, rows: int):
    """Megatron's GPTModel of a Qwen3 configuration, on this rank's share."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    options = TransformerConfig(
        num_layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        ffn_hidden_size=config["intermediate_size"],
        num_attention_heads=config["num_attention_heads"],
        num_query_groups=config["num_key_value_heads"],
        kv_channels=config["head_dim"],
        normalization="RMSNorm",
        layernorm_epsilon=config["rms_norm_eps"],
        qk_layernorm=True,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        params_dtype=torch.float32,
        pipeline_dtype=torch.float32,
        tensor_model_parallel_size=dist.get_world_size(),
        gradient_accumulation_fusion=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        apply_rope_fusion=False,
    )
    base = (config.get("rope_parameters") or {}).get("rope_theta") or config["rope_theta"]
    return GPTModel(
        options,
        get_gpt_layer_local_spec(qk_layernorm=True, normalization="RMSNorm"),
        vocab_size=rows,
        max_sequence_length=config["max_position_embeddings"],
        position_embedding_type="rope",
        rotary_base=base,
        parallel_output=True,
        share_embeddings_and_output_weights=config["tie_word_embeddings"],
    )


def stored_name(name: str) -> str:
    """The checkpoint's name of a parameter of the local layer spec, whose norms stand outside the linear layers."""
    name = name.replace("input_layernorm.weight", "self_attention.linear_qkv.layer_norm_weight")
    return name.replace("pre_mlp_layernorm.weight", "mlp.linear_fc1.layer_norm_weight")


def share(name: str, whole: torch.Tensor) -> torch.Tensor:
    """This rank's part of a whole tensor."""
    rank, size = dist.get_rank(), dist.get_world_size()
    if name.endswith("linear_fc1.weight"):
        return torch.cat([half.chunk(size)[rank] for half in whole.chunk(2)])
    if name.endswith(("linear_proj.weight", "linear_fc2.weight")):
        return whole.chunk(size, 1)[rank]
    if name.endswith(("word_embeddings.weight", "output_layer.weight", "linear_qkv.weight")):
        return whole.chunk(size)[rank]
    return whole


def whole(name: str, part: torch.Tensor) -> torch.Tensor:
    """All ranks' parts put together: undoes `share`."""
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part.contiguous())
    if name.endswith("linear_fc1.weight"):
        return torch.cat([p.chunk(2)[half] for half in (0, 1) for p in parts])
    if name.endswith(("linear_proj.weight", "linear_fc2.weight")):
        return torch.cat(parts, 1)
    if name.endswith(("word_embeddings.weight", "output_layer.weight", "linear_qkv.weight")):
        return torch.cat(parts)
    return part


def log_probs(ddp, rows) -> list[torch.Tensor]:
    """Of each row's response tokens, by Megatron's vocabulary-parallel cross entropy (unfused: the fused one is bf16
    inside).
    """
    from megatron.core.tensor_parallel import vocab_parallel_cross_entropy

    longest = max(len(r["tokens"]) for r in rows)
    ids = torch.tensor([r["tokens"] + [0] * (longest - len(r["tokens"])) for r in rows])
    mask = torch.ones(longest, longest, dtype=torch.bool).triu(1)[None, None]
    logits = ddp(ids, torch.arange(longest).expand(len(rows), -1), mask)
    targets = torch.roll(ids, -1, 1)
    scores = -vocab_parallel_cross_entropy(logits.float().clone(), targets)  # it works in place
    return [scores[n, len(r["tokens"]) - len(r["loss_mask"]) - 1 : len(r["tokens"]) - 1] for n, r in enumerate(rows)]


def step(model, directory: Path) -> None:
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

    ddp = DistributedDataParallel(model.config, DistributedDataParallelConfig(use_distributed_optimizer=False), model)
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam",
            lr=LEARNING_RATE,
            min_lr=LEARNING_RATE,
            weight_decay=0.0,
            adam_beta1=0.9,
            adam_beta2=0.95,
            adam_eps=1e-8,
            clip_grad=1.0,
            params_dtype=torch.float32,
        ),
        [ddp],
    )
    for group in optimizer.param_groups:  # what Megatron's scheduler does
        group["lr"], group["weight_decay"] = LEARNING_RATE, 0.0
    rows = torch.load(directory / "batch.pt", weights_only=False)
    ddp.zero_grad_buffer()
    options = LossOptions(eps_clip=0.2, eps_clip_high=0.28)
    losses, ratios = [], []
    for scores, row in zip(log_probs(ddp, rows), rows):
        old = torch.tensor(row["old"])
        mask = torch.tensor(row["loss_mask"], dtype=torch.float32)
        losses.append(policy_loss(scores, old, torch.tensor(row["advantages"]), mask, options)[0])
        ratios.append((scores.detach() - old)[torch.tensor(row["loss_mask"], dtype=torch.bool)])
    loss = reduce(losses, [torch.tensor(r["loss_mask"], dtype=torch.float32) for r in rows], len(rows), per_token=False)
    loss.backward()
    finalize_model_grads([ddp])
    grads = {stored_name(n): whole(n, p.main_grad.float()) for n, p in model.named_parameters()}
    _, norm, _ = optimizer.step()
    if dist.get_rank() == 0:
        torch.save(grads, directory / "grads.pt")
        apart = torch.cat(ratios)
        spread = apart.exp()
        report = {
            "loss": float(loss.detach()),
            "grad_norm": float(norm),
            "ratios": [float(spread.min()), float(spread.max())],
            "mismatch": float(apart.abs().max()),
        }
        (directory / "report.json").write_text(json.dumps(report))


def main() -> None:
    kind, directory = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    shim.install()
    from megatron.core import dist_checkpointing, parallel_state, tensor_parallel

    dist.init_process_group("gloo")
    parallel_state.initialize_model_parallel(dist.get_world_size())
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    config = json.loads((directory / "hf" / "config.json").read_text())
    rows = (
        -(-config["vocab_size"] // 256) * 256
    )  # padded for TP=2 in either case, so that both softmaxes see the same rows
    model = build(config, rows)
    weights = megatron_state(
        argparse.Namespace(**config), load_file(directory / "hf" / "model.safetensors"), stacked=False, padded=rows
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(share(name, weights[stored_name(name)]))
    if kind == "step":
        step(model, directory)
    iteration = directory / "checkpoint" / "iter_0000001"
    if dist.get_rank() == 0:
        iteration.mkdir(parents=True)
        (directory / "checkpoint" / "latest_checkpointed_iteration.txt").write_text("1")
    dist.barrier()
    arguments = argparse.Namespace(
        vocab_size=config["vocab_size"], padded_vocab_size=rows, attention=model.config.activation_func
    )
    dist_checkpointing.save({"args": arguments, "iteration": 1, **model.sharded_state_dict()}, str(iteration))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":  # saving starts a process that imports this file again
    main()
