"""Does anything come back scored? A run whose servers are gone must end with the reason, not fetch groups for ever.

slime fetches another group for each one that comes to nothing. So every fetch asks here first, and eight fetches in a
row without one scored episode end the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from slime_tau2.errors import PolicyError
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.modes import end_run
from slime_tau2.hooks.samples import ended, info
from slime_tau2.silence import Silence
from slime_tau2.terminations import Disposition, Termination

MAX_SPOILED_FETCHES = 8
"""Fetches without one scored episode before it must be the servers, or the configuration."""


class Liveness:
    """Counts the episodes in a row that infrastructure ended, over the groups that came back and those still out."""

    def __init__(self, args: object, group_size: int):
        self.args = args
        self.group_size = group_size
        self._silence = Silence()

    def came_back(self, group: list[Sample]) -> None:
        """A group is served again; call it before what its episodes left is cleared."""
        endings = [(termination, info(s).get("detail", "")) for s in group if (termination := ended(s)) is not None]
        if any(termination.disposition is not Disposition.RETRY for termination, _ in endings):
            self._silence.broken()
        for termination, detail in endings:
            aborted = termination is Termination.ABORTED  # by slime itself: that says nothing
            if termination.disposition is Disposition.RETRY and not aborted:
                self._silence.lasts(detail)

    def scored(self) -> None:
        """An episode was scored."""
        self._silence.broken()

    def check(self, out: Iterable[list[Sample]], num_samples: int) -> None:
        """Ends the run where, fetch after fetch, not one episode came back scored.

        Args:
            out: the groups that were served and are not settled yet.
            num_samples: how many groups are asked for.

        Raises:
            PolicyError: it is so; says what ended the last (`modes.end_run` raises it).
        """
        waiting = [s for group in out for s in group if info(s)]
        if not all(s.remove_sample for s in waiting):
            return
        count = self._silence.in_a_row + len(waiting)
        fetch = max(1, num_samples, option(self.args, "rollout_batch_size", None) or 0)
        if count == 0 or count < MAX_SPOILED_FETCHES * fetch * self.group_size:
            return
        details = [info(s).get("detail") for s in reversed(waiting)]
        detail = next(filter(None, details), self._silence.detail) or "no detail"
        reason = f"all of the last {count} episodes were ended by the infrastructure, the last by: {detail}"
        end_run(self.args, PolicyError(reason))
