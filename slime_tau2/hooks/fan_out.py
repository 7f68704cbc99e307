"""Several samples for one episode: slime's fan-out, where the policy's template rewrites history.

Each segment of the episode (`episode.segments`) is a sample of its own. All of an episode's share `index`,
`group_index`, reward and `rollout_id`, by which slime keeps them in one training step and divides their losses by the
tokens of all of them. Whatever counts, counts episodes.

slime wants one shape for a whole rollout. So with such a template each training sample comes back as `Siblings`, be
they one; with a template that keeps history none does. Evaluation trains nothing, and gets one sample per episode.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from slime_tau2.errors import ConfigError
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.samples import fill, info, placeholder, trained_segments
from slime_tau2.terminations import Termination
from slime_tau2.types import Episode

_BREAK = {
    "group_rm": "slime rewards the elements of a group, which are lists then",
    "log_passrate": "slime counts samples, of which an episode has several",
}
"""{slime's switch: why it ends a job whose episodes fan out}."""


class Siblings(list[Sample]):
    """The samples of one episode. As a list it is slime's fan-out; slime's rollouts also look at elements of a group as
    if each were a sample: the fully-async one at `index` and `status`, `--partial-rollout` at the rest.
    """

    @property
    def index(self) -> int | None:  # type: ignore[override]
        return self[0].index

    @property
    def status(self) -> Sample.Status:
        return self[0].status

    @property
    def response(self) -> str:
        return self[0].response

    @property
    def metadata(self) -> dict[str, Any]:
        return self[0].metadata


def check(args: object) -> None:
    """See that this slime job can take several samples for one.

    Raises:
        ConfigError: it cannot; names the flag.
    """
    cause = (
        "an episode is several samples (the policy's chat template rewrites earlier turns, or the agent holds several "
        "conversations)"
    )
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
    samples = [sample, *(sibling(sample) for _ in numbers[1:])]
    for number, one in zip(numbers, samples):
        fill(args, one, episode, number, replayed=not evaluation, thinking=thinking)
    return samples


def shaped(episode: list[Sample]) -> Siblings:
    """The training samples of an episode as slime wants them where episodes fan out."""
    for sample in episode:
        sample.rollout_id = sample.index
    return Siblings(episode)


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


def sibling(sample: Sample) -> Sample:
    """Another sample of the same episode or row, as it was served."""
    again = copy.copy(sample)
    again.metadata = {**sample.metadata}
    return again
