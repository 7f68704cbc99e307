"""`--data-source-path slime_tau2.hooks.data_source.Tau2DataSource`: tasks in, groups of samples out, nothing lost.

Groups that came back are served first, then those that `TaskOrder` names. `group_book` has the life of a group,
`rollout_states` the files. The state as of the end of a rollout: order, curriculum, counters, and the groups that are
neither trained nor dropped.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any, TypedDict

from slime_tau2.config import Tau2Config
from slime_tau2.dumps.format import ServedRow
from slime_tau2.errors import CheckpointError
from slime_tau2.hooks import advantages, current, eval_tasks
from slime_tau2.hooks.arguments import option
from slime_tau2.hooks.compat import Sample, throws_groups_away
from slime_tau2.hooks.fan_out import first_samples
from slime_tau2.hooks.filters import buffer_filter, keeps
from slime_tau2.hooks.generate import prefetch
from slime_tau2.hooks.group_book import CUT_OFF, SPOILED, THROWN_AWAY, GroupBook, key_of, spoiled, unfinished
from slime_tau2.hooks.group_factory import GroupFactory
from slime_tau2.hooks.group_story import story
from slime_tau2.hooks.liveness import Liveness
from slime_tau2.hooks.modes import ends_idle, fully_async
from slime_tau2.hooks.rollout_states import RolloutStates
from slime_tau2.hooks.samples import flatten, info, task_name, task_reward
from slime_tau2.schedule.order import TaskOrder, training_tasks
from slime_tau2.types import is_success

STATE_VERSION = 2
RESUMED = "the run was resumed"
"""Why a group is served again that did not come back in this process."""


class Metadata(TypedDict):
    """What the data source counts over the whole training."""

    terminations: dict[str, int]
    """How the episodes of closed groups ended: {value of a `Termination`: how many}."""


class Tau2DataSource:
    """slime's data-source interface.

    Locked: under fully-async rollout another thread ends a rollout while one serves.
    """

    def __init__(self, args: object):
        """Load the tasks, and register as this process's data source (`hooks.current`).

        Raises:
            UserError: options, domains or evaluation data that will not do.
        """
        self.args = args
        self.config = Tau2Config.from_args(args)
        advantages.check(args, self.config)
        self.group_size: int = option(args, "n_samples_per_prompt", 1)
        self.tasks = training_tasks(self.config)
        eval_tasks.check_training(self.config, self.tasks)
        eval_tasks.check_files(args, self.config, self.tasks)
        self.order = TaskOrder(self.config, self.tasks)
        self.factory = GroupFactory(self.order, self.group_size)
        self.groups = GroupBook(self.group_size)
        self.liveness = Liveness(args, self.group_size)
        self.metadata: Metadata = {"terminations": {}}
        self._lock = threading.RLock()
        save: str | None = option(args, "save", None)
        self._states = RolloutStates(save) if save else None
        current.register(self)
        story.begin()

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def buffer(self) -> list[list[Sample]]:
        """Groups that came back and wait to be served again."""
        return self.groups.returned

    # Serving

    def get_samples(self, num_samples: int) -> list[list[Sample]]:
        """`num_samples` groups of `n_samples_per_prompt` samples each; returned groups first, then fresh ones.

        Raises:
            PolicyError: fetch after fetch, not one episode came back scored; says what ended the last.
        """
        with self._lock:
            self.liveness.check(self.groups.out.values(), num_samples)
            groups = self._from_buffer(num_samples)
            why: list[ServedRow] = [ServedRow(by="returned", after=RESUMED) for _ in groups]
            groups += self.factory.fresh(num_samples - len(groups))
            why += [self.order.reasons[task_name(group[0])] for group in groups[len(why) :]]
            self.groups.served(groups)
            story.served(zip(groups, why))
        prefetch((group[0] for group in groups if group), self.args)
        return groups

    def _from_buffer(self, count: int) -> list[list[Sample]]:
        if not self.buffer or count <= 0:
            return []
        return buffer_filter(self.args, None, self.buffer, count)

    # What becomes of the groups that were served

    def add_samples(self, samples: list[list[Sample]]) -> None:
        """Take groups back from slime, to be served again; their finished episodes stay as they are, unless one is
        several samples, which slime would not take again.
        """
        for group in samples:
            anew = any(isinstance(element, list) for element in group)
            self._take_back([first_samples(flatten(group))], anew=anew, why="slime handed it back")

    def reclaim(self, finished: list[list[Sample]]) -> int:
        """Take back what a synchronous rollout spoiled or cut off, to begin anew; returns how many groups.

        At its end slime aborts what is in flight. Without `--partial-rollout` it throws that away; with it, it hands it
        back itself. `finished` are the groups that ended before.
        """
        with self._lock:
            groups = [group for group in finished if spoiled(group)]
            self._take_back(groups, anew=True, why=SPOILED)
            if option(self.args, "partial_rollout", False):
                return len(groups)
            ended = {key_of(group) for group in finished}
            cut_off = [g for key, g in self.groups.out.items() if key not in ended and unfinished(g)]
            self._take_back(cut_off, anew=True, why=CUT_OFF)
            return len(groups) + len(cut_off)

    def _take_back(self, groups: list[list[Sample]], anew: bool, why: str) -> None:
        with self._lock:
            for group in groups:
                self.liveness.came_back(group)
                self.groups.take_back(group, anew)
                story.became(group, "returned", why)

    def end_rollout(self, samples: list[Sample], rollout_id: int | None = None) -> None:
        """A rollout is over and `samples` are what trains.

        Closes their groups, tells the curriculum, settles what is left. Every hook that sees a rollout end calls it;
        doing so again changes nothing. The hook that knows `rollout_id` has the state written.
        """
        with self._lock:
            trained: dict[int, list[Sample]] = {}
            for s in samples:
                if s.group_index is not None:
                    trained.setdefault(s.group_index, []).append(s)
            for key, group in trained.items():
                self._close(key, group, "trained")
            if ends_idle(self.args):
                settled = self.groups.settle(lambda g: keeps(self.args, g))
                for group, why in settled.returned:
                    story.became(group, "returned", why)
                for group in settled.dropped:
                    self._close(key_of(group), group, "dropped")
            elif rollout_id is not None and fully_async(self.args) and throws_groups_away():
                for group in self.groups.take_back_thrown_away():
                    story.became(group, "returned", THROWN_AWAY)
            if rollout_id is None or self._states is None:
                return
            states, state = self._states, self.state_dict()
        states.write(rollout_id, state)  # outside the lock: nobody waits for the disk

    def _close(self, key: int, group: list[Sample], fate: str) -> None:
        """Count a group and tell the curriculum, unless it was closed before."""
        if not self.groups.close(key):
            return
        story.became(group, fate)
        counts = self.metadata["terminations"]
        group = first_samples(group)
        for s in group:
            termination = info(s).get("termination", "unknown")
            counts[termination] = counts.get(termination, 0) + 1
        scored = [s for s in group if not s.remove_sample]
        if scored:
            self.liveness.scored()
            successes = sum(is_success(task_reward(s)) for s in scored)
            self.order.observe(task_name(group[0]), successes, len(scored), eased="prefix" in group[0].metadata)

    # What is logged

    def progress(self) -> dict[str, float]:
        """What is logged of the order: tasks per pool of the curriculum, and passes over the tasks."""
        with self._lock:
            pools = self.order.curriculum.pools(list(self.tasks))
            figures = {f"curriculum/{pool}": float(size) for pool, size in pools.items()}
            return {**figures, "epoch": float(self.order.epoch)}

    # State

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to serve each group once: JSON, a copy."""
        with self._lock:
            return {
                **self.order.state_dict(),
                **self.factory.state_dict(),
                "version": STATE_VERSION,
                "returned": self.groups.state(),
                "metadata": copy.deepcopy(self.metadata),
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`, of this version or of the one before.

        Raises:
            CheckpointError: it is no such state.
        """
        with self._lock:
            try:
                self._load(state)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"the data source's state cannot be used: {type(error).__name__}: {error}"
                ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        if state.get("version", 1) > STATE_VERSION:
            raise ValueError(f"it is of version {state['version']}, and this slime_tau2 reads up to {STATE_VERSION}")
        self.order.load_state_dict(state)
        self.factory.load_state_dict(state)
        groups = self.factory.again(state["returned"])
        metadata: Metadata = copy.deepcopy(state["metadata"])
        if not isinstance(metadata["terminations"], dict):
            raise TypeError(f"terminations is {metadata['terminations']!r}, and no table of counts")
        self.groups = GroupBook(self.group_size)
        self.metadata = metadata
        for group in groups:
            self.groups.take_back(group, anew=False)

    def save(self, rollout_id: int) -> None:
        """A checkpoint of this rollout exists: keep the state as it was when the rollout ended.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self._states is None or self._states.keep(rollout_id):
            return
        with self._lock:
            # no hook of ours saw the rollout end: what has finished has trained, or slime's filter dropped it
            self.end_rollout([s for g in self.groups.out.values() if not unfinished(g) for s in g])
            self._states.write(rollout_id, self.state_dict())
        self._states.keep(rollout_id)

    def load(self, rollout_id: int | None = None) -> None:
        """Restore the state as of the end of `rollout_id` from `args.load`; without that state the newest older one,
        or a fresh start.

        Raises:
            CheckpointError: the file is damaged, or of a later version.
        """
        directory: str | None = option(self.args, "load", None)
        if directory is None or rollout_id is None or rollout_id < 0:
            return
        RolloutStates(directory).restore(rollout_id, self.load_state_dict)
