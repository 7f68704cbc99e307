"""Rejection sampling: which attempts become training data, and why the others do not. Pure.

Successes are kept. A task without one gives its best attempt by strict partial score, if that is good enough: the
card's rule (reward >= 1.0, else the best partial >= 0.6). An attempt with a malformed call never qualifies: its record
names the unknown tool that tau2 answered for, not what the policy wrote. Nor does a conversation with a script on
either side: gold's agent speaks in signs, and its user has one sentence. Nor does one of an agent of somebody's own,
whose prompts are not in the record. A conversation that repeats another of its task counts once.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slime_tau2.data.held_out import COUNTED, NAMES
from slime_tau2.episode.users import END, GREETING, USER_TOOL
from slime_tau2.record import AttemptRecord
from slime_tau2.types import is_success

MIN_PARTIAL = 0.6


@dataclass
class Selection:
    """The records to train on, in order, and what became of all: {what: how many}."""

    records: list[AttemptRecord] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def select(
    records: Iterable[AttemptRecord],
    min_partial: float = MIN_PARTIAL,
    best: int | None = None,
    held: Mapping[tuple[str, str], str] | None = None,
) -> Selection:
    """Select from records of attempts (lines of attempts.jsonl).

    Args:
        min_partial: least partial score of a task's best attempt where none succeeded.
        best: at most so many successes per task, those with the fewest tool errors, then steps, first; None keeps all.
        held: {(domain, task id): split} of the tasks that must not be trained on (`held_out`).
    """
    counts = dict.fromkeys(
        (
            "attempts",
            *COUNTED,
            "ended by infrastructure",
            "of scripts",
            "of other agents",
            "malformed",
            "duplicates",
            "tasks",
            "tasks with a success",
            "tasks kept by partial score",
            "kept",
        ),
        0,
    )
    by_task: dict[tuple[str, str], list[AttemptRecord]] = defaultdict(list)
    seen: set[str] = set()
    for record in records:
        counts["attempts"] += 1
        key, conversation = (record["domain"], record["task_id"]), conversation_key(record)
        if held and key in held:
            counts[NAMES[held[key]]] = counts.get(NAMES[held[key]], 0) + 1
        elif record["reward"] is None:
            counts["ended by infrastructure"] += 1
        elif _scripted(record):
            counts["of scripts"] += 1
        elif "agent" in record:
            counts["of other agents"] += 1
        elif any(turn["malformed"] for turn in record.get("turns", ())):
            counts["malformed"] += 1
        elif conversation in seen:
            counts["duplicates"] += 1
        else:
            seen.add(conversation)
            by_task[key].append(record)
    out = Selection(counts=counts)
    for attempts in by_task.values():
        counts["tasks"] += 1
        won = [r for r in attempts if is_success(r["reward"])]
        if won:
            counts["tasks with a success"] += 1
            out.records += (
                won if best is None else sorted(won, key=lambda r: (r.get("tool_errors", 0), r.get("steps", 0)))[:best]
            )
            continue
        top = max(attempts, key=lambda r: r["partial"] or 0.0)  # an imported record has none
        if (top["partial"] or 0.0) >= min_partial:
            counts["tasks kept by partial score"] += 1
            out.records.append(top)
    counts["kept"] = len(out.records)
    return out


def _scripted(record: AttemptRecord) -> bool:
    """A script spoke for the agent or the user: no model writes what only they write."""
    for message in record.get("messages", ()):
        text = message.get("content") or ""
        if message["role"] == "user" and text == GREETING:
            return True
        if message["role"] == "assistant" and (END in text or USER_TOOL in text):
            return True
    return False


def why_none(counts: Mapping[str, int]) -> str:
    """Why nothing qualified, and what to do: from the counts of attempts, or of rows."""
    total = counts.get("attempts", counts.get("rows", 0))
    whole, left = f"all {total}" if total > 1 else "the one there", [k for k in CAUSES if counts.get(k)]
    if not total:
        return "there is nothing in it; sample first (`slime-tau2 eval`, `collect`), or name another file"
    if counts.get("tasks"):
        return (
            f"no attempt at {counts['tasks']} tasks succeeded, or had the partial score of --min-partial; "
            "sample more attempts, or lower it"
        )
    if len(left) == 1:
        return f"{whole} {CAUSES[left[0]]}"
    return "; ".join(f"{counts[k]} {CAUSES[k]}" for k in left)


CAUSES = {
    "of test tasks": "are of test tasks, which never train: sample with --split train",
    "of val tasks": "are of val tasks, which choose checkpoints: --split train+val trains on them too",
    "of held-out tasks": "are of held-out tasks of a task set, which never train: sample with --split train",
    "of unverified tasks": (
        "are of tasks that did not pass `slime-tau2 verify-tasks`: tau2_unverified: true (--set unverified=true, or "
        "--unverified) trains on them too"
    ),
    "ended by infrastructure": (
        "were ended by the infrastructure (see their `detail`): mend it and run the same `eval` or `collect` again"
    ),
    "of other agents": (
        "were played by an agent of one's own (tau2_agent), whose prompts are not in the record: train it by the "
        "hooks, from a model that knows our own agent's format"
    ),
    "of scripts": (
        "have a script for agent or user, whose words are no training data: sample a model, against "
        "--user llm or scripted"
    ),
    "malformed": "hold a call that could not be parsed: sample a better policy, or look at its chat template",
    "without an agent turn": "hold no word of an agent after the user's: is it the file that you mean?",
}
"""{count: what it says of attempts that do not qualify, and the way out}."""


def conversation_key(row: Mapping[str, Any]) -> str:
    """Equal for equal conversations at the same task: what was said and called, not when or by which id."""
    metadata = row.get("metadata") or row
    messages = [_content_and_calls(m) for m in row.get("messages", ()) if m["role"] != "system"]
    if not messages:
        return f"{id(row)}"
    key = json.dumps([metadata.get("domain"), metadata.get("task_id"), messages], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()


def _content_and_calls(message: Mapping[str, Any]) -> list[Any]:
    """[role, content, calls] of a message, in which a record's call and a row's (`function`) are alike."""
    calls = [call.get("function", call) for call in message.get("tool_calls") or []]
    return [message["role"], message.get("content"), [[call["name"], call["arguments"]] for call in calls]]
