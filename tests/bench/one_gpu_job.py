"""What one_gpu.py trains: a profile's command line, a random model of Qwen3-4B's shape, slime's trainer of it, and
episodes of random tokens.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch
from launch_commands import commands, launch, options
from profile_arithmetic import TURNS
from torch.overrides import TorchFunctionMode

from slime_tau2.domains.helpdesk import TOKENIZER

SAMPLES = 16
"""Of two steps; the profile has 64. Memory does not ask how many, and seconds are per token."""
OWN_SHARE = 0.15
"""Of an episode's tokens: those that the policy wrote, which train."""
TINY = {
    "--num-layers": "3",
    "--hidden-size": "128",
    "--ffn-hidden-size": "256",
    "--num-attention-heads": "4",
    "--num-query-groups": "2",
    "--kv-channels": "32",
    "--vocab-size": "1536",
    "--max-tokens-per-gpu": "224",
}
"""What `--tiny` changes."""
WITHOUT = ("--colocate", "--custom-config-path", "--eval-config", "--eval-interval")
"""Flags of the profile that ask for an engine, or for files that a dry run does not write."""
UNUSED = (
    "sglang sglang.srt sglang.srt.server_args sglang.srt.utils sglang.srt.utils.patch_torch sglang.srt.weight_sync"
    " sglang.srt.weight_sync.tensor_bucket sglang_router sglang_router.launch_router wandb"
).split()
"""What slime imports and a training without engines does not call."""
FINAL_NORM = 4.0
"""Scale of the last norm's weights. At 1 all tokens are about as likely, and two models would look like one."""


def stand_in_for_the_absent() -> None:
    """Transformer Engine's version, and the packages of `UNUSED`, where they are not installed."""
    import megatron.core.utils
    from packaging.version import Version

    if megatron.core.utils.get_te_version() is None:
        megatron.core.utils._te_version = Version("0")  # Megatron compares it, whether it is there or not
    for name in [name for name in UNUSED if importlib.util.find_spec(name.split(".")[0]) is None]:
        sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))


