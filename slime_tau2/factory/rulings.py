"""The rules of a policy evaluated anew on a finished task: from its database, its calls and its scenario.

What a family found of the rules when it made a task stands in the task's notes. Nothing of that is believed here but
whom the task is about: each write is judged in its place by the predicates of the domain's policy. Rules about what the
user wants or agrees to cannot be judged so: no call shows it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.factory import factories
from slime_tau2.factory.case import Case, Write
from slime_tau2.factory.rules import Finding
from slime_tau2.verification.plays import Scene, Step, tool_call
from slime_tau2.verification.valueflow import told


def supported(domain: str) -> bool:
    """Whether a domain's rules can be evaluated."""
    try:
        return factories.of(domain).ruling is not None
    except ConfigError:
        return False


def of(world: World, task: bench.Task, calls: Sequence[Step], *, owner: str) -> dict[int, list[Finding]]:
    """{number of a write: what was found of each rule that it touches}.

    A write that fails has none: it does nothing. One that no rule speaks of has an empty list.

    Args:
        calls: gold's, or those of any other conversation in the task.
        owner: whom the task is about, as the domain's factory knows owners.
    """
    ruling = factories.of(world.domain).ruling
    assert ruling is not None, "the caller has asked whether the domain is supported"
    scene = Scene(world.stage(task), task)
    begun, ahead = (_case(world, owner, scene.start()) for _ in range(2))
    case = _case(world, owner, scene.start())
    found: dict[int, list[Finding]] = {}
    story = told(task)
    for number, call in enumerate(calls):
        made = tool_call(call, number)
        fails = ahead.environment.get_response(made).error
        if call.name in world.writes and not fails:
            write = Write(case=case, begun=begun, calls=calls, number=number, story=story)
            found[number] = list(ruling(write))
        case.environment.get_response(made)
    return found


def _case(world: World, owner: str, environment: bench.Environment) -> Case:
    return Case(world, owner, random.Random(0), environment=environment)
