"""Scripted policies: the expert's gold calls and the degenerate agents that every score is compared with."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from slime_tau2 import bench
from slime_tau2.episode.users import END, USER_TOOL
from slime_tau2.errors import ConfigError

Script: TypeAlias = list[bench.AssistantMessage]


def _say(text: str) -> bench.AssistantMessage:
    return bench.AssistantMessage(role="assistant", content=text, cost=0.0)


def _call(name: str, arguments: dict[str, Any]) -> bench.AssistantMessage:
    call = bench.ToolCall(name=name, arguments=copy.deepcopy(arguments))
    return bench.AssistantMessage(role="assistant", content=None, tool_calls=[call], cost=0.0)


def gold(task: bench.Task) -> Script:
    """Every gold call in order, the user's by asking for them, then everything that must be said."""
    criteria = task.evaluation_criteria
    script: Script = []
    for action in (criteria.actions if criteria else None) or []:
        if action.requestor == "user":
            script.append(_say(USER_TOOL + json.dumps({"name": action.name, "arguments": action.arguments})))
        else:
            script.append(_call(action.name, action.arguments))
    must_be_said = "; ".join((criteria.communicate_info if criteria else None) or [])
    return [*script, _say(f"All done. {must_be_said} {END}")]


def noop(task: bench.Task) -> Script:
    """One refusal."""
    return [_say(f"Sorry, I cannot help with that. {END}")]


def transfer(task: bench.Task) -> Script:
    """A transfer to a human, nothing else."""
    return [
        _call("transfer_to_human_agents", {"summary": "the user needs help"}),
        _say(f"Sorry, you are transferred. {END}"),
    ]


def empty_arguments(task: bench.Task) -> Script:
    """Each gold tool once, with no arguments: what tau2's own action check rewards in full."""
    actions = (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []
    names = dict.fromkeys(a.name for a in actions if a.requestor == "assistant")
    return [*(_call(name, {}) for name in list(names)[:9]), *noop(task)]


SCRIPTS: dict[str, Callable[[bench.Task], Script]] = {
    "gold": gold,
    "noop": noop,
    "transfer-only": transfer,
    "empty-arguments": empty_arguments,
}


def script(name: str, task: bench.Task) -> Script:
    """The messages of a scripted policy for a task."""
    if name not in SCRIPTS:
        raise ConfigError(f"unknown scripted policy {name!r}; known: {', '.join(SCRIPTS)}")
    return SCRIPTS[name](task)
