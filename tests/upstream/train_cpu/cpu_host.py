"""What slime's processes need to run where there is no GPU; loaded into each Ray worker as its
`worker_process_setup_hook`.

* torch's CUDA calls mean the CPU (tests/megatron/shim.py), once the Megatron actor is about to be imported;
* slime (from 624b824a8) asks an accelerator object, which its public `set_accelerator` takes: one that says "cpu";
* slime's process groups that can be destroyed and made anew (for offloading) do not know gloo's newer collectives: left
  out. Nothing is offloaded here.

Importing this file changes nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from functools import cache
from typing import Any

ACCELERATOR, ACTOR = "slime.utils.accelerator", "slime.backends.megatron_utils.actor"


@cache
def install() -> None:
    """Once a process. For the process that runs slime's `parse_args`, and for those that run its actors."""
    import shim

    shim.install()
    shim.let_torch_adam_resume()


class _Finder(importlib.abc.MetaPathFinder):
    """Changes two of slime's modules as they are imported, without importing them, or torch, where nobody asks for
    them.
    """

    def __init__(self) -> None:
        self.busy: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in (ACCELERATOR, ACTOR) or name in self.busy:
            return None
        self.busy.add(name)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                if name == ACTOR:
                    install()
                run(module)
                _set_accelerator(module) if name == ACCELERATOR else _plain_groups(module)

            spec.loader.exec_module = exec_module
        return spec


def watch_imports() -> None:
    sys.meta_path.insert(0, _Finder())


def _plain_groups(actor: Any) -> None:
    actor.monkey_patch_torch_dist = lambda: None
    if hasattr(actor, "register_default_process_group"):  # not in v0.3.1
        actor.register_default_process_group = lambda **options: None


def _set_accelerator(module: Any) -> None:
    import torch
    from slime.utils.accelerator.cuda import CUDAAccelerator

    class Cpu(CUDAAccelerator):
        name, device_type, communication_backend_name = "cpu", "cpu", "gloo"
        is_available = lambda self: True  # noqa: E731
        device = lambda self, index=None: torch.device("cpu")  # noqa: E731
        device_name = current_device = lambda self, index=None: "cpu"
        device_count = lambda self: 1  # noqa: E731
        set_device = synchronize = distributed_device_id = lambda self, *args, **options: None
        supports = lambda self, capability: False  # noqa: E731

    module.set_accelerator(Cpu())
