"""Export of torch_dist checkpoints. The checkpoint is torch's own format with Megatron's names; tests/megatron writes
real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil

import pytest
import torch
from checkpoint_files import write_checkpoint
from megatron_names import gqa_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from slime_tau2.checkpoints.export import export
from slime_tau2.checkpoints.torch_dist import TorchDist
from slime_tau2.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def model(tokenizer):
    return gqa_model(len(tokenizer))


@pytest.fixture(scope="module")
def untied(tokenizer):
    return gqa_model(len(tokenizer), tied=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory, model, tokenizer):
    return write_checkpoint(tmp_path_factory.mktemp("written"), model, tokenizer)


@pytest.mark.parametrize("which, stacked", [("model", True), ("model", False), ("untied", True)])
def test_a_model_comes_back_bit_for_bit(request, tmp_path, tokenizer, which, stacked):
    model = request.getfixturevalue(which)
    checkpoint, hf = write_checkpoint(tmp_path, model, tokenizer, stacked=stacked)
    seen = []
    done = export(checkpoint, hf, tmp_path / "out", progress=lambda written, total: seen.append((written, total)))
    assert done.shards == 1 and seen[-1] == (done.size, done.size) and seen == sorted(seen)
    back = load_file(tmp_path / "out" / "model.safetensors")
    own = {
        k: v for k, v in model.state_dict().items() if not (model.config.tie_word_embeddings and k == "lm_head.weight")
    }
    assert back.keys() == own.keys() and all(torch.equal(back[k], own[k]) for k in own)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = torch.arange(5, 37)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert {"tokenizer.json", "config.json"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_shards_dtype_and_index(written, tmp_path, model):
    checkpoint, hf = written
    done = export(checkpoint, hf, tmp_path / "out", dtype="bfloat16", shard_bytes=100_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert done.shards > 2 and done.size == index["metadata"]["total_size"] and len(index["weight_map"]) == done.tensors
    assert sum(p.stat().st_size > 110_000 for p in (tmp_path / "out").glob("*.safetensors")) == 1, (
        "only the embedding is larger"
    )
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype is torch.bfloat16
    assert torch.equal(loaded.model.embed_tokens.weight, model.model.embed_tokens.weight.to(torch.bfloat16))


def drop(name):
    return lambda state: state.pop(name)


def narrow(name):
    return lambda state: state.update({name: state[name][..., :-1].clone()})


@pytest.mark.parametrize(
    "change, config, message",
    [
        (
            narrow("decoder.layers.mlp.linear_fc1.weight"),
            {},
            r"decoder.layers.mlp.linear_fc1.weight has shape \(2, \d+, 63\), config.json asks for",
        ),
        (drop("decoder.final_layernorm.weight"), {}, "has no tensor decoder.final_layernorm.weight"),
        (lambda s: s.update(extra=torch.zeros(2)), {}, "has 1 tensors that a Qwen3 has not, e.g. extra"),
        (lambda s: None, {"num_hidden_layers": 3}, r"has shape \(2, 64\), config.json asks for \(3, 64\)"),
        (lambda s: None, {"num_attention_heads": 2, "num_key_value_heads": 1}, "linear_qkv.weight has shape"),
        (lambda s: None, {"num_attention_heads": 3, "num_key_value_heads": 2}, "3 attention heads cannot share 2"),
        (
            lambda s: None,
            {"tie_word_embeddings": False},
            "has no tensor output_layer.weight; is tie_word_embeddings right",
        ),
        (
            lambda s: None,
            {"vocab_size": 1500},
            r"config.json has vocab_size 1500, the checkpoint was trained with 15\d\d: \d+ rows",
        ),
        (lambda s: None, {"vocab_size": 4096}, "config.json asks for at least"),
        (lambda s: None, {"model_type": "llama"}, "model_type 'llama'"),
    ],
)
def test_a_checkpoint_that_disagrees_is_refused_by_name(tmp_path, model, tokenizer, change, config, message):
    checkpoint, hf = write_checkpoint(tmp_path, model, tokenizer, change)
    path = hf / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(CheckpointError, match=message):
        export(checkpoint, hf, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_trainers_arguments_more_than_padding_is_refused(tmp_path, model, tokenizer):
    checkpoint, hf = write_checkpoint(tmp_path, model, tokenizer, padded=len(tokenizer) + 128 * 64)
    (checkpoint / "iter_0000007" / "common.pt").unlink()
    with pytest.raises(CheckpointError, match="more than padding; is vocab_size right"):
        export(checkpoint, hf, tmp_path / "out")


def test_a_damaged_checkpoint_is_refused(written, tmp_path):
    checkpoint, hf = written
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    shard = next((copy / "iter_0000007").glob("*.distcp"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="absent or cut short"):
        export(copy, hf, tmp_path / "out")
    shard.unlink()
    with pytest.raises(CheckpointError, match="absent or cut short"):
        export(copy, hf, tmp_path / "out")
    (copy / "iter_0000007" / ".metadata").write_bytes(b"\x80")
    with pytest.raises(CheckpointError, match=r"\.metadata cannot be read"):
        export(copy, hf, tmp_path / "out")
    with pytest.raises(CheckpointError, match="is no torch_dist checkpoint"):
        TorchDist(tmp_path)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("12")
    with pytest.raises(CheckpointError, match="names '12', but"):
        TorchDist(tmp_path)


def test_an_output_that_holds_something_is_left_alone(written, tmp_path):
    (tmp_path / "keep").write_text("mine")
    with pytest.raises(CheckpointError, match="is not empty"):
        export(*written, tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json is absent"):
        export(written[0], tmp_path, tmp_path / "out")
    with pytest.raises(CheckpointError, match="dtype 'int8' is none of bfloat16"):
        export(*written, tmp_path / "out", dtype="int8")


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


def test_a_pickle_runs_nothing(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(written[0], tmp_path / "copy")
    iteration = tmp_path / "copy" / "iter_0000007"
    torch.save({"args": argparse.Namespace(vocab_size=3, hostile=Hostile())}, iteration / "common.pt")
    assert TorchDist(tmp_path / "copy").arguments()["vocab_size"] == 3
    (iteration / ".metadata").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        TorchDist(tmp_path / "copy")
    assert not (tmp_path / "hostile_was_here").exists()
