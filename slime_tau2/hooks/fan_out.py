"""Several samples for one episode: slime's fan-out, where the policy's template rewrites history.

Each segment of the episode (`episode.segments`) is a sample of its own. All of an episode's share `index`,
`group_index`, reward and `rollout_id`, by which slime keeps them in one training step and divides their losses by the
tokens of all of them. Whatever counts, counts episodes.

slime wants one shape for a whole rollout. So with such a template each training sample comes back as a list, be it of
one; with a template that keeps history none does. Evaluation trains nothing, and gets one sample per episode.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from slime_tau2.errors import ConfigError
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.modes import fully_async
from slime_tau2.hooks.samples import fill, info, placeholder, trained_segments
from slime_tau2.terminations import Termination
from slime_tau2.types import Episode

_BREAK = {
    "partial_rollout": "slime takes the samples of an aborted group for no lists",
    "group_rm": "slime rewards the elements of a group, which are lists then",
    "log_passrate": "slime counts samples, of which an episode has several",
}
"""{slime's switch: why it ends a job whose episodes fan out}."""


def check(args: object) -> None:
    """See that this slime job can take several samples for one.

    Raises:
        ConfigError: it cannot; names the flag.
    """
    cause = "the policy's chat template rewrites earlier turns, so that an episode is several samples"
    for name, why in _BREAK.items():
        if option(args, name, False):
            raise ConfigError(f"--{name.replace('_', '-')}: {cause}, and {why}; drop the flag")
    ours = "slime_tau2.hooks.rewards.reward_post_process"
    if option(args, "custom_reward_post_process_path", ours) is None:
        raise ConfigError(
            f"--custom-reward-post-process-path is absent: {cause}, and slime's own normalisation would make one group "
            f"of all of them; pass {ours}"
        )
    path: str = option(args, "dynamic_sampling_filter_path", None) or ""
    if path.startswith("slime."):
        raise ConfigError(
            f"--dynamic-sampling-filter-path {path}: {cause}, and slime's own filters take no lists; use "
            "slime_tau2.hooks.filters.dynamic_sampling_filter"
        )


def filled(
    args: object, sample: Sample, episode: Episode, *, thinking: bool = True, evaluation: bool = False
) -> list[Sample]:
    """An episode's samples, `sample` the first of them; one placeholder where nothing of it trains.

    Args:
        thinking: whether thoughts train.
    """
    numbers = trained_segments(episode)
    if not numbers:
        placeholder(sample, episode.detail, episode.termination, args)
        return [sample]
    if evaluation:
        numbers = numbers[-1:]  # the longest conversation that was sent
    elif episode.termination is Termination.ABORTED:
        numbers = numbers[:1]  # it begins anew
    samples = [sample, *(_sibling(sample) for _ in numbers[1:])]
    for number, one in zip(numbers, samples):
        fill(args, one, episode, number, replayed=not evaluation, thinking=thinking)
    return samples


def shaped(args: object, episode: list[Sample]) -> Sample | list[Sample]:
    """The training samples of an episode as slime wants them where episodes fan out.

    Only the fully-async worker gets an aborted one bare: it looks for those among the elements of a group, and hands
    the group back.
    """
    for sample in episode:
        sample.rollout_id = sample.index
    if episode[0].status is Sample.Status.ABORTED and fully_async(args):
        return episode[0]
    return episode


def episodes(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each episode, in order of their first."""
    found: dict[object, list[Sample]] = {}
    for sample in samples:
        several = len(info(sample).get("segments", ())) > 1
        key = (sample.group_index, sample.index) if several and sample.index is not None else id(sample)
        found.setdefault(key, []).append(sample)
    return list(found.values())


def first_samples(samples: Iterable[Sample]) -> list[Sample]:
    """The first sample of each episode: what was served, and tells of the whole episode."""
    return [siblings[0] for siblings in episodes(samples)]


def _sibling(sample: Sample) -> Sample:
    again = copy.copy(sample)
    again.metadata = {**sample.metadata}
    return again
