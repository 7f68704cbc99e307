"""What Megatron's training of Qwen3-4B takes of one GPU, beside the forecast: `python tests/bench/one_gpu.py`.

The command line is that of `launch/grpo.sh --profile 1gpu`. slime's own code reads it, builds the model, computes
log-probs and trains two steps, with Adam on the host. Stood in for: Transformer Engine (sdpa_spec.py), the weights and
the episodes (one_gpu_job.py). No engine sleeps beside it, and there is no Ray.

It prints memory and seconds of each part, the forecasts of profile_arithmetic.py and slime_tau2/doctor/plan.py beside
them, and how far the log-probs of four sequences are from those of transformers. Two models that differ by more than
bf16's rounding, or a number that is not finite, end it with exit code 1. It writes DIR/one_gpu.json. What slime and
Megatron log goes to stderr.

Needs on PYTHONPATH slime v0.3.1 and Megatron-LM at slime's pin with slime's patch; numpy 1, which slime asserts; 80 GB
of GPU memory, 110 of host memory, and 10 on the disk that TMPDIR names. `--tiny --device cpu` runs the same code
without a GPU, on a small model: that checks this script, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "megatron")]

import profile_arithmetic as arithmetic
import psutil
import torch
from one_gpu_job import SAMPLES, Trainer, arguments, batch, build, profile_flags, stand_in_for_the_absent, write_model
from workers_needed import numbers

from slime_tau2.doctor.plan import PROCESS_GIB, Plan

PROFILE = arithmetic.PROFILES / "1gpu.sh"
CPUS = os.cpu_count() or 1
THREADS = min(6, CPUS)
"""Of the CPU, but where it says otherwise. Under Ray slime's actor has one, since it asks for 0.4 of a CPU."""
APART = 1.5
"""Megatron in bf16 may be so many times as far from transformers in float32 as transformers in bf16 is."""
COLUMNS = ("allocated", "allocated_peak", "reserved_peak", "device", "host")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a part took. Memory is in GiB: the peaks of torch's allocator in that part, the rest at its end."""

    what: str
    seconds: float
    tokens: int
    allocated: float
    allocated_peak: float
    reserved_peak: float
    device: float
    """Used of the GPU, by whomever."""
    host: float
    """Resident memory of this process."""

    @property
    def per_1k(self) -> float:
        """Seconds per 1,000 tokens."""
        return self.seconds / self.tokens * 1000


