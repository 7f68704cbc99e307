"""The whole step on a CPU with everything real but slime itself: three steps of GRPO on helpdesk.

Our hooks in the local rollout loop → the real sglang-router → real SGLang → `reward_post_process` → a step of real
megatron-core at TP=2 over gloo → its torch_dist checkpoint → our export → `/update_weights_from_disk` → the next
rollout. All in float32.

Needs both: SLIME_TAU2_SGLANG_PYTHON, and megatron-core in this interpreter (tests/megatron). Each step starts Megatron
anew, so that
its Adam has no memory: what is shown is the loop, not its learning.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import servers
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "megatron"))
from test_megatron import installed
from test_megatron import run as run_megatron

from slime_tau2.checkpoints.export import export
from slime_tau2.data.teacher_traces import collect
from slime_tau2.data.traces import tokenise
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.rewards import reward_post_process
from slime_tau2.local.models import new_model, save_model
from slime_tau2.local.rollout import generate_rollout
from slime_tau2.local.trainer import Trainer, TrainOptions

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(not servers.PYTHON, reason=servers.REASON),
    pytest.mark.skipif(not installed(), reason="megatron-core is not installed (tests/megatron/test_megatron.py)"),
]
STEPS = 3


@pytest.fixture(scope="module")
def policy(tmp_path_factory, chat, tokenizer):
    """A model that has learned helpdesk a little: enough to err in different ways."""
    rows = [
        one
        for r in collect(300, flaws=1.0, seed=0, split="train+val", advance=lambda done, note: None)[0]
        for one in tokenise(r, chat)
    ]
    trainer = Trainer(new_model(len(tokenizer), 2048, seed=3, hidden=64), TrainOptions(lr=4e-3))
    for step in range(150):
        trainer.sft_step([rows[(16 * step + n) % len(rows)] for n in range(16)])
    path = tmp_path_factory.mktemp("policy") / "model"
    save_model(path, trainer.model, tokenizer)
    return path


def test_three_steps(policy, tmp_path, tokenizer):
    engine = servers.sglang(policy, tmp_path / "sglang.log")
    with engine, servers.router([engine], tmp_path / "router.log") as router:
        deadline = time.monotonic() + 60
        while not any(w["is_healthy"] for w in router.get("/workers")["workers"]):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        args = Namespace(
            hf_checkpoint=str(policy),
            sglang_router_ip="127.0.0.1",
            sglang_router_port=router.port,
            sglang_server_concurrency=16,
            sglang_context_length=2048,
            rollout_batch_size=3,
            over_sampling_batch_size=4,
            n_samples_per_prompt=4,
            rollout_temperature=1.0,
            rollout_top_p=1.0,
            rollout_top_k=-1,
            rollout_max_response_len=300,
            reward_key=None,
            save=str(tmp_path),
            load=str(tmp_path),
            tau2_user="scripted",
            tau2_max_steps=40,
            tau2_max_turn_tokens=40,
        )
        source, weights = Tau2DataSource(args), policy
        engine.post("/update_weights_from_disk", {"model_path": str(weights), "weight_version": "0"})
        for step in range(STEPS):
            started = time.perf_counter()
            rollout = asyncio.run(generate_rollout(args, step, source))
            rolled = time.perf_counter() - started
            raw, advantages = reward_post_process(args, rollout.samples)
            used = [(s, a) for s, a in zip(rollout.samples, advantages) if not s.remove_sample]
            assert len(used) > 6 and {v for s, _ in used for v in s.weight_versions} == {str(step)}, (
                "each step samples its own weights"
            )
            assert any(abs(a) > 1e-6 for _, a in used), [(s.prompt, s.reward, s.metadata["tau2"]) for s, _ in used]
            own = tmp_path / f"step{step}"
            own.mkdir()
            (own / "hf").symlink_to(weights)
            rows = [
                {
                    "tokens": s.tokens,
                    "loss_mask": s.loss_mask,
                    "old": s.rollout_log_probs,
                    "advantages": [a] * s.response_length,
                }
                for s, a in used
            ]
            torch.save(rows, own / "batch.pt")
            run_megatron("step", own, 2)
            report = json.loads((own / "report.json").read_text())
            weights = own / "out"
            export(own / "checkpoint", own / "hf", weights)
            engine.post("/update_weights_from_disk", {"model_path": str(weights), "weight_version": str(step + 1)})
            print(
                f"\nload {os.getloadavg()[0]:.1f}; step {step}: reward {sum(raw) / len(raw):.2f}, loss {report['loss']:+.4f}, gradient norm "
                f"{report['grad_norm']:.3f}, largest |log-prob of SGLang - of Megatron TP=2| {report['mismatch']:.1e} over "
                f"{sum(sum(r['loss_mask']) for r in rows)} tokens; rollout {rolled:.1f} s, the rest {time.perf_counter() - started - rolled:.1f} s"
            )
            assert math.isfinite(report["loss"]) and 0 < report["grad_norm"] < 1e3 and report["mismatch"] < 1e-3
