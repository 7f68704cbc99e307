"""The splits of a domain: tau2's own, and those that we add: `train`, `val`, `train+val`, `extra`.

`val` is a fifth of tau2's train tasks, for watching a training and choosing a checkpoint. `train` is the rest, and
`train+val` is what tau2 calls train. Which tasks are in `val` follows from the sha256 of "domain/task id" alone, so no
seed and no order of tasks decides. The rule has three parts:

* The fifth with the smallest hashes is taken, not every task whose hash is below a fifth: of 30 tasks the latter takes
  anything from 2 to 10 (2 in airline). When tasks are added to a domain, only the boundary moves: for five added
  tasks, about one task changes sides.
* Tasks that are alike go to the same side; the hash of the first decides. Two tasks are alike if they have the same
  caller (what the user knows) in the same situation (its data, its faults). Where the situation is the domain's own
  database, they are also alike if their solutions touch the same record (`Traits.records` has the arguments that name
  one): retail has up to five tasks about the same orders, and one of them in training would give the others away.
* A group that would exceed the fifth is passed over, so that the counts are exact.

Families are not balanced: of helpdesk's 150 val tasks 52 are orders, 47 refunds and 51 phones.

`extra` holds tasks outside tau2's `base` split. They may train, for none of them begins as a test or val task does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence

from slime_tau2 import traits
from slime_tau2.bench import Task
from slime_tau2.errors import BenchDataError

TRAIN = "train"
VAL = "val"
TEST = "test"
WHOLE = "train+val"
EXTRA = "extra"
BASE = "base"
"""All tasks of a task set; in a domain, those of the benchmark."""
HELD_OUT = "held-out"
"""A task set's own test tasks."""
SHARE = 0.2
"""`val`'s share of tau2's train tasks."""
Fault = tuple[str, str, str]
"""(whose environment, function, its arguments as JSON)"""


def complete(
    name: str, splits: Mapping[str, list[str]], tasks: Mapping[str, Task], domain: str = ""
) -> dict[str, list[str]]:
    """{split: task ids} with ours among them, in tau2's order. Where `splits` has a `val`, it is kept.

    Args:
        name: of the world; part of what is hashed.
        splits: as tau2 has them.
        tasks: {id: task} of the whole world.
        domain: the world's, whose traits count; `name` if empty.
    """
    records = traits.of(domain or name).records
    out = {split: [t for t in ids if t in tasks] for split, ids in splits.items()}
    theirs = out.get(TRAIN)
    if theirs is not None:
        val = set(out[VAL]) if VAL in out else _chosen(name, theirs, tasks, records)
        out[WHOLE] = [*theirs, *(t for t in out.get(VAL, ()) if t not in theirs)]
        out[TRAIN] = [t for t in theirs if t not in val]
        out[VAL] = [t for t in out[WHOLE] if t in val]
        if not val:  # a train of one task, or of tasks that are all alike
            del out[VAL]
    extra = _extra(out, tasks)
    return {**out, EXTRA: extra} if extra else out


def task_ids(known: Mapping[str, list[str]], split: str, name: str) -> list[str]:
    """The ids of one of the known splits of the world `name`.

    Raises:
        BenchDataError: there is no such split; names those that there are.
    """
    if split not in known:
        use = ": use --split base (under slime tau2_split: base)" if set(known) == {BASE} else ""
        raise BenchDataError(f"unknown split {split!r} of {name}; it has: {', '.join(known)}{use}")
    return list(known[split])


def _chosen(name: str, ids: Sequence[str], tasks: Mapping[str, Task], records: Collection[str]) -> set[str]:
    """The ids for `val`; none where there is but one task."""
    most = max(1, round(SHARE * len(ids)))
    val: set[str] = set()
    if most >= len(ids):
        return val

    def by_hash(group: list[str]) -> str:
        return hashlib.sha256(f"{name}/{group[0]}".encode()).hexdigest()

    for group in sorted(_groups_alike(ids, tasks, records), key=by_hash):
        if len(val) + len(group) <= most:
            val.update(group)
    return val


def _groups_alike(ids: Sequence[str], tasks: Mapping[str, Task], records: Collection[str]) -> list[list[str]]:
    """Groups of tasks, each of which shares a mark with another of its group, in the order of `ids`."""
    order = {task_id: n for n, task_id in enumerate(ids)}
    first_with: dict[str, str] = {}  # {mark: the first task that has it}
    group_of: dict[str, list[str]] = {}
    for task_id in ids:
        group = [task_id]
        group_of[task_id] = group
        for mark in _marks(tasks[task_id], records):
            other = group_of[first_with.setdefault(mark, task_id)]
            if other is not group:  # the two groups become one
                other += group
                group_of |= dict.fromkeys(group, other)
                group = other
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group, key=order.__getitem__) for group in groups.values()]


def _marks(task: Task, records: Collection[str]) -> set[str]:
    """What a task is about; tasks that share a mark are alike. A task whose user knows nothing is alike no other."""
    known = getattr(task.user_scenario.instructions, "known_info", None)
    state = task.initial_state
    data = state.initialization_data.model_dump(mode="json") if state and state.initialization_data else None
    faults = sorted(map(repr, fault_set(task)))
    marks = {json.dumps([known or task.id, data, faults], sort_keys=True)}
    if data is None and not faults:
        criteria = task.evaluation_criteria
        for action in (criteria.actions if criteria else None) or []:
            marks |= {f"{name} {value}" for name, value in action.arguments.items() if name in records}
    return marks


def _extra(splits: Mapping[str, Collection[str]], tasks: Mapping[str, Task]) -> list[str]:
    """The tasks outside `base` that do not begin as a test or val task does, whoever the user and its complaint."""
    base = set(splits.get("base", ()))
    outside = [t for t in tasks if t not in base] if base else []
    if not outside:
        return []
    held = {fault_set(tasks[t]) for split in (TEST, VAL) for t in splits.get(split, ())}
    return [t for t in outside if fault_set(tasks[t]) not in held]


def fault_set(task: Task) -> frozenset[Fault]:
    """What is done to a task's environment before the conversation, in any order."""
    actions = (task.initial_state.initialization_actions if task.initial_state else None) or []
    return frozenset((str(a.env_type), a.func_name, json.dumps(a.arguments, sort_keys=True)) for a in actions)
