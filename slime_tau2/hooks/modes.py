"""Which of slime's rollouts runs: what that means for the life of a group, and how an error ends the run."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from slime_tau2.hooks.arguments import option

log = logging.getLogger(__name__)
SYNCHRONOUS = "slime.rollout.sglang_rollout.generate_rollout"


def ends_idle(args: object) -> bool:
    """Whether nothing is in flight when a rollout ends: slime's default rollout, under train_async.py and
    --partial-rollout too.
    """
    return option(args, "rollout_function_path", SYNCHRONOUS) == SYNCHRONOUS


def fully_async(args: object) -> bool:
    """Whether slime's fully-async worker asks for groups, from a thread of its own."""
    return "fully_async" in (option(args, "rollout_function_path", None) or "")


def end_run(args: object, error: Exception) -> NoReturn:
    """End the run with an error that no further sample would mend.

    It is raised, and slime's rollouts let it through. Only the fully-async worker logs what it catches and asks for the
    next group, for ever; under it the rollout process ends itself instead.
    """
    if fully_async(args):
        log.critical("%s", error, exc_info=error)
        os._exit(1)
    raise error