class Meter:
    """Takes a mark at each end of a part; the next part begins there, or at `start`."""

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self.start()

    def start(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.began = time.perf_counter()

    def mark(self, what: str, tokens: int = 0) -> None:
        torch.cuda.synchronize()
        seconds = time.perf_counter() - self.began
        free, whole = torch.cuda.mem_get_info()
        taken = {
            "allocated": torch.cuda.memory_allocated(),
            "allocated_peak": torch.cuda.max_memory_allocated(),
            "reserved_peak": torch.cuda.max_memory_reserved(),
            "device": whole - free,
            "host": psutil.Process().memory_info().rss,
        }
        gib = {name: value / arithmetic.GIB for name, value in taken.items()}
        mark = self.marks[what] = Mark(what=what, seconds=seconds, tokens=tokens, **gib)
        per_1k = f"{mark.per_1k:.4f}" if tokens else ""
        memory = "".join(f"{value:15.2f}" for value in gib.values())
        print(f"{what:28}{seconds:9.2f}{tokens:9,}{per_1k:>9}{memory}", flush=True)
        torch.cuda.reset_peak_memory_stats()
        self.began = time.perf_counter()


def log_probs(trainer: Trainer, data: dict[str, Any], meter: Meter) -> None:
    """Put the log-probs of the policy and of a sampler into the batch, and the advantages."""
    from slime.backends.megatron_utils import loss, model
    from slime.backends.megatron_utils.data import get_data_iterator

    for what in ("log-probs, first", "log-probs"):  # the first compiles
        meter.start()
        iterator, counts = get_data_iterator(data), data["num_microbatches"]
        found = model.forward_only(loss.get_log_probs_and_entropy, trainer.args, trainer.chunks, iterator, counts)
        meter.mark(what, sum(data["total_lengths"]))
    data |= found
    data["rollout_log_probs"] = [x + 0.02 * torch.randn_like(x) for x in data["log_probs"]]  # an engine's rounding
    loss.compute_advantages_and_returns(trainer.args, data)


def train(trainer: Trainer, data: dict[str, Any], meter: Meter) -> None:
    """Two steps on the batch.

    Raises:
        SystemExit: a gradient is not finite, or the host's Adam did not move the weights.
    """
    from megatron.core.optimizer.cpu_offloading import HybridDeviceOptimizer
    from slime.backends.megatron_utils.data import get_data_iterator
    from slime.backends.megatron_utils.model import train as slime_train

    optimizer, counts = trainer.optimizer, data["num_microbatches"]
    sums = [sum(data["total_lengths"][n] for n in indices) for indices in data["micro_batch_indices"]]
    tokens = [sum(sums[: counts[0]]), sum(sums[counts[0] :])]
    step, norms = optimizer.step, []

    def timed_step() -> Any:
        name = ("first step", "warm step")[len(norms)]
        meter.mark(f"{name}: forward, backward", tokens[len(norms)])
        result = step()
        meter.mark(f"{name}: Adam")
        norms.append(float(result[1]))
        return result

    optimizer.step = timed_step
    meter.start()
    iterator, sizes = get_data_iterator(data), data["global_batch_sizes"]
    slime_train(0, trainer.chunks, optimizer, trainer.schedule, iterator, counts, sizes)
    optimizer.step = step
    if len(norms) != 2 or not all(math.isfinite(norm) and norm > 0 for norm in norms):
        raise SystemExit(f"gradient norms of two steps: {norms}")
    (hybrid,) = (inner.optimizer for inner in optimizer.chained_optimizers)
    if not isinstance(hybrid, HybridDeviceOptimizer) or hybrid.gpu_optimizer is not None:
        raise SystemExit("Adam is not on the host")
    for parameter, master in hybrid.gpu_params_map_cpu_copy.items():
        on_gpu = parameter.detach().cpu()
        if not torch.equal(master.bfloat16(), on_gpu) or torch.equal(master, on_gpu.float()):
            raise SystemExit("the GPU's weights are not the host's, rounded, or the host's did not move")


def adam_by_threads(trainer: Trainer, meter: Meter) -> None:
    """More steps of Adam, with gradients of zero."""
    for threads in sorted({1, THREADS, CPUS}):
        torch.set_num_threads(threads)
        trainer.chunks[0].zero_grad_buffer()
        meter.start()
        trainer.optimizer.step()
        meter.mark(f"Adam, CPU threads: {threads}")
    torch.set_num_threads(THREADS)


def transformers_log_probs(
    directory: Path, data: dict[str, Any], chosen: list[int], dtype: torch.dtype
) -> torch.Tensor:
    """Of the chosen sequences' response tokens, one behind the other, by transformers from the same file."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers import Qwen3ForCausalLM
    from transformers.integrations import sdpa_attention

    sdpa_attention.use_gqa_in_sdpa = lambda *_, **__: False  # in float32 only a quadratic kernel takes grouped heads
    device, out = data["tokens"][0].device, []
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa").to(device)
    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    kernels += [SDPBackend.MATH] if device.type == "cpu" else []
    with torch.no_grad(), sdpa_kernel(kernels):
        for n in chosen:
            tokens, first = data["tokens"][n], data["total_lengths"][n] - data["response_lengths"][n]
            hidden = model.model(input_ids=tokens[None], use_cache=False).last_hidden_state[0, first - 1 : -1]
            for states, targets in zip(hidden.split(2048), tokens[first:].split(2048)):  # all logits at once are 8 GiB
                scores = model.lm_head(states).float().log_softmax(-1)
                out.append(scores.gather(-1, targets[:, None])[:, 0].cpu())
    return torch.cat(out)


def compare_log_probs(directory: Path, data: dict[str, Any]) -> dict[str, float]:
    """{pair: mean |difference| of log-probs} of four sequences.

    Raises:
        SystemExit: Megatron is further from transformers in float32 than bf16's rounding explains.
    """
    order = sorted(range(SAMPLES), key=lambda n: data["total_lengths"][n])
    chosen = [order[SAMPLES * k // 4] for k in range(3)] + [order[-1]]
    own = torch.cat([data["log_probs"][n].float().cpu() for n in chosen])
    bf16, f32 = (transformers_log_probs(directory, data, chosen, dtype) for dtype in (torch.bfloat16, torch.float32))
    pairs = {"Megatron, transformers bf16": (own, bf16), "Megatron, transformers float32": (own, f32)}
    pairs["transformers bf16, float32"] = (bf16, f32)
    found = {name: float((a - b).abs().mean()) for name, (a, b) in pairs.items()}
    print(f"\nmean |difference| of the log-probs of {len(own):,} tokens, {float(own.mean()):.2f} on average")
    for name, apart in found.items():
        print(f"  {name:32} {apart:.5f}")
    bound = APART * found["transformers bf16, float32"]
    if not found["Megatron, transformers float32"] <= bound:  # nor where it is not a number
        raise SystemExit(f"these are two models: Megatron and transformers float32 differ by more than {bound:.5f}")
    return found


def compare_forecasts(marks: dict[str, Mark]) -> dict[str, tuple[float, float]]:
    """{figure: (forecast, measured)}, of the marks of a whole run."""
    has, gpu, time_s = numbers(PROFILE), arithmetic.memory(PROFILE), arithmetic.seconds(PROFILE)
    host = Plan(gpus=1, trainers=1, colocate=1, cpu_optimizer=1).host_gib(int(arithmetic.PARAMETERS)) + PROCESS_GIB
    thousands = has["GROUPS_A_ROLLOUT"] * has["SAMPLES"] * arithmetic.TOKENS / 1000
    train, adam, kept = marks["warm step: forward, backward"], marks["warm step: Adam"], marks["init"].allocated
    return {
        "weights and gradients, GiB": (gpu["weights"] + gpu["gradients"], kept),
        "the longest micro-batch, GiB": (gpu["batch"], train.allocated_peak - kept),
        "the GPU in training, GiB": (gpu["sum"] - arithmetic.ASLEEP_GIB, adam.device),
        "the trainer's host memory, GiB": (host, adam.host),
        "log-probs, forward, backward, s per 1,000 tokens": (
            time_s["training"] / thousands,
            marks["log-probs"].per_1k + train.per_1k,
        ),
        "Adam, a warm step, s": (time_s["adam"] / has["STEPS_A_ROLLOUT"], adam.seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a small model; its figures mean nothing")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"), metavar="DIR")
    asked = parser.parse_args()
    os.environ |= {"CUDA_DEVICE_MAX_CONNECTIONS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(THREADS)
    if asked.device == "cpu":
        import shim

        shim.install()
    stand_in_for_the_absent()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = profile_flags(PROFILE.stem, folder, asked.device, tiny=asked.tiny)
        write_model(folder / "hf", flags, asked.device)
        args = arguments(flags)
        print(f"load {os.getloadavg()[0]:.1f}, {CPUS} CPUs, torch {torch.__version__}; memory in GiB")
        print(f"{'':28}{'seconds':>9}{'tokens':>9}{'per 1k':>9}" + "".join(f"{name:>15}" for name in COLUMNS))
        meter = Meter()
        trainer = build(args, asked.device)
        meter.mark("init")
        data = batch(args, asked.device)
        log_probs(trainer, data, meter)
        train(trainer, data, meter)
        adam_by_threads(trainer, meter)
        apart = compare_log_probs(folder / "hf", data)
    forecasts = {} if asked.tiny else compare_forecasts(meter.marks)
    for what, (forecast, measured) in forecasts.items():
        print(f"{what:48} forecast {forecast:8.3f}, measured {measured:8.3f}")
    marks = [asdict(mark) for mark in meter.marks.values()]
    found = {"torch": torch.__version__, "marks": marks, "log_probs": apart, "forecasts": forecasts, "flags": flags}
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "one_gpu.json").write_text(json.dumps(found, indent=1))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
