"""Every error that this package raises on purpose.

There are three kinds, and each has one place that catches it.

* `UserError`: bad input or a bad installation. The message names the thing, the value and the fix. Code on the way up
  may add where it happened, or skip one file or row of many; else it goes up to the command line (`cli.py`), which
  prints it as one line without a traceback, or to slime.
* `EpisodeError`: an episode cannot go on, or its score cannot be taken. The class says with which `Termination` the
  episode ends, and so whether it is tried again or masked; it is never a reward of zero. Clients, users and graders
  raise it, and `episode/driver.py` makes of it the ending of the returned `Episode`. (An agent takes two earlier: an
  aborted request goes on, a full context is scored.) Most are `InfrastructureError`, trouble outside the policy (a
  server, a time-out). Outside an episode, when a server is probed say, it goes up as a `UserError` does; `eval` makes
  `ServerUnavailable` of it, which says what mends it.
* `LedgerError`, `FactoryError`: a bug in this package, or in a factory of somebody's own. Whoever catches it raises it
  again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from slime_tau2.terminations import Termination

Role = Literal["policy", "user", "judge", "check", "worker"]
"""Whom an episode waits for: three models, the process of the official cross-check, and the worker that plays it."""


class UserError(Exception):
    """Bad input or a bad installation; the message carries the fix."""


class BenchDataError(UserError):
    """tau2 or its data is absent, wrong or of an unknown vintage."""


class ConfigError(UserError):
    """A configuration key or value that cannot be used."""


class EvaluationStopped(UserError):
    """An evaluation ended before its end, or some of its attempts have no score: its numbers are not whole."""


class ServerUnavailable(UserError):
    """A server that a run needs is not there, hangs or fails: nothing is wrong with the configuration."""


class CheckpointError(UserError):
    """No usable checkpoint where one is needed, or none could be written."""


class TemplateError(UserError):
    """The tokenizer's chat template cannot be used token-exactly."""


class EpisodeError(Exception):
    """Ends an episode without a score."""

    termination: ClassVar[Termination]
    """How the episode ends that meets it."""


class InfrastructureError(EpisodeError):
    """Trouble outside the policy. Raised as one of the subclasses below, each with its role."""

    role: ClassVar[Role]
    """Who failed: its tokens and faults are counted under this name, and the message begins with it."""
    kind: str = ""
    """Under which name the last failed request is counted (`http_404`, `timeout`, `connection`, …); empty where none
    was made.
    """

    def __init__(self, message: str):
        super().__init__(f"{self.role}: {message}")

    @property
    def unavailable(self) -> bool:
        """Whether the server is away, hangs, fails or is too busy, which no other configuration would mend."""
        away = ("", "connection", "timeout", "http_408", "http_425", "http_429")
        return self.kind in away or self.kind.startswith("http_5")


class PolicyError(InfrastructureError):
    """The policy server failed, timed out or answered nonsense."""

    role = "policy"
    termination = Termination.POLICY_FAILURE


class PolicyAborted(InfrastructureError):
    """The policy server aborted the request (weight update, or slime's abort).

    Attributes:
        token_ids: what it had sampled by then.
        log_probs: one per token id.
        meta: its `meta_info`.
    """

    role = "policy"
    termination = Termination.ABORTED

    def __init__(
        self,
        message: str,
        token_ids: list[int] | None = None,
        log_probs: list[float] | None = None,
        meta: dict[str, Any] | None = None,
    ):
        super().__init__(message)
        self.token_ids = token_ids or []
        self.log_probs = log_probs or []
        self.meta = meta or {}


class UserSimulatorError(InfrastructureError):
    """The user simulator failed, timed out or kept answering nonsense."""

    role = "user"
    termination = Termination.USER_FAILURE


class JudgeError(InfrastructureError):
    """The judge of natural-language assertions failed, or a task needs one and there is none."""

    role = "judge"
    termination = Termination.JUDGE_FAILURE


class CheckError(InfrastructureError):
    """The process that grades a second time, with tau2's own evaluator, died or hung."""

    role = "check"
    termination = Termination.CHECK_FAILURE


class WorkerError(InfrastructureError):
    """The workers that played an episode died, one after the other."""

    role = "worker"
    termination = Termination.WORKER_FAILURE


class ScoreMismatch(EpisodeError):
    """The live score is not tau2's: a bug of ours, never input. The episode is masked; the message names the fields."""

    termination = Termination.SCORE_MISMATCH


class LedgerError(AssertionError):
    """A token record would break invariant 1 or 2: a bug, never input."""


class FactoryError(AssertionError):
    """A task factory contradicts itself or its domain's tools: a bug in the factory, never input."""
