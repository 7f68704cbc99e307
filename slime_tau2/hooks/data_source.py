"""`--data-source-path slime_tau2.hooks.data_source.Tau2DataSource`: tasks in, groups of samples out, nothing lost.

Groups that come back are served first, then those that `TaskOrder` names. `group_book` has the life of a group,
`rollout_states` the files. The state as of the end of a rollout: order, curriculum, counters, and the groups that are
neither trained nor dropped.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.errors import CheckpointError
from slime_tau2.hooks import advantages, eval_tasks
from slime_tau2.hooks.compat import Sample, throws_groups_away
from slime_tau2.hooks.filters import buffer_filter, keeps
from slime_tau2.hooks.group_book import GroupBook, key_of, spoiled, unfinished
from slime_tau2.hooks.group_factory import GroupFactory
from slime_tau2.hooks.liveness import Liveness
from slime_tau2.hooks.modes import ends_idle, fully_async
from slime_tau2.hooks.rollout_states import RolloutStates
from slime_tau2.hooks.samples import info
from slime_tau2.schedule.order import TaskOrder, training_tasks
from slime_tau2.types import is_success

STATE_VERSION = 2
_current: Tau2DataSource | None = None


def current() -> Tau2DataSource | None:
    """The process's data source, for the hooks that slime does not hand it to."""
    return _current


