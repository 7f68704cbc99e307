"""The data source of this process, for the hooks that slime does not hand it to.

slime makes one data source per job, in the rollout manager, where `generate`, the reward hooks and the log hooks run
too; but only the all-samples hook is told of it. So a data source of ours registers itself here when it is made. The
last one made counts. Without one (slime's own, or somebody else's) there is nothing to close and no curriculum to tell,
and every hook does without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from slime_tau2.hooks.compat import Sample


class DataSource(Protocol):
    """What the hooks ask of a data source of ours."""

    @property
    def tasks(self) -> Collection[str]:
        """The names (`domain/task_id`) of the tasks that train."""

    def end_rollout(self, samples: list[Sample], rollout_id: int | None = None) -> None:
        """A rollout is over and `samples` are what trains."""

    def progress(self) -> Mapping[str, float]:
        """What is logged of the order of tasks."""


_source: DataSource | None = None


def register(source: DataSource | None) -> None:
    """Make `source` this process's; None for none."""
    global _source
    _source = source


def data_source() -> DataSource | None:
    """This process's data source; None where none of ours was made."""
    return _source
