"""How long nothing has come back: episodes in a row that ended without a score, and what ended the last.

Training (`hooks.liveness`) and evaluation (`evaluation.runner`) both end a run that meets nothing but failing servers.
They count alike, here, and differ in what they call too many: training in fetches of the data source, evaluation in
attempts and seconds. Two other guards are no twins of these. The local rollout loop bounds the rounds of one rollout,
also where every episode is scored and no group can teach. `evaluation.vigil` asks the servers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Silence:
    """The episodes since the last sign of life."""

    in_a_row: int = 0
    """How many have ended without a score."""
    detail: str = ""
    """What ended the last of them, as far as that is known."""
    began: float = 0.0
    """When the first of them ended, by the caller's clock."""

    def broken(self) -> None:
        """An episode was scored, or ended through no fault of the infrastructure."""
        self.in_a_row = 0

    def lasts(self, detail: str, now: float = 0.0) -> None:
        """The infrastructure ended an episode."""
        if self.in_a_row == 0:
            self.began = now
        self.in_a_row += 1
        self.detail = detail or self.detail