class Tau2DataSource:
    """slime's data-source interface. Locked: under fully-async rollout another thread ends a rollout
    while one serves.
    """

    def __init__(self, args: Any):
        global _current
        self.args, self.config = args, Tau2Config.from_args(args)
        advantages.check(args, self.config)
        self.group_size: int = getattr(args, "n_samples_per_prompt", 1)
        self.tasks = training_tasks(self.config)
        eval_tasks.check_training(self.config, self.tasks)
        eval_tasks.check_files(args, self.config, self.tasks)
        self.order = TaskOrder(self.config, self.tasks)
        self.factory = GroupFactory(self.order, self.group_size)
        self.groups = GroupBook(self.group_size)
        self.liveness = Liveness(args, self.group_size)
        self.metadata: dict[str, Any] = {"terminations": {}}
        self._lock = threading.RLock()
        save = getattr(args, "save", None)
        self._states = RolloutStates(save) if save else None
        _current = self

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def buffer(self) -> list[list[Sample]]:
        """Groups that came back and wait to be served again."""
        return self.groups.returned

    # --- serving
    # -------------------------------------------------------------------------------------------------------

    def get_samples(self, num_samples: int) -> list[list[Sample]]:
        """`num_samples` groups of `n_samples_per_prompt` fresh samples; returned groups first.

        Raises:
            PolicyError: fetch after fetch, not one episode came back scored; says what ended the last.
        """
        with self._lock:
            self.liveness.check(self.groups.out.values(), num_samples)
            groups = self._from_buffer(num_samples)
            groups += self.factory.fresh(num_samples - len(groups))
            self.groups.served(groups)
            return groups

    def _from_buffer(self, count: int) -> list[list[Sample]]:
        if not self.buffer or count <= 0:
            return []
        return buffer_filter(self.args, None, self.buffer, count)

    # --- what becomes of what was served
    # ---------------------------------------------------------------------------------

    def add_samples(self, samples: list[list[Sample]]) -> None:
        """Take groups back from slime, to be served again; their finished episodes stay as they are."""
        self._take_back(samples, anew=False)

    def reclaim(self, finished: list[list[Sample]]) -> int:
        """Take back what a synchronous rollout spoiled or cut off, to begin anew; returns how many groups.

        At its end slime aborts what is in flight and, without `--partial-rollout`, throws it away; with it, slime hands
        it back itself. `finished` are the groups that ended before.
        """
        with self._lock:
            ended = {key_of(g) for g in finished}
            back = [g for g in finished if spoiled(g)]
            if not getattr(self.args, "partial_rollout", False):
                back += [g for k, g in self.groups.out.items() if k not in ended and unfinished(g)]
            self._take_back(back, anew=True)
            return len(back)

    def _take_back(self, groups: list[list[Sample]], anew: bool) -> None:
        with self._lock:
            for group in groups:
                self.liveness.came_back(group)
                self.groups.take_back(group, anew)

    def end_rollout(self, samples: list[Sample], rollout_id: int | None = None) -> None:
        """A rollout is over and `samples` are what trains: closes their groups, tells the curriculum, settles what is
        left.

        Idempotent: every hook that sees a rollout end calls it. The one that knows `rollout_id` has the state written.
        """
        with self._lock:
            trained: dict[int, list[Sample]] = {}
            for s in samples:
                if s.group_index is not None:
                    trained.setdefault(s.group_index, []).append(s)
            for key, group in trained.items():
                self._close(key, group)
            if ends_idle(self.args):
                for group in self.groups.settle(lambda g: keeps(self.args, g)):
                    self._close(key_of(group), group)
            elif rollout_id is not None and fully_async(self.args) and throws_groups_away():
                self.groups.take_back_thrown_away()
            state = self.state_dict() if rollout_id is not None and self._states is not None else None
        if state is not None:  # the disk is not waited for under the lock
            self._states.write(rollout_id, state)  # type: ignore[union-attr, arg-type]

    def _close(self, key: int, group: list[Sample]) -> None:
        if not self.groups.close(key):
            return
        for s in group:
            ended = info(s).get("termination", "unknown")
            self.metadata["terminations"][ended] = self.metadata["terminations"].get(ended, 0) + 1
            if not s.remove_sample:
                self.liveness.scored()
                self.order.observe(
                    f"{s.metadata.get('domain')}/{s.metadata.get('task_id')}",
                    is_success(s.reward),
                    "prefix" in s.metadata,
                )

    # --- state
    # ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to serve each group once: JSON, a copy."""
        with self._lock:
            own = {"version": STATE_VERSION, "returned": self.groups.state(), "metadata": copy.deepcopy(self.metadata)}
            return self.order.state_dict() | self.factory.state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`, of this version or of the one before.

        Raises:
            CheckpointError: it is no such state.
        """
        with self._lock:
            try:
                if state.get("version", 1) > STATE_VERSION:
                    raise ValueError(
                        f"it is of version {state['version']}, and this slime_tau2 reads up to {STATE_VERSION}"
                    )
                self.order.load_state_dict(state)
                self.factory.load_state_dict(state)
                groups, metadata = self.factory.again(state["returned"]), copy.deepcopy(state["metadata"])
                if not isinstance(metadata["terminations"], dict):
                    raise TypeError(f"terminations is {metadata['terminations']!r}, and no table of counts")
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"the data source's state cannot be used: {type(error).__name__}: {error}"
                ) from error
            self.groups, self.metadata = GroupBook(self.group_size), metadata
            for group in groups:
                self.groups.take_back(group, anew=False)

    def save(self, rollout_id: int) -> None:
        """A checkpoint of this rollout exists: keep the state as it was when the rollout ended.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self._states is None or self._states.keep(rollout_id):
            return
        with (
            self._lock
        ):  # no hook of ours saw the rollout end: what has finished has trained, or slime's filter dropped it
            self.end_rollout([s for g in self.groups.out.values() if not unfinished(g) for s in g])
            self._states.write(rollout_id, self.state_dict())
        self._states.keep(rollout_id)

    def load(self, rollout_id: int | None = None) -> None:
        """Restore the state as of the end of `rollout_id` from `args.load`; without it the newest older one, or a fresh
        start.

        Raises:
            CheckpointError: the file is damaged, or of a later version.
        """
        directory = getattr(self.args, "load", None)
        if directory is None or rollout_id is None or rollout_id < 0:
            return
        RolloutStates(directory).restore(rollout_id, self.load_state_dict)
