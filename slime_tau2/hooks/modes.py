"""Which of slime's rollouts runs, as far as the life of a group depends on it."""

from __future__ import annotations

from typing import Any

SYNCHRONOUS = "slime.rollout.sglang_rollout.generate_rollout"


def ends_idle(args: Any) -> bool:
    """Whether nothing is in flight when a rollout ends: slime's default rollout, under train_async.py and
    --partial-rollout too.
    """
    return getattr(args, "rollout_function_path", SYNCHRONOUS) == SYNCHRONOUS


def fully_async(args: Any) -> bool:
    """Whether slime's fully-async worker asks for groups, from a thread of its own."""
    return "fully_async" in (getattr(args, "rollout_function_path", None) or "")
