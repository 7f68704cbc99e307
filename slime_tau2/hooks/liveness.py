"""Does anything come back scored? A run whose servers are gone must end with the reason, not fetch groups for ever.

slime fetches another group for each one that comes to nothing. So every fetch asks here first, and eight fetches in a
row without one scored episode end the run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

from slime_tau2.errors import PolicyError
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.modes import fully_async
from slime_tau2.hooks.samples import info
from slime_tau2.terminations import Disposition, Termination

log = logging.getLogger(__name__)
MOST_SPOILED_FETCHES = 8
"""Fetches without one scored episode before it must be the servers, or the configuration."""


class Liveness:
    """Counts the episodes in a row that infrastructure ended, over the groups that came back and those that are still
    out.
    """

    def __init__(self, args: Any, group_size: int):
        self.args, self.group_size = args, group_size
        self._in_a_row = 0
        self._detail = ""

    def came_back(self, group: list[Sample]) -> None:
        """A group is served again; call it before what its episodes left is cleared."""
        ends = [(Termination(info(s)["termination"]), info(s).get("detail", "")) for s in group if info(s)]
        if any(e.disposition is not Disposition.RETRY for e, _ in ends):
            self._in_a_row = 0
        for end, detail in ends:
            aborted = end is Termination.ABORTED  # by slime itself: that says nothing
            if end.disposition is Disposition.RETRY and not aborted:
                self._in_a_row, self._detail = self._in_a_row + 1, detail or self._detail

    def scored(self) -> None:
        """An episode was scored."""
        self._in_a_row = 0

    def check(self, out: Iterable[list[Sample]], num_samples: int) -> None:
        """`out` are the groups that were served and not settled yet, `num_samples` how many groups are asked for.

        Raises:
            PolicyError: fetch after fetch, not one episode came back scored; says what ended the last. Under
                fully-async rollout the process ends instead: slime's loop there would log the error and ask again every
                second, for ever.
        """
        ended = [s for g in out for s in g if info(s)]
        fetch = max(1, num_samples, getattr(self.args, "rollout_batch_size", None) or 0)
        count = self._in_a_row + len(ended)
        if (
            not count
            or count < MOST_SPOILED_FETCHES * fetch * self.group_size
            or not all(s.remove_sample for s in ended)
        ):
            return
        detail = next((d for s in reversed(ended) if (d := info(s).get("detail"))), self._detail) or "no detail"
        error = PolicyError(f"all of the last {count} episodes were ended by the infrastructure, the last by: {detail}")
        if fully_async(self.args):
            log.critical("%s", error)
            os._exit(1)
        raise error
