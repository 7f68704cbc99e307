"""The one table of how an episode ends, and of what becomes of it then.

Every episode that starts ends exactly once, in one `Termination` (invariant 3). What training, an evaluation and an
export do with it follows from the member's own columns; nobody else keeps a list of endings. An error that ends an
episode names its `Termination` itself (`errors.py`).
"""

from __future__ import annotations

from enum import StrEnum


class Disposition(StrEnum):
    """What becomes of an episode: score it and train on it, mask it out of training, or try again and then drop it."""

    SCORE = "score"
    MASK = "mask"
    RETRY = "retry then drop"


UNNAMED = "max_steps"
"""What an ending that tau2 has no name for is exported as: it scores 0 there too."""


class Termination(StrEnum):
    """How an episode ends.

    Attributes:
        disposition: what becomes of it.
        tau2_reason: its name in tau2's results.
        exhausted: tokens or steps ran out; slime calls such a sample truncated, and `tau2_overlong` says what it earns
            in training.
        graded: the conversation came to its own end, and what was done in it is graded; any other ending that scores
            scores 0, whatever was done.
    """

    disposition: Disposition
    tau2_reason: str
    exhausted: bool
    graded: bool

    def __new__(
        cls,
        value: str,
        disposition: Disposition = Disposition.MASK,  # each member names its own; `Termination("length")` has none
        tau2_reason: str = UNNAMED,
        exhausted: bool = False,
        graded: bool = False,
    ) -> Termination:
        member = str.__new__(cls, value)
        member._value_ = value
        member.disposition = disposition
        member.tau2_reason = tau2_reason
        member.exhausted = exhausted
        member.graded = graded
        return member

    USER_STOP = "user_stop", Disposition.SCORE, "user_stop", False, True
    AGENT_STOP = "agent_stop", Disposition.SCORE, "agent_stop", False, True  # `done`, in the card's protocol only
    MAX_STEPS = "max_steps", Disposition.SCORE, UNNAMED, True
    TOO_MANY_ERRORS = "too_many_errors", Disposition.SCORE, "too_many_errors"
    AGENT_ERROR = "agent_error", Disposition.SCORE  # an empty agent turn
    LENGTH = "length", Disposition.SCORE, UNNAMED, True  # the turn's token budget
    CONTEXT_OVERFLOW = "context_overflow", Disposition.SCORE, UNNAMED, True  # the episode's token budget
    ABORTED = "aborted", Disposition.RETRY  # slime aborted the rollout, or the policy server the request
    USER_FAILURE = "user_failure", Disposition.RETRY
    POLICY_FAILURE = "policy_failure", Disposition.RETRY
    JUDGE_FAILURE = "judge_failure", Disposition.RETRY
    CHECK_FAILURE = "check_failure", Disposition.RETRY  # the process of the official cross-check died or hung
    WORKER_FAILURE = "worker_failure", Disposition.RETRY  # the workers that played it died
    TIMEOUT = "timeout", Disposition.RETRY  # the episode's deadline
    SCORE_MISMATCH = "score_mismatch", Disposition.MASK  # the official cross-check disagreed: a bug in this package
    ENVIRONMENT_ERROR = "environment_error", Disposition.MASK  # an exception in tau2 or in this package


GRADED_REASONS = frozenset(termination.tau2_reason for termination in Termination if termination.graded)
"""tau2's names of the endings whose conversations are graded."""
