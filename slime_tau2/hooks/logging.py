"""The name that `hooks.metrics` had up to version 0.2, for configurations of slime that still give it."""

from slime_tau2.hooks.metrics import log_eval, log_rollout

__all__ = ["log_eval", "log_rollout"]
