"""Real megatron-core on a CPU, over gloo: what it writes is what the exporter reads, and its GRPO step is the local
trainer's.

Needs `pip install --no-deps --ignore-requires-python megatron-core==0.17.1` in a venv that has torch and psutil.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from megatron_names import gqa_model, megatron_state
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from slime_tau2.checkpoints.export import export
from slime_tau2.local.models import load_model, save_model
from slime_tau2.local.trainer import LossOptions, Trainer, TrainOptions
from slime_tau2.masks import spans
from slime_tau2.rewards.credit import Credited, token_advantages
from slime_tau2.types import CallGain


def installed() -> bool:
    try:
        return importlib.util.find_spec("megatron.core") is not None  # `megatron` alone is this folder too
    except ModuleNotFoundError:
        return False


pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(not installed(), reason="megatron-core is not installed (see this file's head)"),
]
WORKER = Path(__file__).with_name("worker.py")
LEARNING_RATE = 1e-3


def run(kind: str, directory: Path, tp: int) -> None:
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(
            [*filter(None, [os.environ.get("PYTHONPATH")]), str(WORKER.parents[2]), str(WORKER.parents[1])]
        ),
    }
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(tp),
        str(WORKER),
        kind,
        str(directory),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_what_megatron_saves_is_exported_bit_for_bit(tmp_path, tokenizer, tied, tp):
    model = gqa_model(len(tokenizer), tied)
    save_model(tmp_path / "hf", model, tokenizer)
    run("save", tmp_path, tp)
    export(tmp_path / "checkpoint", tmp_path / "hf", tmp_path / "out")
    before, after = load_file(tmp_path / "hf" / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    ids = torch.arange(3, 51)[None]
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids).logits, model.eval()(ids).logits)


class Row:
    """What the trainer reads of a slime Sample."""

    remove_sample = False

    def __init__(self, tokens, loss_mask, rollout_log_probs):
        self.tokens, self.loss_mask, self.rollout_log_probs = tokens, loss_mask, rollout_log_probs
        self.response_length = len(loss_mask)


def batch(model, vocab, credit):
    """Four samples of one group, a masked turn in each, scored by a policy that is not the trained one any more.

    With `credit` turn or call their advantages are what `reward_post_process` puts into the field that slime carries to
    the trainer.
    """
    generator, rows = torch.Generator().manual_seed(11), []
    for length, advantage in zip((40, 23, 55, 31), (0.75, -0.25, -0.25, 0.5)):
        tokens = torch.randint(0, vocab, (17 + length,), generator=generator).tolist()
        mask = [0 if length // 3 <= n < length // 3 + 6 else 1 for n in range(length)]
        with torch.no_grad():
            scores = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        own = scores[16:-1].gather(-1, torch.tensor(tokens[17:])[:, None])[:, 0]
        old = own + (0.13 * torch.randn(length, generator=generator)).clamp(-0.45, 0.45)
        rows.append({"tokens": tokens, "loss_mask": mask, "old": old.tolist(), "advantages": [advantage] * length})
    if credit != "episode":
        gains = ([0.0, 0.8], [0.4, 0.0], [0.0, 0.1], [0.5, 0.5])
        credited = []
        for row, gain in zip(rows, gains):
            whole = row["advantages"][0]
            calls = [
                (CallGain(start, start + 3, 0.0, "forbidden write"), CallGain(start + 4, start + 6, g))
                for (start, _), g in zip(spans(row["loss_mask"]), gain)
            ]
            credited.append(
                Credited(
                    advantage=whole,
                    success=whole > 0,
                    valid=True,
                    loss_mask=row["loss_mask"],
                    turns=spans(row["loss_mask"]),
                    gains=gain,
                    calls=calls if credit == "call" else (),
                )
            )
        for row, tokens in zip(rows, token_advantages(credited, [0] * 4)):
            row["advantages"] = tokens
        distinct = max(len({row["advantages"][n] for n in range(*spans(row["loss_mask"])[0])}) for row in rows)
        assert distinct == (3 if credit == "call" else 1), "text and two calls of the first turn"
    return rows


@pytest.fixture(scope="module", params=["episode", "turn", "call"])
def steps(request, tmp_path_factory, tokenizer):
    """{who: (loss, gradient norm, whole gradients, weights after the step)} and the weights before it, under Megatron's
    names.
    """
    directory = tmp_path_factory.mktemp("steps")
    model = gqa_model(
        -(-len(tokenizer) // 256) * 256
    )  # rows of padding would enter Megatron's softmax and not Hugging Face's
    rows, out = batch(model.eval(), len(tokenizer), request.param), {}
    names = lambda weights: megatron_state(model.config, weights, stacked=False, padded=model.config.vocab_size)  # noqa: E731
    for tp in (1, 2):
        own = directory / f"tp{tp}"
        save_model(own / "hf", model, tokenizer)
        torch.save(rows, own / "batch.pt")
        run("step", own, tp)
        export(own / "checkpoint", own / "hf", own / "out")
        report = json.loads((own / "report.json").read_text())
        out[f"tp{tp}"] = (report, torch.load(own / "grads.pt"), names(load_file(own / "out" / "model.safetensors")))
    local = load_model(directory / "tp1" / "hf").float()
    trainer = Trainer(
        local,
        TrainOptions(
            lr=LEARNING_RATE, weight_decay=0.0, clip_grad=1.0, loss=LossOptions(eps_clip=0.2, eps_clip_high=0.28)
        ),
    )
    grads = {}
    clip = torch.nn.utils.clip_grad_norm_

    def before_clipping(parameters, most):
        grads.update({n: p.grad.clone() for n, p in local.named_parameters()})
        return clip(list(parameters), most)

    torch.nn.utils.clip_grad_norm_ = before_clipping
    try:
        samples = [Row(r["tokens"], r["loss_mask"], r["old"]) for r in rows]
        gains = [torch.tensor(r["advantages"]) for r in rows]
        report = trainer._policy_step(samples, gains, [torch.tensor(r["old"]) for r in rows], None)
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    out["local"] = (report, names(grads), names(local.state_dict()))
    return out, names(model.state_dict())


@pytest.mark.parametrize("who", ["tp2", "local"])
def test_a_grpo_step_is_the_same_at_tp_1_tp_2_and_in_the_local_trainer(steps, who):
    """Off-policy data: ratios on both sides of the clipping bounds, a loss that is not near zero."""
    out, before = steps
    report, grads, after = out["tp1"]
    low, high = report["ratios"]
    assert low < 0.8 and high > 1.28 and low > 0.5 and high < 1.6 and abs(report["loss"]) > 0.01
    other, other_grads, other_after = out[who]
    assert other["loss"] == pytest.approx(report["loss"], rel=1e-4) and other["grad_norm"] == pytest.approx(
        report["grad_norm"], rel=1e-4
    )
    assert grads.keys() == other_grads.keys() == after.keys()
    worst = max(float((grads[k] - other_grads[k]).abs().max() / grads[k].abs().max()) for k in grads)
    moved = sum(float((after[k] - before[k]).double().pow(2).sum()) for k in after) ** 0.5
    apart = sum(float((after[k] - other_after[k]).double().pow(2).sum()) for k in after) ** 0.5
    print(f"\nTP=1 and {who}: gradients differ by {worst:.1e} (relative), the update by {apart / moved:.1e}")
    assert worst < 1e-4 and apart / moved < 1e-4 and moved > 0.1
