"""`--data-source-path slime_tau2.hooks.data_source.Tau2DataSource`: tasks in, groups of samples out, nothing lost.

Groups that come back (aborted, or ended by infrastructure) are served first, then those that `TaskOrder` names. The whole state is
one JSON file a rollout id: order, curriculum, counters, and the tasks of returned groups (slime's own buffer does not survive a
restart; this one does).
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.episode import worlds
from slime_tau2.errors import CheckpointError, PolicyError
from slime_tau2.hooks import advantages
from slime_tau2.hooks.compat import Sample, info
from slime_tau2.hooks.task_order import TaskOrder
from slime_tau2.types import TaskRef, is_success

MOST_SPOILED_FETCHES = 8
"""Fetches without one scored episode before it must be the servers, or the configuration."""
_current: Tau2DataSource | None = None


def current() -> Tau2DataSource | None:
    """The process's data source, for the hooks that slime does not hand it to."""
    return _current


class Tau2DataSource:
    """slime's data-source interface. Locked: under fully-async rollout another thread saves while one serves."""

    def __init__(self, args: Any):
        global _current
        self.args, self.config = args, Tau2Config.from_args(args)
        advantages.check(args, self.config)
        self.group_size: int = getattr(args, "n_samples_per_prompt", 1)
        tasks = [
            TaskRef(domain, task_id)
            for domain in self.config.domains
            for task_id in worlds.load(domain, self.config.retail_basis).task_ids(self.config.split)
        ]
        self.tasks = {str(t): t for t in tasks}
        self.order = TaskOrder(self.config, list(self.tasks))
        self.next_group, self.next_index = 0, 0
        self.buffer: list[list[Sample]] = []
        self._out: dict[int, list[Sample]] = {}  # groups that are being generated
        self.metadata: dict[str, Any] = {"terminations": {}}
        self._observed: set[int] = set()
        self._lock = threading.RLock()
        _current = self

    def __len__(self) -> int:
        return len(self.tasks)

    # --- serving -------------------------------------------------------------------------------------------------------

    def get_samples(self, num_samples: int) -> list[list[Sample]]:
        """`num_samples` groups of `n_samples_per_prompt` fresh samples; returned groups first.

        Raises:
            PolicyError: fetch after fetch, not one episode came back scored; says what ended the last.
        """
        with self._lock:
            self._check_alive(num_samples)
            groups = self._from_buffer(num_samples)
            groups += [self._group(self.tasks[key]) for key in self.order.draw(num_samples - len(groups))]
            self._out |= {g[0].group_index: g for g in groups}  # type: ignore[misc]
            return groups

    def _check_alive(self, num_samples: int) -> None:
        """slime fetches another group for each one that its filter drops, for ever: end that where nothing comes back scored."""
        ended = [s for g in self._out.values() for s in g if info(s)]
        if len(ended) < MOST_SPOILED_FETCHES * max(1, num_samples) * self.group_size or not all(s.remove_sample for s in ended):
            return
        detail = info(ended[-1]).get("detail") or "no detail"
        raise PolicyError(f"all of the last {len(ended)} episodes were ended by the infrastructure, the last by: {detail}")

    def _from_buffer(self, count: int) -> list[list[Sample]]:
        if not self.buffer or count <= 0:
            return []
        from slime_tau2.hooks.filters import buffer_filter

        taken = buffer_filter(self.args, None, self.buffer, count)
        for sample in (s for g in taken for s in g if s.status is Sample.Status.ABORTED):
            sample.metadata.pop("tau2", None)  # of the try that was cut off
        return taken

    def _group(self, task: TaskRef) -> list[Sample]:
        group, prefix = [], self.order.prefix(str(task), self.next_group)
        metadata = {"domain": task.domain, "task_id": task.task_id, **({} if prefix is None else {"prefix": prefix})}
        for _ in range(self.group_size):
            group.append(Sample(group_index=self.next_group, index=self.next_index, prompt=str(task), metadata={**metadata}))
            self.next_index += 1
        self.next_group += 1
        return group

    def add_samples(self, samples: list[list[Sample]]) -> None:
        """Take groups back to be served again."""
        with self._lock:
            for group in samples:
                if len(group) != self.group_size:
                    raise ValueError(f"a returned group has {len(group)} samples, not {self.group_size}")
                self._out.pop(group[0].group_index, None)  # type: ignore[arg-type]
                self.buffer.append(group)

    def reclaim(self, finished: list[list[Sample]]) -> int:
        """Take back the groups that a rollout left unfinished; returns how many.

        At the end of a synchronous rollout slime aborts what is in flight and, without `--partial-rollout`, throws it away.
        `finished` are the groups that it did not abort.
        """
        with self._lock:
            done = {g[0].group_index for g in finished}
            cut = [g for k, g in self._out.items() if k not in done and any(s.status is Sample.Status.ABORTED for s in g)]
            self._out = {k: g for k, g in self._out.items() if k in done}  # for `observe`: most of them the filter drops
            self.add_samples(cut)
            return len(cut)

    def observe(self, samples: list[Sample]) -> None:
        """Feedback for the curriculum; idempotent a sample index.

        `samples` are those that train. Groups that the dynamic filter dropped are not among them, and those say most about what is solved
        or hopeless: they are found among what was served.
        """
        with self._lock:
            over = (Sample.Status.COMPLETED, Sample.Status.TRUNCATED, Sample.Status.FAILED)
            finished = [s for g in self._out.values() for s in g if info(s) and s.status in over]
            for s in [*samples, *finished]:
                if s.index is None or s.index in self._observed:
                    continue
                self._observed.add(s.index)
                ended = info(s).get("termination", "unknown")
                self.metadata["terminations"][ended] = self.metadata["terminations"].get(ended, 0) + 1
                key = f"{s.metadata.get('domain')}/{s.metadata.get('task_id')}"
                if not s.remove_sample and key in self.tasks and "prefix" not in s.metadata:
                    self.order.curriculum.observe(key, int(is_success(s.reward)), 1)
            seen = {s.group_index for s in samples}
            unfinished = {k: g for k, g in self._out.items() if any(s.status is Sample.Status.PENDING for s in g)}
            self._out = {k: g for k, g in unfinished.items() if k not in seen}

    # --- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        with self._lock:
            # what is being generated now (train_async, fully-async) will not be in the checkpoint's weights: a resumed run serves it again
            waiting = [*self.buffer, *(g for g in self._out.values() if any(s.status is Sample.Status.PENDING for s in g))]
            returned = [f"{g[0].metadata['domain']}/{g[0].metadata['task_id']}" for g in waiting]
            return {
                **self.order.state_dict(), "next_group": self.next_group, "next_index": self.next_index,
                "returned": returned, "metadata": self.metadata,
            }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with self._lock:
            self.order.load_state_dict(state)
            self.next_group, self.next_index = state["next_group"], state["next_index"]
            self.metadata = state["metadata"]
            self.buffer = [self._group(self.tasks[key]) for key in state["returned"] if key in self.tasks]

    def _path(self, directory: str, rollout_id: int) -> Path:
        return Path(directory) / "rollout" / f"tau2_data_source_{rollout_id}.json"

    def save(self, rollout_id: int) -> None:
        """Write the state beside slime's checkpoint (`args.save`), whole or not at all."""
        path = self._path(self.args.save, rollout_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = path.with_suffix(".part")
            staging.write_text(json.dumps(self.state_dict()), encoding="utf-8")
            os.replace(staging, path)
        except OSError as error:
            raise CheckpointError(f"cannot save the data source to {path}: {error.strerror}; the previous state is untouched") from error

    def load(self, rollout_id: int | None = None) -> None:
        """Restore the state that `save(rollout_id)` wrote under `args.load`; a fresh start where there is none."""
        directory = getattr(self.args, "load", None)
        if directory is None or rollout_id is None or rollout_id < 0:
            return
        path = self._path(directory, rollout_id)
        if not path.exists():
            raise CheckpointError(f"{path} is absent: the checkpoint of rollout {rollout_id} has no data-source state; load another one")
        try:
            self.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is corrupt ({error}); load another checkpoint") from error
