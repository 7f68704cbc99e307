"""Runs of `job.py`: their command line, their environment, their end.

A run is a directory: tau2.yaml, tasks.jsonl, checkpoints, the weights that were handed to the engine, slime's dump of
every rollout, what every rank trained on (recorder.py), job.log. The policy server is the project's own, started by the
test as an external SGLang.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slime_harness import HOOKS

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
MARK = "SLIME_TAU2_TEST_RUN"
"""Every process of a run inherits this variable with the run's own value: those that are left at the end are found by
it.
"""
LONGEST_S = 900.0
SETTINGS = """tau2_plugins: [few_tasks]
tau2_domains: [helpdesk]
tau2_split: few
tau2_user: scripted
tau2_max_turn_tokens: 80
tau2_max_steps: 60
tau2_credit: {credit}
"""
FLAGS = """--hf-checkpoint {model} --ref-load {model} --load {run}/checkpoints --save {run}/checkpoints --save-interval 1
 --prompt-data {run}/tasks.jsonl --input-key prompt --metadata-key metadata --num-rollout {rollouts} --rollout-batch-size 4
 --n-samples-per-prompt 4 --over-sampling-batch-size 6 --num-steps-per-rollout 1 --rollout-max-response-len 768
 --rollout-temperature 1.0 --balance-data
 --rollout-external-engine-addrs 127.0.0.1:{port} --rollout-num-gpus-per-engine 1 --num-gpus-per-node {gpus}
 --sglang-server-concurrency 24 --router-policy manual
 --update-weight-transport disk --update-weight-disk-dir {run}/weights --update-weight-disk-keep-files
 --advantage-estimator grpo --eps-clip 0.2 --eps-clip-high 0.28 --entropy-coef 0.0 --use-tis
 --optimizer adam --lr 1e-4 --lr-decay-style constant --weight-decay 0.1 --adam-beta1 0.9 --adam-beta2 0.98 --clip-grad 1.0
 --tensor-model-parallel-size {tp} --pipeline-model-parallel-size 1 --context-parallel-size {cp}
 --recompute-granularity full --recompute-method uniform --recompute-num-layers 1
 --use-dynamic-batch-size --max-tokens-per-gpu {tokens} --attention-dropout 0.0 --hidden-dropout 0.0
 --accumulate-allreduce-grads-in-fp32 --attention-softmax-in-fp32 --attention-backend flash
 --actor-num-nodes 1 --actor-num-gpus-per-node {gpus} --distributed-backend gloo
 --spec cpu_layers block_spec --transformer-impl local --no-gradient-accumulation-fusion --no-rope-fusion --no-persist-layer-norm
 --no-masked-softmax-fusion --no-bias-swiglu-fusion
 --save-debug-rollout-data {run}/rollouts/{{rollout_id}}.pt --rollout-data-postprocess-path recorder.keep
 --custom-config-path {run}/tau2.yaml"""


def model_flags(model: Path) -> list[str]:
    """The architecture, as slime's model scripts give it to Megatron."""
    config = json.loads((model / "config.json").read_text())
    return f"""--swiglu --num-layers {config["num_hidden_layers"]} --hidden-size {config["hidden_size"]}
     --ffn-hidden-size {config["intermediate_size"]} --num-attention-heads {config["num_attention_heads"]} --group-query-attention
     --num-query-groups {config["num_key_value_heads"]} --kv-channels {config["head_dim"]} --use-rotary-position-embeddings
     --disable-bias-linear --normalization RMSNorm --norm-epsilon 1e-6 --rotary-base 1000000 --vocab-size {config["vocab_size"]}
     --qk-layernorm""".split()


