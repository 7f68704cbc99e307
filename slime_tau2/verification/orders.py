"""Check 7: does the reward depend on the order of a list that a write is given, though nothing else does?

tau2 compares whole databases, lists in order. Where a list in another order leaves a database that differs in nothing
but the order of lists, an agent that did the right thing is told that it did not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.environments import Environments
from slime_tau2.verification.plays import Made, Play, Scene, Step
from slime_tau2.verification.variations import leaves


def reordered(call: Step) -> Iterator[tuple[tuple[str, ...], Made]]:
    """(arguments, the call with these lists turned round): each list alone, and those of one length together."""
    lists = {name: value for name, value in call.arguments.items() if _turns(value)}
    groups: list[tuple[str, ...]] = [(name,) for name in lists]
    by_length = {n: tuple(name for name in lists if len(lists[name]) == n) for n in map(len, lists.values())}
    groups += [names for names in by_length.values() if len(names) > 1]
    for names in groups:
        turned = {name: list(reversed(lists[name])) for name in names}
        yield names, Made(call.name, {**call.arguments, **turned}, call.requestor)


def _turns(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and list(reversed(value)) != value


def order_only(
    scene: Scene, calls: Sequence[Step], writes: Sequence[int], words: Sequence[str]
) -> dict[int, tuple[str, ...]]:
    """{number of a gold call: lists whose order alone decides}, before it is asked what fixes the order."""
    found: dict[int, tuple[str, ...]] = {}
    gold: Play | None = None
    for number in writes:
        for names, other in reordered(calls[number]):
            changed = [*calls[:number], other, *calls[number + 1 :]]
            played = scene.play(changed, words)
            if float(scene.grade(played).reward) == 1.0:
                continue
            if gold is None:
                gold = scene.play(calls, words)
            if alike(scene.stage.environments, gold, played):
                found[number] = (*found.get(number, ()), *(n for n in names if n not in found.get(number, ())))
    return found


def alike(environments: Environments, one: Play, other: Play) -> bool:
    """Whether two plays differ in nothing but the order of lists."""
    states = environments.state(one.environment), environments.state(other.environment)
    if isinstance(states[0], tuple) or isinstance(states[1], tuple):
        return _dump(one.environment) == _dump(other.environment)
    return environments.same(states[0], states[1], unordered_row)


def _dump(environment: bench.Environment) -> str:
    kits = [kit for kit in (environment.tools, environment.user_tools) if kit is not None and kit.db is not None]
    return json.dumps([unordered(kit.db.model_dump(mode="json")) for kit in kits], sort_keys=True)


def unordered_row(row: str | None) -> str | None:
    """A row's normal form, whatever the order of its lists."""
    return None if row is None else json.dumps(unordered(json.loads(row)), sort_keys=True)


def unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: unordered(part) for key, part in value.items()}
    if isinstance(value, list):
        return sorted((unordered(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    return value


def fixed_by(value: Sequence[Any], text: str) -> str:
    """What fixes the order of a list: "dates" of an itinerary, the "scenario", which says its items in this order; ""
    for nothing.
    """
    dates = [part["date"] for part in value if isinstance(part, dict) and "date" in part]
    if len(dates) == len(value) and dates == sorted(dates):
        return "dates"
    places = [_place(part, text) for part in value]
    if all(place >= 0 for place in places) and all(a < b for a, b in itertools.pairwise(places)):
        return "scenario"
    return ""


def _place(part: Any, text: str) -> int:
    """Where a scenario first names an item of a list: the last of its scalars' places, -1 where one is not there."""
    lowered = text.lower()
    places = [lowered.find(str(leaf).lower()) for _, leaf in leaves(part)]
    named = [place for place in places if place >= 0]
    return max(named) if named and len(named) * 2 >= len(places) else -1
