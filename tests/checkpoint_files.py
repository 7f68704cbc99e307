"""A torch_dist checkpoint in torch's own format with Megatron's names (tests/megatron writes real ones)."""

from __future__ import annotations

import argparse

import torch
import torch.distributed.checkpoint as dcp
from megatron_names import megatron_state

from slime_tau2.local.models import save_model


def write_checkpoint(directory, model, tokenizer, change=lambda state: None, vocab_size=None, **options):
    """(checkpoint parent, Hugging Face directory)."""
    state = megatron_state(model.config, model.state_dict(), **options) | {
        "optimizer.state.exp_avg.decoder.final_layernorm.weight": torch.zeros(3)
    }
    change(state)
    iteration = directory / "checkpoint" / "iter_0000007"
    dcp.save(state, checkpoint_id=iteration, no_dist=True)
    torch.save(
        {"args": argparse.Namespace(vocab_size=vocab_size or model.config.vocab_size), "iteration": 7},
        iteration / "common.pt",
    )
    (directory / "checkpoint" / "latest_checkpointed_iteration.txt").write_text("7\n")
    save_model(directory / "hf", model, tokenizer)
    return directory / "checkpoint", directory / "hf"