class Run:
    """One directory, and each start of its one command in it."""

    def __init__(
        self,
        directory: Path,
        model: Path,
        port: int,
        credit: str,
        tp: int = 1,
        cp: int = 1,
        dp: int = 1,
        extra: str = "",
    ):
        self.directory, self.model, self.credit, self.tp, self.cp, self.dp = directory, model, credit, tp, cp, dp
        self.mark, self.log = f"{uuid.uuid4()}", directory / "job.log"
        directory.mkdir(parents=True)
        (directory / "tau2.yaml").write_text(SETTINGS.format(credit=credit))
        (directory / "tasks.jsonl").write_text(
            json.dumps({"prompt": "not read: the data source names the tasks", "metadata": {}}) + "\n"
        )
        hooks = {k: v for k, v in HOOKS.items() if credit != "episode" or k != "custom_advantage_function_path"}
        self.hooks = [word for key, path in hooks.items() for word in (f"--{key.replace('_', '-')}", path)]
        if tp > 1:
            extra += " --sequence-parallel"
        if cp > 1:
            extra += " --cp-comm-type all_gather"
        self.extra, self.port = extra.split(), port

    @property
    def gpus(self) -> int:
        return self.tp * self.cp * self.dp

    def flags(self, rollouts: int) -> list[str]:
        flags = FLAGS.format(
            model=self.model,
            run=self.directory,
            rollouts=rollouts,
            port=self.port,
            gpus=self.gpus,
            tp=self.tp,
            cp=self.cp,
            tokens=4096 // self.cp,
        )
        return [*model_flags(self.model), *flags.split(), *self.hooks, *self.extra]

    def start(self, rollouts: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Run the job to its end, or kill -9 all of it as soon as `until()`. Returns whether it came to its end.

        Raises:
            AssertionError: it ended otherwise, or took too long; with the last of what its processes said.
        """
        ray_dir = tempfile.mkdtemp(prefix="ray")  # a path of a few letters: Ray's sockets lie under it
        environment = {
            **os.environ,
            MARK: self.mark,
            "RECORD_DIR": str(self.directory / "trained"),
            "CUDA_DEVICE_MAX_CONNECTIONS": "1",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "TORCHDYNAMO_DISABLE": "1",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
            "RAY_TMPDIR": ray_dir,
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(TESTS / "megatron"), os.environ.get("PYTHONPATH", "")]),
        }
        environment.pop(
            "CUDA_VISIBLE_DEVICES", None
        )  # Ray would count what it names against the GPUs that are asked of it
        command = [sys.executable, str(HERE / "job.py"), ray_dir, str(self.gpus), *self.flags(rollouts)]
        started = time.monotonic()
        with self.log.open("ab") as sink:
            process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                if until():
                    return False
                assert time.monotonic() - started < LONGEST_S, (
                    f"the job did not end within {LONGEST_S:.0f} s\n{self.last_words()}"
                )
                time.sleep(0.2)
            assert process.returncode == 0, f"the job ended with code {process.returncode}\n{self.last_words()}"
            return True
        finally:
            self.end()
            process.wait()
            shutil.rmtree(ray_dir, ignore_errors=True)
            print(
                f"  {rollouts} rollouts at TP {self.tp}, CP {self.cp}, DP {self.dp}: {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}"
            )

    def end(self) -> None:
        """kill -9 to what is left of the run, until nothing is: Ray's daemons, slime's actors, the router."""
        while left := [pid for pid in _marked(self.mark) if pid != os.getpid()]:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [n for n, line in enumerate(lines) if re.search(r"Traceback|Error\b|error:", line)]
        first = telling[0] if telling else len(lines)
        return "\n".join(
            ["first trouble in job.log:", *lines[max(0, first - 5) : first + 40], "…", "its end:", *lines[-40:]]
        )

    # --- what it left
    # -----------------------------------------------------------------------------------------------------------

    def steps(self) -> dict[int, dict[str, float]]:
        """{step: metrics}, from slime's own line about each (the last one, where a step was taken again after a kill)."""
        found = re.findall(r"\bstep (\d+): (\{.*\})", self.log.read_text(errors="replace"))
        return {int(step): ast.literal_eval(re.sub(r"\bnan\b", "None", metrics)) for step, metrics in found}

    def samples(self, rollout: int) -> list[Any]:
        """The samples that slime trained on, from its own dump, with the advantages that our hook gives them
        (`.advantages`).
        """
        import torch
        from slime.utils.types import Sample

        from slime_tau2.hooks.rewards import reward_post_process

        kept = torch.load(self.directory / "rollouts" / f"{rollout}.pt", weights_only=False)["samples"]
        samples = [Sample.from_dict(s) for s in kept]
        _, scores = reward_post_process(_Settings(self.credit), samples)
        for sample, score in zip(samples, scores, strict=True):
            whole = sample.teacher_log_probs if self.credit != "episode" else [score] * sample.response_length
            sample.advantages = torch.tensor(whole, dtype=torch.float32)
        return samples

    def trained(self, rollout: int) -> list[dict[str, Any]]:
        """What each rank trained on, by rank."""
        import torch

        folder = self.directory / "trained"
        return [torch.load(folder / f"{rollout}_{rank}.pt", weights_only=False) for rank in range(self.gpus)]

    def checkpoint(self, rollout: int) -> Path:
        return self.directory / "checkpoints" / f"iter_{rollout:07d}"

    def weights(self, version: int) -> Path:
        return self.directory / "weights" / f"weight_v{version:06d}"


class _Settings:
    """The options of the hooks, as attributes of slime's args."""

    def __init__(self, credit: str):
        self.tau2_domains, self.tau2_user, self.tau2_credit = ["helpdesk"], "scripted", credit


def _marked(mark: str) -> list[int]:
    found, wanted = [], f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # gone, or another user's
                continue
    return found
