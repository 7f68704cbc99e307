"""Check 3's attempts: the gold calls with one write left out, made twice, or with one value of one argument changed.

Another value is of the right type, and an existing one where that is possible: what other tasks' gold calls have in the
same place, what this task's reads return under the same shape. A value that exists nowhere comes last.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from slime_tau2 import bench
from slime_tau2.verification.plays import Made, Step

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands within a call's arguments."""
MOST_LEAVES = 16
"""Values of one argument that are changed, at most; a long list is changed at its beginning."""
OTHERS = 2
"""Existing values that are tried in the place of each."""
TOKEN = re.compile(r"[#\w][\w.@+#-]*\w|\w")


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One attempt.

    Attributes:
        kind: what was done to the write.
        write: its place among the gold calls.
        argument: which of its arguments is another, as `payment_methods[].amount`; "" unless changed.
        calls: all calls to be made.
        text: the difference in words.
    """

    kind: Literal["dropped", "doubled", "changed"]
    write: int
    argument: str
    calls: Sequence[Step]
    text: str


class Values:
    """The values that exist: by their place in gold calls of all tasks, by their shape."""

    def __init__(self, tasks: Iterator[bench.Task] | Sequence[bench.Task]):
        self._by_place: dict[tuple[str, str], dict[str, Any]] = {}
        for task in tasks:
            for action in (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []:
                for path, value in leaves(action.arguments):
                    place = self._by_place.setdefault((action.name, name_of(path)), {})
                    if len(place) < 500:
                        place[repr(value)] = value

    def others(self, tool: str, path: Path, value: Any, results: Mapping[str, Sequence[str]]) -> list[Any]:
        """Values to put in the place of one: of its type, none of them equal to it.

        Args:
            results: {shape: what this task's reads returned of it}.
        """
        found: list[Any] = []
        if isinstance(value, str):
            found += [other for other in results.get(shape(value), ()) if other != value][:1]
        known = [v for v in self._by_place.get((tool, name_of(path)), {}).values() if type(v) is type(value)]
        if known:
            offset = sum(map(ord, repr(value))) % len(known)
            rotated = known[offset:] + known[:offset]
            found += [other for other in rotated[:8] if other != value and other not in found][: OTHERS - len(found)]
        return [*found, altered(value)] if len(found) < OTHERS else found


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, scalar) of all that is in a call's arguments."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from leaves(part, (*path, number))
    else:
        yield path, value


def name_of(path: Path) -> str:
    """A path in words, whatever the place within a list: `passengers[].dob`."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += "[]"
        else:
            out += f".{part}" if out else part
    return out


def replaced(value: Any, path: Path, other: Any) -> Any:
    """A copy of a value with another at a path."""
    if not path:
        return other
    first, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        return {key: replaced(part, rest, other) if key == first else part for key, part in value.items()}
    return [replaced(part, rest, other) if number == first else part for number, part in enumerate(value)]


def altered(value: Any) -> Any:
    """Another value of the same type, which may exist nowhere."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"{value}1"
    if isinstance(value, list):
        return [*value[:-1], altered(value[-1])] if value else ["1"]
    if isinstance(value, dict):
        return {key: altered(part) for key, part in value.items()}
    return "1"


def shape(text: str) -> str:
    """What a value looks like: its digits and capitals one by one, its small letters run by run."""
    return re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "9", text)))


def by_shape(texts: Sequence[str]) -> dict[str, list[str]]:
    """{shape: the tokens of it}, of what reads returned: only those that hold a digit."""
    found: dict[str, dict[str, None]] = {}
    for token in itertools.chain.from_iterable(map(TOKEN.findall, texts)):
        if any(map(str.isdigit, token)):
            found.setdefault(shape(token), {})[token] = None
    return {key: list(tokens) for key, tokens in found.items()}


def variations(
    calls: Sequence[Step], writes: Sequence[int], values: Values, results: Mapping[str, Sequence[str]]
) -> Iterator[Variation]:
    """All attempts at the writes of a task.

    Args:
        calls: the gold calls.
        writes: places of the writes among them.
        values: what exists in the set.
        results: {shape: what this task's reads returned of it}.
    """
    for number in writes:
        call = calls[number]
        before, after = calls[:number], calls[number + 1 :]
        once = [*before, *after]
        yield Variation(kind="dropped", write=number, argument="", calls=once, text=f"without {call.name}")
        twice = [*before, call, call, *after]
        yield Variation(kind="doubled", write=number, argument="", calls=twice, text=f"{call.name} twice")
        for path, other in _changes(call, values, results):
            changed = Made(call.name, replaced(dict(call.arguments), path, other), call.requestor)
            name = name_of(path)
            text = f"{call.name} with {name} {json.dumps(other, ensure_ascii=False, default=str)}"
            yield Variation(kind="changed", write=number, argument=name, calls=[*before, changed, *after], text=text)


def _changes(call: Step, values: Values, results: Mapping[str, Sequence[str]]) -> Iterator[tuple[Path, Any]]:
    for name, value in call.arguments.items():
        found = list(leaves(value, (name,)))
        for path, leaf in found[:MOST_LEAVES]:
            for other in values.others(call.name, path, leaf, results):
                yield path, other
        if isinstance(value, list) and len(value) > 1:
            yield (name,), value[:-1]
