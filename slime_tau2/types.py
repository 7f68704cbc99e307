"""The values that cross borders: what a task is, what a turn was, how an episode ended.

Frozen and serialisable, except `Episode`, which is built once by the driver and then only read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

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
class Turn:
    """One agent turn. `start`/`end` index the ledger's response tokens; `sent` is False where it ended the episode
    before tau2 read it.

    `partial` is the strict score once everything that followed from the turn has happened, `gain` what the turn added
    to it: the gains of an episode sum to its last `partial`, less what the prefix had earned where it began behind one.
    """

    index: int
    start: int
    end: int
    text: str
    calls: int
    call_errors: int
    malformed: int
    finish_reason: str
    sent: bool
    partial: float
    gain: float


@dataclass(frozen=True)
class Reply:
    """One answer of the policy server within a turn: the response tokens [start, end) of the ledger, and what the
    server said of them.

    `meta` is its `meta_info` without the log-probs, which the ledger has. A turn that a weight update interrupted has
    several replies, and one of them may have no tokens.
    """

    start: int
    end: int
    meta: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How an episode was scored. `reward` is tau2's; `partial` the strict score in [0, 1]; `reward_info` tau2's, as
    JSON.
    """

    reward: float
    partial: float
    components: dict[str, float]
    reward_info: dict[str, Any]


@dataclass
class Episode:
    """One finished conversation. `outcome` is None exactly when the termination's disposition is not SCORE.

    `messages` are tau2's, as JSON, in order. `provenance` says by which tau2, task file and reward basis it was scored.
    Times are seconds: `policy_s` and `user_s` waited for the two models, `wall_s` in all. `weight_versions` has one
    entry a request to the policy, in order; a turn that a weight update interrupted has several. `replies` are the
    answers to those requests. `usage` is what the servers report: {role: {requests, unreported, prompt, cached,
    completion}}, tokens by role (policy, user, judge), and `reasoning` what their models thought: {role, message, text}
    in order (`episode.usage`). `user_stopped_early`: the user hung up right after confirming (`episode.user_errors`).
    """

    task: TaskRef
    seed: int
    termination: Termination
    outcome: Outcome | None
    turns: list[Turn] = field(default_factory=list)
    messages: list[dict] = field(default_factory=list)
    ledger: Any = None
    detail: str = ""
    steps: int = 0
    tool_errors: int = 0
    wall_s: float = 0.0
    policy_s: float = 0.0
    user_s: float = 0.0
    weight_versions: list[str] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    reasoning: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    user_stopped_early: bool = False

    @property
    def reward(self) -> float | None:
        return None if self.outcome is None else self.outcome.reward

    def record(self) -> dict[str, Any]:
        """The JSON-able record of the episode, without its token ids."""
        return {
            "domain": self.task.domain,
            "task_id": self.task.task_id,
            "seed": self.seed,
            "reward": self.reward,
            "termination": self.termination.value,
            "policy": self.termination.disposition.value,
            "detail": self.detail,
            "partial": self.outcome.partial if self.outcome else None,
            "components": self.outcome.components if self.outcome else {},
            "reward_info": self.outcome.reward_info if self.outcome else None,
            "turns": [asdict(t) for t in self.turns],
            "steps": self.steps,
            "tool_errors": self.tool_errors,
            "response_tokens": self.ledger.response_length if self.ledger else 0,
            "sampled_tokens": self.ledger.sampled if self.ledger else 0,
            "wall_s": round(self.wall_s, 4),
            "policy_s": round(self.policy_s, 4),
            "user_s": round(self.user_s, 4),
            "usage": self.usage,
            **self.provenance,
            "user_stopped_early": self.user_stopped_early,
            "messages": self.messages,
            "reasoning": self.reasoning,
        }
