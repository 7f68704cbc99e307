"""How soon float order tells: the first optimizer steps of the quickstart's SFT, once per way of adding up.

Each row is a process of its own with the same seed and data, and other threads, vector widths or MKL code paths. Run by
hand: `python tests/bench/float_order.py [STEPS]`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

WAYS = {
    "1 thread": (1, {}),
    "1 thread, again": (1, {}),
    "2 threads": (2, {}),
    "2 threads, again": (2, {}),
    "4 threads": (4, {}),
    "AVX2 in torch": (1, {"ATEN_CPU_CAPABILITY": "avx2"}),
    "no vectors in torch": (1, {"ATEN_CPU_CAPABILITY": "default"}),
    "AVX2 in MKL": (1, {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    "MKL's compatible code path": (1, {"MKL_CBWR": "COMPATIBLE"}),
    "AVX2 in oneDNN": (1, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
}
"""{row: (threads, environment)}; each is compared with the first."""


def train(threads: int, steps: int) -> list[float]:
    """The loss of each step."""
    import torch

    from slime_tau2.data import teacher_traces, traces
    from slime_tau2.domains.helpdesk import CONTEXT, TOKENIZER
    from slime_tau2.episode import worlds
    from slime_tau2.episode.chat import ChatRenderer
    from slime_tau2.episode.splits import WHOLE
    from slime_tau2.experiments import stages
    from slime_tau2.experiments.settings import PipelineSettings
    from slime_tau2.local.batches import length_bucketed
    from slime_tau2.local.models import new_model
    from slime_tau2.local.trainer import Trainer
    from slime_tau2.tokenizer import load_tokenizer

    torch.set_num_threads(threads)
    settings, tokenizer = PipelineSettings(), load_tokenizer(TOKENIZER)
    batch = settings.sft_batch
    chat = ChatRenderer(tokenizer, worlds.load("helpdesk").tool_schemas)
    collected, _ = teacher_traces.collect(
        steps * batch, flaws=settings.flaws, seed=0, split=WHOLE, advance=lambda *_: None
    )
    rows = [one for row in collected for one in traces.tokenise(row, chat)]
    trainer = Trainer(new_model(len(tokenizer), CONTEXT, 0), stages.sft_options(settings.sft_lr, settings.sft_steps))
    batches = length_bucketed(len(rows), [len(r.tokens) for r in rows], batch, random.Random(0))
    return [trainer.sft_step([rows[n] for n in picked])["loss"] for picked in batches]


def main(steps: int) -> None:
    losses: dict[str, list[float]] = {}
    for name, (threads, environment) in WAYS.items():
        command = [sys.executable, __file__, str(steps), str(threads)]
        done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
        losses[name] = json.loads(done.stdout.splitlines()[-1])
    first = losses[next(iter(WAYS))]
    for name, found in losses.items():
        apart = [abs(a - b) for a, b in zip(first, found, strict=True)]
        when = next((n + 1 for n, d in enumerate(apart) if d), None)
        said = (
            "the same bits" if when is None else f"differs from step {when} on, after {len(apart)} by {apart[-1]:.0e}"
        )
        print(f"{name:28}{said}")
    print(f"2 threads twice: {'the same bits' if losses['2 threads'] == losses['2 threads, again'] else 'differ'}")


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:]]
    if len(arguments) == 2:
        print(json.dumps(train(arguments[1], arguments[0])))
    else:
        main(*arguments or [40])
