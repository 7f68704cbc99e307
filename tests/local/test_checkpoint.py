import copy
import logging
import random

import pytest
import torch

from slime_tau2.errors import CheckpointError
from slime_tau2.local import checkpoint, models
from slime_tau2.local.trainer import Trainer, TrainOptions

from .test_trainer import rows


def trainer(tiny_model):
    return Trainer(copy.deepcopy(tiny_model), TrainOptions(lr=1e-3))


def weights(t):
    return torch.cat([p.flatten() for p in t.model.parameters()])


def test_resuming_equals_not_stopping(tmp_path, tiny_model, tokenizer):
    whole = trainer(tiny_model)
    for step in range(6):
        if step == 3:
            random.seed(5)
            torch.manual_seed(5)
            checkpoint.save(tmp_path, 3, whole, tokenizer, {"position": 42})
            draws = random.random(), torch.rand(1).item()
        whole.sft_step(rows(4, step))
    resumed = trainer(tiny_model)
    state = checkpoint.load(tmp_path, resumed)
    assert state["iteration"] == 3 and state["position"] == 42 and resumed.step_count == 3
    assert (random.random(), torch.rand(1).item()) == draws
    for step in range(3, 6):
        resumed.sft_step(rows(4, step))
    assert torch.equal(weights(whole), weights(resumed))


def saved(tmp_path, tiny_model, tokenizer, iterations=(1, 2, 3)):
    t = trainer(tiny_model)
    for n in iterations:
        t.sft_step(rows(2, n))
        checkpoint.save(tmp_path, n, t, tokenizer, {})
    return t


def test_only_the_newest_are_kept(tmp_path, tiny_model, tokenizer):
    saved(tmp_path, tiny_model, tokenizer)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["iter_0000002", "iter_0000003"]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "delete"])
def test_a_corrupt_checkpoint_gives_way_to_the_one_before_and_says_so(
    tmp_path, tiny_model, tokenizer, caplog, file, how
):
    saved(tmp_path, tiny_model, tokenizer)
    victim = tmp_path / "iter_0000003" / file
    if how == "delete":
        victim.unlink()
    else:
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 255
        victim.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING):
        state = checkpoint.load(tmp_path, trainer(tiny_model))
    assert (
        state["iteration"] == 2
        and "iter_0000003 is corrupt" in caplog.text
        and "trying the one before it" in caplog.text
    )


def test_none_and_all_corrupt(tmp_path, tiny_model, tokenizer):
    assert checkpoint.load(tmp_path / "empty", trainer(tiny_model)) is None
    saved(tmp_path, tiny_model, tokenizer)
    for path in checkpoint.checkpoints(tmp_path):
        (path / "optimizer.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints in .* are corrupt; delete the directory"):
        checkpoint.load(tmp_path, trainer(tiny_model))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, tiny_model, tokenizer, monkeypatch):
    t = saved(tmp_path, tiny_model, tokenizer)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        CheckpointError,
        match=r"cannot save to .*iter_0000004: No space left on device; what was there before is untouched",
    ):
        checkpoint.save(tmp_path, 4, t, tokenizer, {})
    monkeypatch.undo()
    assert checkpoint.load(tmp_path, trainer(tiny_model))["iteration"] == 3
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_replacing_a_model_is_all_or_nothing(tmp_path, tiny_model, tokenizer, monkeypatch):
    target = tmp_path / "model"
    models.save_model(target, tiny_model, tokenizer)
    before = {f.name: f.read_bytes() for f in target.iterdir()}

    def half(staging):
        (staging / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left"):
        models.atomic_directory(target, half)
    assert {f.name: f.read_bytes() for f in target.iterdir()} == before
    with pytest.raises(CheckpointError, match="cannot save to /proc/nowhere/model"):
        models.save_model("/proc/nowhere/model", tiny_model, tokenizer)


def test_weights_that_do_not_fit_change_nothing(tmp_path, tiny_model, tokenizer):
    models.save_model(tmp_path / "wide", models.new_model(len(tokenizer), 1024, 0, hidden=64), tokenizer)
    t = trainer(tiny_model)
    before = weights(t)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        models.load_weights(t.model, tmp_path / "wide")
    assert torch.equal(before, weights(t))
