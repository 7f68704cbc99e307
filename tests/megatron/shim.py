"""Lets unmodified megatron-core run on a torch that has no CUDA. Tests only; refuses where there is a GPU.

It changes torch, not Megatron: devices named "cuda" become the CPU, streams and memory figures become nothing, the CUDA
random state is the CPU's. Megatron's tensor-parallel layers, vocabulary-parallel cross entropy, gradient buffers,
optimizers and checkpoints then run as they are, over gloo.
"""

from __future__ import annotations

import contextlib
import types
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or str(device).startswith("cuda")


class _OnCpu(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        if function is torch.Tensor.type and len(args) == 1 and not kwargs:
            return function(*args).replace("torch.", "torch.cuda.", 1)  # optimizers dispatch on this string
        if kwargs.get("device") is not None and _is_cuda(kwargs["device"]):
            kwargs["device"] = CPU
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if (
            function is torch.Tensor.to
            and len(args) > 1
            and isinstance(args[1], str | torch.device)
            and _is_cuda(args[1])
        ):
            args = (args[0], CPU, *args[2:])
        return function(*args, **kwargs)


class _Nothing:
    """A stream, or an event, that never has anything to wait for."""

    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 0.0

    def record_event(self, *args: Any) -> _Nothing:
        return _Nothing()

    wait_stream = wait_event = synchronize = record = wait = lambda self, *args: None


def install() -> None:
    """Once a process, before anything of Megatron is built."""
    if torch.cuda.is_available():
        raise RuntimeError("the shim is for machines without a GPU")
    cuda = torch.cuda
    cuda.current_device = lambda: CPU
    for name in (
        "set_device",
        "synchronize",
        "empty_cache",
        "ipc_collect",
        "reset_peak_memory_stats",
        "manual_seed_all",
    ):
        setattr(cuda, name, lambda *args, **kwargs: None)
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        setattr(cuda, name, lambda *args, **kwargs: 0)
    cuda.Stream = cuda.Event = _Nothing
    cuda.current_stream = cuda.default_stream = lambda *args, **kwargs: _Nothing()
    cuda.stream = lambda *args, **kwargs: contextlib.nullcontext()
    cuda.manual_seed = lambda seed: (
        torch.default_generator.manual_seed(int(seed)) and None
    )  # torch.manual_seed would call back
    cuda.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    cuda.get_device_capability = lambda *args, **kwargs: (0, 0)
    cuda.mem_get_info = lambda *args, **kwargs: (0, 0)
    cuda.nvtx.range_push = cuda.nvtx.range_pop = lambda *args: None
    true_properties = cuda.get_device_properties

    def properties(device: Any = None) -> Any:
        """megatron.training asks for the card's generation by "cuda:0"; torch's compiler, which names none, must hear
        that there is no card.
        """
        return (
            types.SimpleNamespace(name="none", major=9, minor=0)
            if device is not None and _is_cuda(device)
            else true_properties(device)
        )

    cuda.get_device_properties = properties
    import megatron.core.tensor_parallel.random as random_states

    random_states._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    random_states._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    _OnCpu().__enter__()


def let_torch_adam_resume() -> None:
    """Makes Megatron's DistributedOptimizer load a checkpoint onto torch's AdamW, which it falls back to without
    Transformer Engine and Apex.

    The one place where Megatron itself is changed. Its loading asks for a `step` that torch's AdamW has only after its
    first update, gives all parameters one tensor of it, which each of them would then count up, looks for it among what
    is stored for each parameter, and writes in float32 into parameters that ask for gradients.
    """
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    state_dict, restore = DistributedOptimizer.state_dict, DistributedOptimizer._set_main_param_and_optimizer_states

    def with_moments(self: Any) -> Any:
        if self.optimizer is not None and not self.optimizer.state:
            for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
                moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
                self.optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        return state_dict(self)

    @torch.no_grad()
    def with_step(self: Any, parameter: Any, tensors: dict) -> None:
        group, order = self.model_param_group_index_map[parameter]
        state = self.optimizer.state[self.optimizer.param_groups[group]["params"][order]]
        state["step"] = state["step"].clone()
        restore(self, parameter, {"step": state["step"], **tensors})

    DistributedOptimizer.state_dict = with_moments
    DistributedOptimizer._set_main_param_and_optimizer_states = with_step
