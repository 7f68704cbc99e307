"""How an episode becomes a sample of slime's, and what the other hooks read of it.

`fill` writes tokens, mask and log-probs from a segment, tau2's reward, and under `metadata["tau2"]` a `SampleInfo`,
which filters, rewards and metrics read. `placeholder` writes what trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from slime_tau2.hooks import replay
from slime_tau2.hooks.compat import Sample, restart
from slime_tau2.record import CallGainRecord, Provenance, SegmentRecord, TokenCounts
from slime_tau2.rewards.shaping import card_fractions
from slime_tau2.terminations import Disposition, Termination
from slime_tau2.types import Episode, segment_records

KEY = "tau2"


class SampleInfo(TypedDict, total=False):
    """What `generate` leaves about the episode in `metadata["tau2"]`, as JSON.

    A placeholder has the first four fields alone. The fields of turns tell of those that the sample's segment holds.
    """

    termination: str
    """How it ended: the value of a `Termination`."""
    detail: str
    """What ended it, where the termination alone does not say it."""
    partial: float
    """The strict partial score in [0, 1]; 0.0 without a score."""
    components: dict[str, float]
    """The parts of the partial score by kind, each in [0, 1]."""
    card_components: dict[str, float]
    """tau2's own fractions by kind, each in [0, 1], for `tau2_shaping: card`."""
    steps: int
    """tau2's count of hops."""
    turns: int
    """The agent's turns."""
    turn_partials: list[float]
    """The strict partial score after each turn."""
    segment: int
    """Which of the episode's segments the sample holds."""
    segments: list[SegmentRecord]
    """What each segment of the episode that trains holds, in tokens."""
    turn_spans: list[tuple[int, int]]
    """Where each turn that has tokens lies in the response."""
    turn_numbers: list[int]
    """Which of the episode's turns each is."""
    turn_gains: list[float]
    """What each such turn added to the partial score. A turn of several calls to the policy is in every segment that
    holds one of them.
    """
    turn_calls: list[list[CallGainRecord]]
    """The tool calls within each such span, with the response tokens, the gain and the fault of each."""
    calls: int
    """The agent's tool calls."""
    tool_errors: int
    """Error results of tools, the user's included."""
    malformed: int
    """The agent's calls that could not be parsed."""
    policy_s: float
    """Seconds that waited for the policy."""
    user_s: float
    """Seconds that waited for the user."""
    wall_s: float
    """Seconds from beginning to score."""
    usage: dict[str, TokenCounts]
    """Tokens by role (`policy`, `user`, `judge`), as their servers reported them."""
    user_stopped_early: bool
    """Whether the user hung up right after confirming, before the agent could act."""
    tau2: str
    """The tau2 that ran and scored it: vintage and version."""
    tasks_sha256: str
    """SHA-256 of the domain's task file."""
    reward_basis: list[str]
    """The kinds of check that the reward was the product of."""
    task_set: str
    """Name of the task set; absent for tau2's own tasks. So the next two."""
    task_set_sha256: str
    """SHA-256 of the task set's tasks, databases and splits."""
    database_sha256: str
    """SHA-256 of the database that the task was over."""


def info(sample: Sample) -> SampleInfo:
    """What `generate` left about the sample's episode; {} where none has run."""
    left: SampleInfo | None = sample.metadata.get(KEY)
    return left or {}


def ended(sample: Sample) -> Termination | None:
    """How the sample's episode ended; None where none has run."""
    value = info(sample).get("termination")
    return None if value is None else Termination(value)


def task_reward(sample: Sample) -> float:
    """tau2's reward, as `generate` set it; 0.0 where there is none."""
    reward = sample.reward or 0.0
    if isinstance(reward, dict):
        raise TypeError(f"sample {sample.index}: a reward of several parts, {sorted(reward)}, is none of generate's")
    return float(reward)


def task_name(sample: Sample) -> str:
    """The sample's task, `domain/task_id`."""
    return f"{sample.metadata.get('domain')}/{sample.metadata.get('task_id')}"


def flatten(samples: Iterable[Any]) -> list[Sample]:
    """The samples of nested groups, in order (a fan-out makes an element of a group a list)."""
    flat: list[Sample] = []
    for element in samples:
        flat += flatten(element) if isinstance(element, list) else [element]
    return flat


def trained_segments(episode: Episode) -> list[int]:
    """The segments that sampled something, by number; none of an episode without a score that was not aborted."""
    if episode.outcome is None and episode.termination is not Termination.ABORTED:
        return []
    return [number for number, segment in enumerate(episode.segments) if segment.sampled]


