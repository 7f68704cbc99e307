"""slime's four filters: which groups train, in what order returned groups are served, which samples are masked, and
what is handed back to the data source.
"""

from __future__ import annotations

from typing import Any, Protocol

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import DynamicFilterOutput, Sample
from slime_tau2.hooks.fan_out import first_samples
from slime_tau2.hooks.group_book import spoiled
from slime_tau2.hooks.group_story import story
from slime_tau2.hooks.rollout_rows import rows_of
from slime_tau2.hooks.samples import ended, flatten, task_reward
from slime_tau2.hooks.training_reward import training_reward


class DynamicFilter(Protocol):
    """slime's dynamic filter; older ones answer with a bool."""

    def __call__(self, args: Any, samples: list[Sample], /) -> DynamicFilterOutput | bool: ...


def dynamic_sampling_filter(args: object, samples: list[Any], **kwargs: object) -> DynamicFilterOutput:
    """Keep a group that can teach: at least two valid episodes whose training rewards differ.

    A dropped group is kept after all when too few remain, which spares slime a whole further round of sampling.
    """
    config = Tau2Config.from_args(args)
    group = flatten(samples)
    valid = [s for s in first_samples(group) if not s.remove_sample]
    verdict = _verdict([training_reward(config, s, task_reward(s)) for s in valid])
    story.judged(group, verdict.reason or "kept", rows_of(config, group))
    return verdict


def _verdict(rewards: list[float]) -> DynamicFilterOutput:
    """Of a group whose valid samples have these training rewards."""
    if len(rewards) < 2:
        return DynamicFilterOutput(keep=False, reason="infrastructure")
    if max(rewards) - min(rewards) < 1e-6:
        return DynamicFilterOutput(keep=False, reason=f"all_{rewards[0]:.1f}", keep_when_insufficient=True)
    return DynamicFilterOutput(keep=True)


def buffer_filter(
    args: object, rollout_id: int | None, buffer: list[list[Sample]], num_samples: int
) -> list[list[Sample]]:
    """Oldest returned groups first; takes what it returns out of the buffer."""
    buffer.sort(key=lambda group: min(s.index or 0 for s in group))
    taken = buffer[:num_samples]
    buffer[:] = buffer[num_samples:]
    return taken


def rollout_sample_filter(args: object, groups: list[Any]) -> None:
    """Mask samples out of training: with `tau2_overlong: mask`, episodes that ran out of tokens or steps."""
    if Tau2Config.from_args(args).overlong != "mask":
        return
    for s in flatten(groups):
        termination = ended(s)
        if termination is not None and termination.exhausted:
            s.remove_sample = True


def process_all_samples(args: object, all_groups: list[Any], data_source: Any) -> None:
    """Hand back groups that infrastructure spoiled, or that the end of the rollout cut off, so that their tasks are
    served again.

    slime passes the data source's bound `get_samples` here, hence `__self__`.
    """
    source = getattr(data_source, "__self__", data_source)
    groups = [first_samples(flatten([g])) for g in all_groups]
    if hasattr(source, "reclaim"):
        source.reclaim(groups)
    elif hasattr(source, "add_samples"):  # slime's own: it cannot say what it has served
        source.add_samples([g for g in groups if spoiled(g)])


def keeps(args: object, group: list[Sample]) -> bool:
    """The verdict of the run's dynamic filter (`--dynamic-sampling-filter-path`; ours where `args` do not say) on a
    finished group.
    """
    path: str | None = option(args, "dynamic_sampling_filter_path", f"{__name__}.dynamic_sampling_filter")
    if path is None:
        return True
    module, _, name = path.rpartition(".")
    judge: DynamicFilter = plugins.load(f"{module}:{name}", "--dynamic-sampling-filter-path")
    verdict = judge(args, group)
    return bool(getattr(verdict, "keep", verdict))
