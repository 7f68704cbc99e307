"""slime's rollout loop, for one process: the same hooks with the same arguments in the same order.

generate (under a semaphore that counts live episodes) → reward → dynamic filter a group, until `rollout_batch_size`
groups are kept; then abort what is left, sample filter, all-samples hook, log hook. Mirrors
`slime.rollout.sglang_rollout`.
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any

from slime_tau2.errors import PolicyError
from slime_tau2.hooks import filters
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.generate import generate, harness
from slime_tau2.hooks.rewards import reward
from slime_tau2.looplag import LoopLag

MAX_ROUNDS = 8  # fetches without one kept group, before it must be the infrastructure


@dataclass
class Rollout:
    """What one rollout gave: kept samples, flat and in group order; metrics; the loop's lag in ms."""

    samples: list[Sample]
    metrics: dict[str, float]
    lags_ms: list[float] = field(default_factory=list)


async def _one(args: Namespace, state: Any, sample: Sample) -> Sample:
    async with state.semaphore:
        if state.aborted:
            sample.status = Sample.Status.ABORTED
            return sample
        sample = await generate(args, sample, dict(state.sampling_params))
    if sample.status is not Sample.Status.ABORTED and sample.reward is None:
        sample.reward = await reward(args, sample)
    return sample


async def generate_rollout(args: Namespace, rollout_id: int, source: Tau2DataSource) -> Rollout:
    """Collect `args.rollout_batch_size` groups.

    Raises:
        PolicyError: round after round, every group was spoiled by infrastructure.
    """
    state, started = GenerateState(args), time.perf_counter()
    state.aborted, state.semaphore = False, asyncio.Semaphore(args.sglang_server_concurrency)
    kept: list[list[Sample]] = []
    finished: list[list[Sample]] = []
    pending: dict[asyncio.Task, list[Sample]] = {}
    reserve: list[list[Sample]] = []
    dropped: dict[str, int] = {}
    rounds = 0
    async with LoopLag() as lag:
        while len(kept) < args.rollout_batch_size:
            if len(pending) + len(kept) < args.rollout_batch_size:
                rounds += 1
                if rounds > MAX_ROUNDS and len(kept) + len(reserve) >= args.rollout_batch_size:
                    kept += reserve[: args.rollout_batch_size - len(kept)]
                    break
                if rounds > MAX_ROUNDS and dropped.get("infrastructure", 0) > len(finished) // 2:
                    detail = next(
                        (s.metadata["tau2"].get("detail") for g in finished for s in g if s.remove_sample), ""
                    )
                    raise PolicyError(
                        f"{dropped['infrastructure']} of {len(finished)} groups were spoiled, the last by: {detail}"
                    )
                for group in source.get_samples(args.over_sampling_batch_size):
                    pending[asyncio.ensure_future(_group(args, state, group))] = group
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del pending[task]
                group = task.result()
                finished.append(group)
                verdict = filters.dynamic_sampling_filter(args, group)
                if verdict.keep and len(kept) < args.rollout_batch_size:
                    kept.append(group)
                elif not verdict.keep:
                    dropped[verdict.reason] = dropped.get(verdict.reason, 0) + 1
                    if verdict.keep_when_insufficient:
                        reserve.append(group)
        state.aborted = True
        cut = await asyncio.gather(*pending)
        await harness(args).close()
    kept.sort(key=lambda g: g[0].index)
    filters.rollout_sample_filter(args, kept)
    filters.process_all_samples(args, finished, source.get_samples)
    samples, wall = [s for g in kept for s in g], time.perf_counter() - started
    extra = {f"rollout/dynamic_filter/drop_{k}": v for k, v in dropped.items()}
    log_hooks.log_rollout(rollout_id, args, samples, extra, wall)
    everything = [s for g in [*finished, *cut] for s in g if s.status is not Sample.Status.ABORTED]
    metrics = {
        **log_hooks.episode_metrics(everything, "rollout"),
        **extra,
        "rollout/wall_s": wall,
        "rollout/episodes": len(everything),
    }
    return Rollout(samples, metrics, lag.lags_ms)


async def _group(args: Namespace, state: Any, group: list[Sample]) -> list[Sample]:
    return list(await asyncio.gather(*(_one(args, state, s) for s in group)))
