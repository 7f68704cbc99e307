"""The values that cross borders: what a task is, what a turn was, how an episode ended.

Frozen and serialisable, except `Episode`, which is built once by the driver and then only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from slime_tau2.ledger import TokenLedger
from slime_tau2.record import (
    FORMAT,
    DatabaseDifference,
    EpisodeRecord,
    MessageRecord,
    Provenance,
    RewardInfoRecord,
    SegmentRecord,
    ThoughtRecord,
    TokenCounts,
    TurnRecord,
)
from slime_tau2.terminations import Termination


def is_success(reward: float | None) -> bool:
    """tau2's rule: |reward - 1| < 1e-6. An episode without a score is no success."""
    return reward is not None and abs(reward - 1.0) < 1e-6


@dataclass(frozen=True)
class TaskRef:
    """One task of one domain."""

    domain: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.task_id}"


@dataclass(frozen=True)
class CallGain:
    """One tool call of a turn, for credit by call; `record.CallGainRecord` says what each field is."""

    start: int
    end: int
    gain: float
    wrong: str = ""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One agent turn; `record.TurnRecord` says what each field is.

    `start`, `thought` and `end` index the response tokens of the segment that holds the turn. The gains of an episode
    sum to its last `partial`, less what the prefix had earned where it began behind one.
    """

    index: int
    segment: int = 0
    start: int
    end: int
    thought: int = 0
    text: str
    calls: int
    call_errors: int
    malformed: int
    finish_reason: str
    sent: bool
    partial: float
    gain: float
    by_call: tuple[CallGain, ...] = ()

    def record(self) -> TurnRecord:
        return cast(TurnRecord, asdict(self) | {"by_call": [asdict(call) for call in self.by_call]})


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the policy server within a turn: the response tokens [start, end) of a segment, and what the
    server said of them.

    `meta` is its `meta_info` without the log-probs, which the segment has. A turn that a weight update interrupted has
    several replies, and one of them may have no tokens.

    Attributes:
        turn: the index of the turn.
        call: the number of the call to the policy; an agent of one's own may make several per turn.
        thought: where the thoughts at the beginning of the call end, in response tokens.
        trained: False where an agent of one's own keeps the call out of training.
    """

    start: int
    end: int
    meta: dict[str, Any]
    segment: int = 0
    turn: int = 0
    call: int = 0
    thought: int = 0
    trained: bool = True


@dataclass(frozen=True)
class Transcript:
    """What the policy read and said, message by message, as its chat template takes it, where an agent of one's own
    wrote the prompts.

    `calls` are (segment, start, end): the response tokens [start, end) of each, those included that do not train.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    calls: list[tuple[int, int, int]]


def segment_records(segments: Sequence[TokenLedger]) -> list[SegmentRecord]:
    """What each segment holds, in tokens."""
    return [
        SegmentRecord(prompt=s.prompt_length, kept=s.kept, response=s.response_length, sampled=s.sampled)
        for s in segments
    ]


@dataclass(frozen=True)
class Outcome:
    """How an episode was scored. `reward` is tau2's; `partial` the strict score in [0, 1]; `reward_info` tau2's, as
    JSON.
    """

    reward: float
    partial: float
    components: dict[str, float]
    reward_info: RewardInfoRecord


@dataclass(kw_only=True)
class Episode:
    """One finished conversation."""

    task: TaskRef
    """The task it was about."""
    seed: int
    """Seed of the user."""
    termination: Termination
    """How it ended."""
    outcome: Outcome | None
    """How it was scored; None exactly when the termination's disposition is not SCORE."""
    turns: list[Turn] = field(default_factory=list)
    """The agent's turns, in order."""
    messages: list[MessageRecord] = field(default_factory=list)
    """tau2's messages as JSON, in order."""
    segments: list[TokenLedger] = field(default_factory=list)
    """What was sent and sampled, by token id: one ledger, or several where the template rewrites history; none where
    the agent has no tokens.
    """
    detail: str = ""
    """What ended it, where the termination alone does not say it."""
    steps: int = 0
    """tau2's count of hops."""
    tool_errors: int = 0
    """Error results of tools, the user's included."""
    wall_s: float = 0.0
    """Seconds from beginning to score."""
    policy_s: float = 0.0
    """Seconds that were spent waiting for the policy."""
    user_s: float = 0.0
    """Seconds that were spent waiting for the user."""
    weight_versions: list[str] = field(default_factory=list)
    """One entry per request to the policy, in order; a turn that a weight update interrupted has several."""
    replies: list[Reply] = field(default_factory=list)
    """The policy server's answers to those requests."""
    usage: dict[str, TokenCounts] = field(default_factory=dict)
    """Tokens by role (policy, user, judge), as the servers report them (`episode.usage`)."""
    reasoning: list[ThoughtRecord] = field(default_factory=list)
    """What the models thought, in order (`episode.usage`)."""
    transcripts: list[Transcript] = field(default_factory=list)
    """By what the segments can be audited, where the messages are not what the policy read: one per conversation with
    it; not recorded.
    """
    provenance: Provenance = field(default_factory=lambda: Provenance(tau2="", tasks_sha256="", reward_basis=[]))
    """The tau2, task file and reward basis that scored it."""
    database_difference: DatabaseDifference | None = None
    """Where the databases at the end are not as the solution leaves them, if tau2 found that they differ."""
    user_stopped_early: bool = False
    """Whether the user hung up right after confirming (`episode.user_errors`)."""
    turn_tokens: list[list[tuple[str, float]]] | None = None
    """For each turn that sampled, its tokens as (text, log-prob), where whoever had it played wants to read them."""

    @property
    def reward(self) -> float | None:
        return None if self.outcome is None else self.outcome.reward

    def record(self) -> EpisodeRecord:
        """The JSON-able record of the episode, without its token ids."""
        outcome = self.outcome
        return EpisodeRecord(
            format=FORMAT,
            domain=self.task.domain,
            task_id=self.task.task_id,
            seed=self.seed,
            reward=self.reward,
            termination=self.termination.value,
            disposition=self.termination.disposition.value,
            detail=self.detail,
            partial=outcome.partial if outcome else None,
            components=outcome.components if outcome else {},
            reward_info=outcome.reward_info if outcome else None,
            database_difference=self.database_difference,
            turns=[turn.record() for turn in self.turns],
            steps=self.steps,
            tool_errors=self.tool_errors,
            response_tokens=sum(segment.response_length for segment in self.segments),
            sampled_tokens=sum(segment.sampled for segment in self.segments),
            segments=segment_records(self.segments),
            wall_s=round(self.wall_s, 4),
            policy_s=round(self.policy_s, 4),
            user_s=round(self.user_s, 4),
            usage=self.usage,
            **self.provenance,
            user_stopped_early=self.user_stopped_early,
            messages=self.messages,
            reasoning=self.reasoning,
        )
