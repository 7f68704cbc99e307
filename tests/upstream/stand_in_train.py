"""Stands where slime's train_async.py stands: a driver that takes GPUs as slime does, says what each of its processes
sees, and resumes.

Run by Ray, in a folder that the tests lay out as slime's source tree. Each actor holds one (counted) GPU; the first of
each node joins a gloo group. The report of all is written to the folder that --save names the parent of; HOLD keeps the
actors until somebody ends them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import ray
import torch
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

SEEN = (
    "SLIME_HOST_IP",
    "NCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
    "TAU2_USER_CONCURRENCY",
    "MY_SWITCH",
    "WANDB_API_KEY",
    "PYTHONPATH",
)


def flag(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


async def ask_user(options: str) -> str:
    """What the user simulator of the effective options says, through the hooks' own client."""
    import yaml

    from slime_tau2.config import Tau2Config
    from slime_tau2.episode.harness import Harness

    values = {k.removeprefix("tau2_"): v for k, v in yaml.safe_load(Path(options).read_text()).items()}
    box = Harness(Tau2Config.from_mapping(values, options))
    reply = await box.user_client.complete([b'{"role": "user", "content": "Who are you?"}'], routing_key="k")
    await box.close()
    return reply.text or ""


class Process:
    def look(self, paths: list[str], options: str) -> dict:
        from slime.utils.http_utils import get_host_info

        import slime_tau2

        return {
            "node": ray.util.get_node_ip_address(),
            "announced": get_host_info()[1],
            "environment": {n: os.environ.get(n) for n in SEEN},
            "missing": [p for p in paths if not Path(p).exists()],
            "ours": str(Path(slime_tau2.__file__).parent),
            "user": asyncio.run(ask_user(options)),
        }

    def address(self) -> tuple[str, int]:
        from slime.utils.misc import get_current_node_ip, get_free_port

        return get_current_node_ip(), get_free_port(start_port=20000)

    def add_up(self, head: str, port: int, rank: int, size: int) -> float:
        """The ranks' numbers over gloo: their sum, where the processes reach each other by the interfaces that they
        were given.
        """
        torch.distributed.init_process_group("gloo", init_method=f"tcp://{head}:{port}", rank=rank, world_size=size)
        total = torch.tensor([10.0**rank])
        torch.distributed.all_reduce(total)
        torch.distributed.destroy_process_group()
        return float(total)

    def hold(self, file: str) -> None:
        import time

        Path(file).touch()
        time.sleep(600)


def main() -> None:
    gpus = int(flag("--actor-num-nodes")) * int(flag("--actor-num-gpus-per-node")) + int(flag("--rollout-num-gpus"))
    group = placement_group([{"GPU": 1, "CPU": 1}] * gpus, strategy="PACK")
    ray.get(group.ready())  # as slime does: without an end
    make = ray.remote(num_gpus=1, num_cpus=1)(Process)
    actors = [
        make.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=n)
        ).remote()
        for n in range(gpus)
    ]
    output = Path(flag("--save")).parent
    if os.environ.get("TAU2_TEST_HOLD"):
        ray.get([a.hold.remote(str(output / f"holding-{n}")) for n, a in enumerate(actors)])
    options = flag("--custom-config-path")
    paths = [options, flag("--hf-checkpoint"), flag("--prompt-data"), flag("--ref-load"), str(output)]
    seen = ray.get([a.look.remote(paths, options) for a in actors])
    firsts = [next(a for a, s in zip(actors, seen) if s["node"] == node) for node in sorted({s["node"] for s in seen})]
    head, port = ray.get(firsts[0].address.remote())
    sums = ray.get([a.add_up.remote(head, port, n, len(firsts)) for n, a in enumerate(firsts)])
    tracker = Path(flag("--load")) / "latest_checkpointed_iteration.txt"
    resumed = int(tracker.read_text()) if tracker.exists() else None
    tracker.parent.mkdir(parents=True, exist_ok=True)
    tracker.write_text(str((resumed or 0) + 1))
    (output / "report.json").write_text(
        json.dumps({"resumed": resumed, "processes": seen, "sums": sums, "argv": sys.argv})
    )


if __name__ == "__main__":
    main()