def fill(
    args: object, sample: Sample, episode: Episode, segment: int = 0, *, replayed: bool = True, thinking: bool = True
) -> None:
    """Write a segment of an episode, one that sampled something, into a sample; the loss mask spares its thoughts
    unless `thinking`.

    Each reply of the server goes in with its own `meta_info`. From it slime counts prefix-cache hits and speculation;
    with `replayed` it also takes what the trainer replays. The status is the episode's.
    """
    ledger = episode.segments[segment]
    replies = [reply for reply in episode.replies if reply.segment == segment]
    turns = [turn for turn in episode.turns if turn.segment == segment]
    restart(sample)
    replay.start(args, sample, replayed)
    tokens, log_probs = ledger.tokens, ledger.log_probs
    sample.tokens, response = tokens[: ledger.prompt_length], tokens[ledger.prompt_length :]
    done = 0
    for reply in replies:  # what follows the last turn trains nothing, and may be what outgrew the context
        if reply.end > reply.start > done:
            sample.append_response_tokens(args, tokens=response[done : reply.start], trainable=False)
        sample.append_response_tokens(
            args,
            tokens=response[reply.start : reply.end],
            log_probs=log_probs[reply.start : reply.end] if reply.trained else None,
            trainable=reply.trained,
            meta_info=replay.meta_info(args, sample, reply, replayed),
        )
        done = max(done, reply.end)
    mask = sample.loss_mask or []
    for reply in () if thinking else replies:
        end = min(reply.end, reply.thought)
        mask[reply.start : end] = [0] * (end - reply.start)
    sample.response = "\n".join(turn.text for turn in turns)
    versions = (reply.meta.get("weight_version") for reply in replies)
    sample.weight_versions = [str(version) for version in versions if version is not None]
    sample.non_generation_time = max(0.0, episode.wall_s - episode.policy_s)
    sample.metadata[KEY] = _summary(episode, segment)
    if episode.termination is Termination.ABORTED:
        sample.status = Sample.Status.ABORTED
        sample.reward = 0.0  # slime's metrics round every reward
        sample.remove_sample = True
        return
    sample.status = Sample.Status.TRUNCATED if episode.termination.exhausted else Sample.Status.COMPLETED
    sample.reward = episode.reward


def _places(episode: Episode, segment: int) -> dict[int, tuple[int, int]]:
    """{turn: from the first to the last of its tokens in the segment's response}."""
    places: dict[int, tuple[int, int]] = {}
    for reply in episode.replies:
        if reply.segment == segment and reply.end > reply.start:
            start, end = places.get(reply.turn, (reply.start, reply.end))
            places[reply.turn] = min(start, reply.start), max(end, reply.end)
    return places


def placeholder(
    sample: Sample, detail: str, termination: Termination = Termination.ENVIRONMENT_ERROR, args: object = None
) -> None:
    """Make it a sample that trains nothing and counts for nothing, in the shape that the trainer needs."""
    restart(sample)
    sample.tokens = [0, 0]
    sample.response_length = 1
    sample.loss_mask = [0]
    sample.rollout_log_probs = [0.0]
    sample.reward = 0.0
    sample.remove_sample = True
    replay.pad(args, sample)
    sample.status = Sample.Status.ABORTED if termination.disposition is Disposition.RETRY else Sample.Status.FAILED
    sample.metadata[KEY] = SampleInfo(termination=termination.value, detail=detail, partial=0.0, components={})


def _summary(episode: Episode, segment: int) -> SampleInfo:
    outcome, turns = episode.outcome, episode.turns
    provenance: Provenance = episode.provenance
    places = _places(episode, segment)
    sampled = [(place, turns[index].record()) for index, place in places.items()]
    return SampleInfo(
        termination=episode.termination.value,
        detail=episode.detail,
        partial=outcome.partial if outcome else 0.0,
        components=outcome.components if outcome else {},
        card_components=card_fractions(outcome.reward_info) if outcome else {},
        steps=episode.steps,
        turns=len(turns),
        turn_partials=[turn.partial for turn in turns],
        segment=segment,
        segments=[record for record in segment_records(episode.segments) if record["sampled"]],
        turn_spans=list(places.values()),
        turn_numbers=list(places),
        turn_gains=[turn["gain"] for _, turn in sampled],
        turn_calls=[turn["by_call"] if turn["segment"] == segment else [] for _, turn in sampled],
        calls=sum(turn.calls for turn in turns),
        tool_errors=episode.tool_errors,
        malformed=sum(turn.malformed for turn in turns),
        policy_s=episode.policy_s,
        user_s=episode.user_s,
        wall_s=episode.wall_s,
        usage=episode.usage,
        user_stopped_early=episode.user_stopped_early,
        **provenance,
    )
