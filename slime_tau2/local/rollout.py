"""slime's rollout loop, for one process: the same hooks with the same arguments in the same order.

1. fetch groups from the data source; for each sample `generate` (under a semaphore that counts live episodes), then
   the reward.
2. ask the dynamic filter about each finished group, until `rollout_batch_size` groups are kept.
3. abort what is left; then the sample filter, the all-samples hook and the log hook.

Mirrors `slime.rollout.sglang_rollout`.
"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from dataclasses import dataclass, field

from slime_tau2.errors import PolicyError
from slime_tau2.hooks import filters
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import DynamicFilterOutput, GenerateState, Sample
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.fan_out import episodes, first_samples
from slime_tau2.hooks.generate import generate, harness
from slime_tau2.hooks.rewards import reward
from slime_tau2.hooks.samples import flatten
from slime_tau2.looplag import LoopLag

MAX_ROUNDS = 8  # fetches without enough kept groups, before a spoiled majority must be the infrastructure

Group = list[Sample | list[Sample]]
"""One element per episode; a list of its samples where it has several."""


@dataclass
class Rollout:
    """What one rollout gave: kept samples, flat and in group order; metrics; the loop's lag in ms."""

    samples: list[Sample]
    metrics: dict[str, float]
    lags_ms: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class _Groups:
    """What became of the groups that were fetched. `reserve` was dropped, and is kept after all when too few remain."""

    wanted: int
    finished: list[Group] = field(default_factory=list)
    kept: list[Group] = field(default_factory=list)
    reserve: list[Group] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        return len(self.kept) >= self.wanted

    def settle(self, group: Group, verdict: DynamicFilterOutput) -> None:
        """Note a finished group and what the filter says of it."""
        self.finished.append(group)
        if not verdict.keep:
            reason = verdict.reason or ""
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
            if verdict.keep_when_insufficient:
                self.reserve.append(group)
        elif not self.enough:
            self.kept.append(group)

    def fill_up(self) -> bool:
        """Take what is missing from the reserve, where that is enough."""
        missing = self.wanted - len(self.kept)
        if missing > len(self.reserve):
            return False
        self.kept += self.reserve[:missing]
        return True

    def check(self) -> None:
        """Raises PolicyError where infrastructure spoiled more than half of the groups."""
        count = self.dropped.get("infrastructure", 0)
        if count <= len(self.finished) // 2:
            return
        spoiled = (s for group in self.finished for s in flatten(group) if s.remove_sample)
        detail = next((s.metadata["tau2"].get("detail") for s in spoiled), "")
        raise PolicyError(f"{count} of {len(self.finished)} groups were spoiled, the last by: {detail}")


async def generate_rollout(args: Namespace, rollout_id: int, source: Tau2DataSource) -> Rollout:
    """Collect `args.rollout_batch_size` groups.

    Raises:
        PolicyError: round after round, most groups were spoiled by infrastructure.
    """
    started = time.perf_counter()
    state = GenerateState(args)
    state.aborted = False
    state.semaphore = asyncio.Semaphore(args.sglang_server_concurrency)
    groups = _Groups(wanted=args.rollout_batch_size)
    async with LoopLag() as lag:
        cut = await _collect(args, state, source, groups)
        await harness(args).close()

    kept = sorted(groups.kept, key=lambda group: flatten(group)[0].index or 0)
    filters.rollout_sample_filter(args, kept)
    filters.process_all_samples(args, groups.finished, source.get_samples)
    samples = flatten(kept)
    wall_s = time.perf_counter() - started
    drops: dict[str, float] = {f"rollout/dynamic_filter/drop_{k}": v for k, v in groups.dropped.items()}
    log_hooks.log_rollout(rollout_id, args, samples, drops, wall_s)
    served = flatten([*groups.finished, *cut])
    ended = [s for s in served if s.status is not Sample.Status.ABORTED]
    cut_off = [s for s in served if s.status is Sample.Status.ABORTED and any(s.loss_mask or ())]
    metrics: dict[str, float] = {
        **log_hooks.episode_metrics(ended, "rollout"),
        **drops,
        "rollout/wall_s": wall_s,
        "rollout/episodes": len(episodes(ended)),
        "rollout/cut_off": len(cut_off),
        "rollout/eased": sum("prefix" in s.metadata for s in first_samples(ended + cut_off)),
        "rollout/sampled_tokens": sum(sum(s.loss_mask or ()) for s in ended + cut_off),
    }
    return Rollout(samples, metrics, lag.lags_ms)


async def _collect(args: Namespace, state: GenerateState, source: Tau2DataSource, groups: _Groups) -> list[Group]:
    """Play groups until enough are kept, then abort the rest; returns the groups that were cut off."""
    pending: list[asyncio.Task[Group]] = []
    rounds = 0
    while not groups.enough:
        if len(pending) + len(groups.kept) < groups.wanted:
            rounds += 1
            if rounds > MAX_ROUNDS:
                if groups.fill_up():
                    break
                groups.check()
            fetched = source.get_samples(args.over_sampling_batch_size)
            pending += [asyncio.ensure_future(_play_group(args, state, group)) for group in fetched]
        done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        pending = [task for task in pending if task not in done]
        for task in done:
            group = task.result()
            groups.settle(group, filters.dynamic_sampling_filter(args, group))
    state.aborted = True
    return await asyncio.gather(*pending)


async def _play_group(args: Namespace, state: GenerateState, group: list[Sample]) -> Group:
    return list(await asyncio.gather(*(_play(args, state, s) for s in group)))


async def _play(args: Namespace, state: GenerateState, sample: Sample) -> Sample | list[Sample]:
    async with state.semaphore:
        if state.aborted:
            sample.status = Sample.Status.ABORTED
            return sample
        played = await generate(args, sample, dict(state.sampling_params))
    for one in flatten([played]):
        if one.status is not Sample.Status.ABORTED and one.reward is None:
            one.reward = await reward(args, one)
    return played