def profile_flags(profile: str, folder: Path, device: str, *, tiny: bool) -> dict[str, str | bool]:
    """{--flag: value or True} of slime's command line, for a model in `folder`/hf."""
    (slime,) = importlib.util.find_spec("slime").submodule_search_locations
    shown = launch("grpo", "--profile", profile, "--dry-run", SLIME_DIR=str(Path(slime).parent))
    if shown.returncode:
        raise SystemExit(shown.stderr)
    flags = options(commands(shown.stdout)[-1])
    for name in WITHOUT:
        flags.pop(name, None)
    flags |= TINY if tiny else {}
    flags |= {name: str(folder / "hf") for name in ("--hf-checkpoint", "--ref-load", "--load")}
    flags |= {
        "--save": str(folder / "save"),
        "--rollout-batch-size": str(SAMPLES // int(flags["--n-samples-per-prompt"])),
        "--debug-train-only": True,  # without SGLang
        # for want of Transformer Engine and Apex
        "--transformer-impl": "local",
        "--no-gradient-accumulation-fusion": True,
        "--no-rope-fusion": True,
        "--no-persist-layer-norm": True,
        "--no-masked-softmax-fusion": True,
    }
    if device == "cpu":
        flags |= {"--distributed-backend": "gloo", "--no-bias-swiglu-fusion": True}  # compiling takes its time there
    return flags


def arguments(flags: dict[str, str | bool]) -> Any:
    """What slime's `parse_args` makes of the flags and of the layers in sdpa_spec.py, on one rank."""
    from slime.utils.arguments import parse_args

    words = [word for flag, value in flags.items() for word in ((flag,) if value is True else (flag, value))]
    sys.argv = ["train.py", *words, "--spec", "sdpa_spec", "block_spec"]
    with contextlib.redirect_stdout(None):  # it prints 700 lines
        args = parse_args()
    args.rank, args.world_size = 0, 1
    return args


def write_model(directory: Path, flags: dict[str, str | bool], device: str) -> None:
    """A random Qwen3 in bf16 of the shape that the flags have, with a tokenizer that nothing is read by."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        num_hidden_layers=int(flags["--num-layers"]),
        hidden_size=int(flags["--hidden-size"]),
        intermediate_size=int(flags["--ffn-hidden-size"]),
        num_attention_heads=int(flags["--num-attention-heads"]),
        num_key_value_heads=int(flags["--num-query-groups"]),
        head_dim=int(flags["--kv-channels"]),
        vocab_size=int(flags["--vocab-size"]),
        rms_norm_eps=float(flags["--norm-epsilon"]),
        rope_parameters={"rope_type": "default", "rope_theta": int(flags["--rotary-base"])},
        max_position_embeddings=262144,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(device), torch.no_grad():
        model = Qwen3ForCausalLM._from_config(config, dtype=torch.bfloat16)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.1)
        model.model.norm.weight *= FINAL_NORM
    shutil.copytree(TOKENIZER, directory)
    model.save_pretrained(directory)


class Bf16IsCuda(TorchFunctionMode):
    """Without a GPU: Megatron's optimizer looks for parameters on it. The model's are bf16, its own copies float32."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function == torch.Tensor.is_cuda.__get__:
            return args[0].dtype == torch.bfloat16
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What slime's actor holds: the model in one chunk, its optimizer, its schedule of learning rates."""

    args: Any
    chunks: list[Any]
    optimizer: Any
    schedule: Any
    pinned: Any
    """A copy of the weights in host memory, for the change of turns with the engine."""


def build(args: Any, device: str) -> Trainer:
    """As slime's actor does when it starts, from the file that `args` names."""
    import torch.distributed as dist
    from slime.backends.megatron_utils.initialize import init
    from slime.backends.megatron_utils.model import initialize_model_and_optimizer
    from slime.backends.megatron_utils.update_weight.common import named_params_and_buffers
    from slime.utils.distributed_utils import init_gloo_group
    from slime.utils.tensor_backper import TensorBackuper

    dist.init_process_group(args.distributed_backend, init_method=f"file://{args.save}.group", rank=0, world_size=1)
    init_gloo_group()
    init(args)
    with Bf16IsCuda() if device == "cpu" else contextlib.nullcontext():
        chunks, optimizer, schedule, _ = initialize_model_and_optimizer(args, "actor")
    named = lambda: named_params_and_buffers(args, chunks, convert_to_global_name=True)  # noqa: E731
    pinned = TensorBackuper.create(source_getter=named, single_tag=None)
    pinned.backup("actor")
    return Trainer(args=args, chunks=chunks, optimizer=optimizer, schedule=schedule, pinned=pinned)


def batch(args: Any, device: str) -> dict[str, Any]:
    """What slime's rollout would hand to the trainer: episodes of random tokens, through slime's own schedule.

    One of each step fills a micro-batch. The others are from a fifth as long to nearly as long.
    """
    from slime.utils.dp_schedule import build_dp_schedule

    longest = args.max_tokens_per_gpu
    spread = [int(share * longest) for share in torch.linspace(0.2, 0.95, SAMPLES)]
    lengths = spread[0::2] + spread[1::2]
    lengths[SAMPLES // 2 - 1] = lengths[-1] = longest
    alone = {"dp_size": 1, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
    (order,), (micro,), counts, sizes = build_dp_schedule(
        args, alone, lengths, global_batch_size=args.global_batch_size, rollout_indices=list(range(SAMPLES))
    )
    generator = torch.Generator().manual_seed(1)
    tokens, masks = [], []
    for length in lengths:
        response = length - min(longest // 3, length // 2)
        turn = response // TURNS
        masks.append((torch.arange(response) % turn < OWN_SHARE * length / TURNS).int().to(device))
        tokens.append(torch.randint(args.vocab_size, (length,), generator=generator).to(device))
    return {
        "tokens": [tokens[n] for n in order],
        "loss_masks": [masks[n] for n in order],
        "total_lengths": [lengths[n] for n in order],
        "response_lengths": [len(masks[n]) for n in order],
        "rewards": [0.5 - n % 2 for n in order],
        "rollout_mask_sums": torch.tensor([float(masks[n].sum()) for n in order], device=device),
        "micro_batch_indices": micro,
        "num_microbatches": counts,
        "global_batch_sizes": sizes,
    }
