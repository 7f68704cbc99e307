"""A second opinion on made tasks, from their drafts: `verification` judges a task by what is written in it alone.

Each function plays calls on environments of the world and has the world's grader score them. None needs the network.
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.factory.case import set_up
from slime_tau2.factory.draft import Call, Draft
from slime_tau2.verification.plays import reward
from slime_tau2.verification.variations import altered, leaves


def do_nothing(world: World, task: bench.Task) -> float:
    """The reward of an agent that makes no call and says nothing of substance."""
    return reward(world, task, (), ("Is there anything else?",))


def gold(world: World, task: bench.Task, draft: Draft) -> float:
    """The reward of the gold calls, with what has to be told."""
    return reward(world, task, draft.calls(), draft.tells())


Alternatives = Callable[[Call, str], Iterable[Any]]


def variations(calls: Sequence[Call], alternatives: Alternatives | None = None) -> Iterator[tuple[str, list[Call]]]:
    """(what is different, calls) for the gold calls without each write in turn, with each write twice, with each
    argument of a write changed.

    Args:
        alternatives: other values of a call's argument that are valid in the domain; a value that is not, if None.
    """
    for number, call in enumerate(calls):
        if not call.write:
            continue
        before, after = list(calls[:number]), list(calls[number + 1 :])
        yield f"without {call.name}", [*before, *after]
        yield f"{call.name} twice", [*before, call, call, *after]
        for name, value in call.arguments.items():
            if name in call.free:
                continue
            for other in alternatives(call, name) if alternatives else (altered(value),):
                changed = replace(call, arguments={**call.arguments, name: other})
                yield f"{call.name} with {name} {other!r}", [*before, changed, *after]


def harmless(world: World, draft: Draft, write: Call) -> bool:
    """Whether a write may be made twice: the second time it fails, or changes nothing."""
    environment = world.environments.fresh()
    set_up(environment, draft.wishes, draft.scene)
    for call in draft.calls():
        _try(environment, call)
        if call is write:
            break
    before = world.environments.state(environment)
    _try(environment, write)
    return world.environments.same(before, world.environments.state(environment))


def _try(environment: bench.Environment, call: Call) -> Any:
    try:
        arguments = json.loads(json.dumps(dict(call.arguments)))
        result = environment.make_tool_call(tool_name=call.name, requestor=call.requestor, **arguments)
        environment.sync_tools()
        return result
    except Exception:
        return None


def unknowable(world: World, draft: Draft, story: str) -> list[str]:
    """Values in gold writes that neither the story says nor a gold call before them has returned. Words may be in the
    policy too, and so may whatever the user writes with tools of the user's own: the agent has read it.

    Args:
        story: all that the user model reads.
    """
    environment = world.environments.fresh()
    set_up(environment, draft.wishes, draft.scene)
    known, missing = story, list[str]()
    for call in draft.calls():
        if call.write:
            values = [
                str(v) for name, value in call.arguments.items() if name not in call.free for _, v in leaves(value)
            ]
            for value in values:
                by_policy = call.requestor == "user" or value.replace(" ", "").isalpha()
                if not _said(value, known) and not (by_policy and value in world.policy):
                    missing.append(f"{call.name}: {value}")
        result = _try(environment, call)
        known += "\n" + json.dumps(result, default=_plain, ensure_ascii=False)
    return missing


def _said(value: str, known: str) -> bool:
    """Whether a value is in a text, as it is or as people write it: "one-way" for "one_way", "May 20" for a date."""
    spellings = [value, value.replace("_", "-"), value.replace("_", " ")]
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        spellings.append(f"{calendar.month_name[int(value[5:7])]} {int(value[8:])}")
    return any(spelling in known for spelling in spellings)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
