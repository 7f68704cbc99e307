"""What a page says of tasks: the request in a few words, what the user is told, the solution, the agent's policy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from typing_extensions import TypedDict

from slime_tau2 import bench
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.evaluation import failures
from slime_tau2.record import AttemptRecord, CallRecord

FEW = 120
"""Characters of a request in a list."""
TOLD = {
    "reason_for_call": "why it calls",
    "known_info": "what it knows",
    "unknown_info": "what it does not know",
    "task_instructions": "how it behaves",
}
"""{field of the user's instructions: what a reader calls it}."""


class TaskText(TypedDict):
    """A task as a reader sees it."""

    user: list[tuple[str, str]]
    """(name, text) of what the user simulator is told."""
    purpose: list[tuple[str, str]]
    """(name, text) of what nobody in the conversation sees: what the task is for, its ticket."""
    solution: list[str]
    """The calls of the solution, in order."""


class DomainTexts(TypedDict):
    """The tasks of a domain that a page shows."""

    policy: str
    tasks: dict[str, TaskText]


@cache
def world(domain: str) -> World | None:
    """The world of a domain or task set; None where it is not on this machine: its runs are still worth reading."""
    try:
        return worlds.load(domain, retrieval=bench.LEAST_RETRIEVAL)
    except (BenchDataError, ConfigError):
        return None


def task_of(record: AttemptRecord) -> bench.Task | None:
    """The task that a record is about; None where it is not the one that the record was scored on."""
    here = world(record["domain"])
    if here is None or here.tasks_sha256 != record["tasks_sha256"]:
        return None
    return here.tasks.get(record["task_id"])


def request(record: AttemptRecord) -> str:
    """What the user wants, in a few words: as the task has it, else the user's first words."""
    task = task_of(record)
    if task is not None:
        instructions = task.user_scenario.instructions
        wants = instructions if isinstance(instructions, str) else instructions.reason_for_call
    else:
        wants = next((m.get("content") or "" for m in record["messages"] if m["role"] == "user"), "")
    words = " ".join(wants.split())
    return words if len(words) <= FEW else words[: FEW - 1] + "…"


def texts(domain: str, tasks: Sequence[bench.Task]) -> DomainTexts:
    """What a page says of a domain and its tasks; nothing of a domain that is not here."""
    here = world(domain)
    return {"policy": here.policy if here else "", "tasks": {task.id: _text(task) for task in tasks}}


def _text(task: bench.Task) -> TaskText:
    criteria, scenario = task.evaluation_criteria, task.user_scenario
    told: list[tuple[str, Any]] = [("persona", scenario.persona)]
    if isinstance(scenario.instructions, str):
        told.append(("instructions", scenario.instructions))
    else:
        told += [(name, getattr(scenario.instructions, field)) for field, name in TOLD.items()]
    description = task.description
    about = [("purpose", description.purpose), ("notes", description.notes)] if description else []
    return {
        "user": _said(told),
        "purpose": _said([*about, ("ticket", task.ticket)]),
        "solution": [_called(action) for action in (criteria.actions if criteria else None) or []],
    }


def _said(pairs: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(name, str(text).strip()) for name, text in pairs if text and str(text).strip()]


def _called(action: bench.Action) -> str:
    call: CallRecord = {"name": action.name, "arguments": action.arguments, "requestor": action.requestor}
    line = failures.called(call)
    return f"the user: {line}" if action.requestor == "user" else line
