"""The job: slime's own `train.py`, unmodified, under a Ray of its own whose GPUs are numbers. `job.py RAY_DIR GPUS
FLAGS OF SLIME…`

slime knows bf16 and fp16 only and sets one of them; here both are unset after its `parse_args`, so that figures can be
compared in float32.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time

import cpu_host

from slime_tau2.local.serving import exit_with_parent


def main() -> None:
    ray_dir, gpus = sys.argv[1], int(sys.argv[2])
    script = os.path.join(os.environ["SLIME_DIR"], "train.py")
    sys.argv = [script, *sys.argv[3:]]
    exit_with_parent(os.getppid())  # Ray's reaper then ends what belongs to it
    cpu_host.watch_imports()
    cpu_host.install()
    import ray
    import torch
    from slime.utils.arguments import parse_args

    args = parse_args()
    args.bf16 = args.fp16 = False
    args.params_dtype = torch.float32
    ray.init(
        address="local",
        num_cpus=4 * gpus,
        num_gpus=gpus,
        include_dashboard=False,
        _temp_dir=ray_dir,
        object_store_memory=256 * 2**20,
        runtime_env={"worker_process_setup_hook": "cpu_host.watch_imports"},
    )
    spec = importlib.util.spec_from_file_location("slime_train", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.train(args)
    time.sleep(2)  # what the workers said last comes here through files that Ray reads now and then
    print("JOB DONE", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
