"""Every error this package raises on purpose.

Two kinds. `UserError` is bad input: its message names the thing, the value and the fix, and the command line
prints it without a traceback. `InfrastructureError` is trouble outside the policy (a server, a time-out): an
episode that meets one ends as infrastructure, never as a reward of zero.
"""

from typing import Any


class UserError(Exception):
    """Bad input or a bad installation; the message carries the fix."""


class BenchDataError(UserError):
    """tau2 or its data is absent, wrong or of an unknown vintage."""


class ConfigError(UserError):
    """A configuration key or value that cannot be used."""


class EvaluationStopped(UserError):
    """An evaluation ended before its end, or some of its attempts have no score: its numbers are not whole."""


class CheckpointError(UserError):
    """No usable checkpoint where one is needed, or none could be written."""


class TemplateError(UserError):
    """The tokenizer's chat template cannot be used token-exactly."""


class InfrastructureError(Exception):
    """Trouble outside the policy. `component` is user, policy, judge, check or environment.

    `kind` is the name under which the last failed request is counted (`http_404`, `timeout`, `connection`, …); empty
    where none was made.
    """

    kind = ""

    def __init__(self, component: str, message: str):
        super().__init__(f"{component}: {message}")
        self.component = component


class PolicyError(InfrastructureError):
    """The policy server failed, timed out or answered nonsense."""

    def __init__(self, message: str):
        super().__init__("policy", message)


class PolicyAborted(InfrastructureError):
    """The policy server aborted the request (weight update, or slime's abort). Carries the partial output and its
    `meta_info`.
    """

    def __init__(
        self,
        message: str,
        token_ids: list[int] | None = None,
        log_probs: list[float] | None = None,
        meta: dict[str, Any] | None = None,
    ):
        super().__init__("policy", message)
        self.token_ids = token_ids or []
        self.log_probs = log_probs or []
        self.meta = meta or {}


class UserSimulatorError(InfrastructureError):
    """The user simulator failed, timed out or kept answering nonsense."""

    def __init__(self, message: str):
        super().__init__("user", message)


class CheckError(InfrastructureError):
    """The process that grades a second time, with tau2's own evaluator, died or hung."""

    def __init__(self, message: str):
        super().__init__("check", message)


class JudgeError(InfrastructureError):
    """The judge of natural-language assertions failed."""

    def __init__(self, message: str):
        super().__init__("judge", message)


class ScoreMismatch(AssertionError):
    """The live score is not tau2's: a bug, never input. The episode is masked, its detail names the fields."""


class LedgerError(AssertionError):
    """A token record would break invariant 1 or 2: a bug, never input."""
