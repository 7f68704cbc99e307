"""The splits of a domain: tau2's own, and those that we make of them: `train`, `val`, `train+val`, `extra`.

`val` is a fifth of tau2's train tasks, for whoever watches a training or chooses a checkpoint; `train` is the rest,
`train+val` tau2's own. A task is in `val` by the sha256 of "domain/task id", so that no seed and no order decides.
Three things about the rule:

* The fifth with the smallest hashes, not every task whose hash is below a fifth: with 30 tasks that is anything from 2
  to 10 (2 in airline). A task added to a domain moves at most the boundary: about one task for five added changes
  sides.
* Tasks that are alike go together, by the hash of the first: the same caller (what the user knows) in the same world
  (its data, its faults), or, where the world is the domain's own database, solutions that touch the same user, order or
  reservation. Retail has up to five tasks about the same orders; one of them in training would tell of the others.
* A group that would overshoot the fifth is passed over, so that the counts are exact.

Families are not balanced: helpdesk's 150 are 52 orders, 47 refunds and 51 phones. `extra` is for training too: it holds
no task that begins as a test or val task does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

TRAIN, VAL, TEST, WHOLE, EXTRA = "train", "val", "test", "train+val", "extra"
SHARE = 0.2
RECORDS = ("user_id", "order_id", "reservation_id")


def complete(name: str, splits: Mapping[str, list[str]], tasks: Mapping[str, Any]) -> dict[str, list[str]]:
    """{split: task ids} of a domain with ours among them, in tau2's order. A domain that names a `val` of its own keeps
    it.

    Args:
        splits: as tau2 has them.
        tasks: {id: task} of the whole domain.
    """
    out = {name: [t for t in ids if t in tasks] for name, ids in splits.items()}
    own = out.get(TRAIN)
    if own is not None:
        val = set(out[VAL]) if VAL in out else _chosen(name, own, tasks)
        out[WHOLE] = [*own, *(t for t in out.get(VAL, ()) if t not in own)]
        out |= {TRAIN: [t for t in own if t not in val], VAL: [t for t in out[WHOLE] if t in val]}
        if not val:  # a train of one task, or of tasks that are all alike
            del out[VAL]
    extra = _extra(out, tasks)
    return {**out, EXTRA: extra} if extra else out


def _chosen(domain: str, ids: list[str], tasks: Mapping[str, Any]) -> set[str]:
    val: set[str] = set()
    for group in sorted(
        _alike(ids, tasks), key=lambda group: hashlib.sha256(f"{domain}/{group[0]}".encode()).hexdigest()
    ):
        if len(val) + len(group) <= max(1, round(SHARE * len(ids))) < len(ids):
            val.update(group)
    return val


def _alike(ids: list[str], tasks: Mapping[str, Any]) -> list[list[str]]:
    """Groups of tasks that share a mark with another of the group, each in the order of `ids`."""
    order = {t: n for n, t in enumerate(ids)}
    by_mark: dict[str, str] = {}
    group_of: dict[str, list[str]] = {}
    for task_id in ids:
        group = group_of[task_id] = [task_id]
        for mark in _marks(tasks[task_id]):
            other = group_of[by_mark.setdefault(mark, task_id)]
            if other is not group:
                other += group
                group_of |= dict.fromkeys(group, other)
                group = other
    return [sorted(g, key=order.__getitem__) for g in {id(g): g for g in group_of.values()}.values()]


def _marks(task: Any) -> set[str]:
    """What a task is about; tasks that share one are alike. A task that says nothing of its user is alike no other."""
    known, state = getattr(getattr(task.user_scenario, "instructions", None), "known_info", None), task.initial_state
    data = state.initialization_data.model_dump(mode="json") if state and state.initialization_data else None
    faults = sorted(map(repr, fault_set(task)))
    marks = {json.dumps([known or task.id, data, faults], sort_keys=True)}
    if data is None and not faults:
        actions = (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []
        marks |= {f"{name} {value}" for a in actions for name, value in a.arguments.items() if name in RECORDS}
    return marks


def _extra(splits: Mapping[str, Collection[str]], tasks: Mapping[str, Any]) -> list[str]:
    """The tasks outside `base` that do not begin as a test or val task does, for whatever complaint of
    whatever user.
    """
    base = set(splits.get("base", ()))
    outside = [t for t in tasks if t not in base] if base else []
    held = {fault_set(tasks[t]) for name in (TEST, VAL) for t in splits.get(name, ())} if outside else set()
    return [t for t in outside if fault_set(tasks[t]) not in held]


def fault_set(task: Any) -> frozenset[tuple]:
    """What is done to a task's environment before the conversation, in any order."""
    actions = (task.initial_state.initialization_actions if task.initial_state else None) or []
    return frozenset((str(a.env_type), a.func_name, json.dumps(a.arguments, sort_keys=True)) for a in actions)
