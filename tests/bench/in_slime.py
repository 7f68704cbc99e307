"""A driver of `throughput.py`: slime's own `generate_rollout` plays, with all our hooks, from our data source.

Needs slime's source tree on PYTHONPATH; with workers also Ray, whose processes' CPU counts as ours. slime knows one
address of the policy, hence one process that serves. It calls `generate_rollout_async`, which is all of
`generate_rollout` but the thread with another event loop, so that the loop's lag is seen. One rollout takes all
episodes, in groups of 8; the filter of groups is off, for every episode is won.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import urllib.request
from argparse import Namespace
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "upstream")]

from model_servers import ModelServers

from slime_tau2 import seeds
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.samples import flatten, task_reward

GROUP = 8


class NumberedSource(Tau2DataSource):
    """Tells the models' server which conversation a seed of the user belongs to, as its samples are served."""

    def __init__(self, args: Namespace, servers: ModelServers, url: str):
        super().__init__(args)
        self._index = {task_id: n for n, task_id in enumerate(servers.ids)}
        self._url, self._drawn = url, Counter[str]()

    def begin(self) -> None:
        """Number conversations from the first again."""
        self._drawn.clear()

    def get_samples(self, num_samples: int) -> list[list[Sample]]:
        groups = super().get_samples(num_samples)
        numbers = {self._seed(sample): self._number(sample) for group in groups for sample in group}
        urllib.request.urlopen(f"{self._url}/numbers", json.dumps(numbers).encode()).close()
        return groups

    def _seed(self, sample: Sample) -> int:
        metadata = sample.metadata
        return seeds.of_sample(self.config.seed, metadata["domain"], metadata["task_id"], sample.index)

    def _number(self, sample: Sample) -> int:
        task_id = sample.metadata["task_id"]
        self._drawn[task_id] += 1
        return self._index[task_id] + len(self._index) * (self._drawn[task_id] - 1)


class Rollouts:
    """One slime in this process: its arguments, its data source, and Ray where workers are asked for."""

    def __init__(self, servers: ModelServers, live: int, url: str, workers: int):
        from slime_harness import fresh, make_args, ray_cluster

        self._open = ExitStack()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        if workers:
            self._open.enter_context(ray_cluster())
        self.args = make_args(
            folder,
            int(url.rpartition(":")[2]),
            hf_checkpoint=servers.tokenizer.name_or_path,
            sglang_server_concurrency=live,
            rollout_max_response_len=32768,
            n_samples_per_prompt=GROUP,
            dynamic_sampling_filter_path=None,
            tau2_domains=(servers.world.domain,),
            tau2_split="train+val",
            tau2_retail_basis="communicate",
            tau2_user="llm",
            tau2_user_base_url=f"{url}/v1",
            tau2_user_concurrency=4096,
            tau2_policy_concurrency=4096,
            tau2_user_retries=0,
            tau2_policy_retries=0,
            tau2_episode_retries=0,
            tau2_max_turn_tokens=2048,
            tau2_max_steps=200,
            tau2_workers=workers,
        )
        fresh(self.args)
        self._source = NumberedSource(self.args, servers, url)
        self._ids = itertools.count()

    async def play(self, count: int) -> list[float]:
        """The rewards of one rollout."""
        from slime.rollout.sglang_rollout import generate_rollout_async

        self._source.begin()
        self.args.rollout_batch_size = self.args.over_sampling_batch_size = count // GROUP
        output, aborted = await generate_rollout_async(self.args, next(self._ids), self._source.get_samples)
        assert not aborted
        samples = flatten(output.samples)
        assert len(samples) == count and not any(s.remove_sample for s in samples)
        return [task_reward(s) for s in samples]

    def close(self) -> None:
        self._open.close()


_rollouts: list[Rollouts] = []
"""What a warm-up and the run after it share."""


async def in_slime(
    servers: ModelServers, count: int, live: int, urls: tuple[str, ...], workers: int = 0
) -> list[float]:
    (url,) = urls
    if not _rollouts:
        _rollouts.append(Rollouts(servers, live, url, workers))
    return await _rollouts[0].play(count)


def close() -> None:
    while _rollouts:
        _rollouts.pop().close()
