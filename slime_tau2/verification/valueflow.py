"""Check 5: where does each value of a gold write come from?

What the user is told flows through the reads to the writes. A value is known if the scenario says it, if a gold call
before the write has returned it, or if a reading tool returns it when it is given what is known. Choices that the
policy or a tool's schema enumerates are known to the agent; that the scenario does not settle one is worth a note.
Numbers may be computed: counts, sums, differences and products of known ones.
"""

from __future__ import annotations

import calendar
import datetime
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.verification.plays import Scene, Step, tool_call
from slime_tau2.verification.variations import TOKEN, Path, leaves, name_of, shape

MOST_CALLS = 6000
"""Reads of our own in one search."""
PER_TOOL = 600
"""Of them, for each tool in each round."""
WIDEST = 14
"""Values per parameter in that search."""
LONG = 8
"""Lists from this length on are looked through for what the user speaks of, and not taken whole."""
SMALL = 10
"""Numbers up to this are counts, which anybody can make."""
MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
DAY = re.compile(
    r"\b([a-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?\b|\b(\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?([a-z]{3,9})\b"
)
ISO = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
FULL_NAME = re.compile(r"\b[A-Z][\w'-]+ [A-Z][\w'-]+")
NUMBER = re.compile(r"\d[\d,]*\.?\d*")


@dataclass(frozen=True, kw_only=True)
class Sourced:
    """Where one value comes from.

    Attributes:
        call: number of the gold call.
        argument: which argument, as `payment_methods[].amount`.
        value: as text.
        source: "told", "read", "search" (a read that gold does not make), "choice" (of the policy or the schema; nobody
            says which), "computed", "" for nowhere.
        number: whether the value is one.
    """

    call: int
    argument: str
    value: str
    source: str
    number: bool


class Known:
    """Texts, and whether a value can be told from them."""

    def __init__(self, *texts: str):
        self.text = ""
        self._words: set[str] = set()
        self._numbers: set[float] = set()
        self._dates: set[tuple[int, int]] = set()
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """One more text."""
        lowered = text.lower()
        self.text += "\n" + lowered
        self._words.update(_words(lowered))
        self._numbers.update(_numbers(lowered))
        self._dates.update(_days(lowered))

    def has(self, value: Any) -> bool:
        """Whether a value is in the texts, as it is or as people write it."""
        if isinstance(value, bool):
            return True
        if isinstance(value, (int, float)):
            return float(value) in self._numbers
        text = str(value).strip().lower()
        if not text:
            return True
        if day := ISO.fullmatch(text):
            return text in self.text or (int(day[2]), int(day[3])) in self._dates
        if text.isalpha():
            return text in self._words
        if text in self.text or text.replace("_", " ") in self.text or text.replace("_", "-") in self.text:
            return True
        words = _words(text)
        return bool(words) and all(word in self._words for word in words)

    def near(self, value: str) -> bool:
        """Whether a date is the day before or after a known one."""
        return bool(ISO.fullmatch(value)) and any(self.has(day) for day in _beside(value))

    def days(self, year: int) -> list[str]:
        """The known dates, in ISO, of a year for those without one."""
        return [f"{year}-{month:02}-{day:02}" for month, day in sorted(self._dates) if _valid(year, month, day)]

    def computed(self, value: float) -> bool:
        """Whether a number can be made of known ones: a count, or a sum, difference or product of two."""
        if abs(value) <= SMALL and float(value).is_integer():
            return True
        numbers = [n for n in self._numbers if n]
        close = {round(n, 2) for n in numbers}
        for n in numbers:
            if round(value - n, 2) in close or round(value + n, 2) in close or round(n - value, 2) in close:
                return True
            ratio = value / n
            if ratio in close or (ratio.is_integer() and 0 < ratio <= SMALL):
                return True
        return False


def _valid(year: int, month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]


def _beside(day: str) -> list[str]:
    """The days before and after one."""
    year, month, number = map(int, day.split("-"))
    if not _valid(year, month, number):
        return []
    one = datetime.date(year, month, number)
    return [(one + datetime.timedelta(days=n)).isoformat() for n in (-1, 1)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text)


def _numbers(text: str) -> Iterator[float]:
    for number in NUMBER.findall(text):
        try:
            yield float(number.rstrip(".,").replace(",", ""))
        except ValueError:
            continue


def _days(text: str) -> Iterator[tuple[int, int]]:
    for match in DAY.finditer(text):
        month, day = (match[1], match[2]) if match[1] else (match[4], match[3])
        if month in MONTHS:
            yield MONTHS[month], int(day)
    for match in ISO.finditer(text):
        yield int(match[2]), int(match[3])


def told(task: bench.Task) -> str:
    """All that a task tells its user, and the agent beside the policy: scenario, ticket, earlier messages."""
    instructions = task.user_scenario.instructions
    if isinstance(instructions, str):
        parts = [instructions]
    else:
        said = instructions.model_dump(mode="json")
        parts = [str(value) for key, value in said.items() if value and key != "domain"]
    history = (task.initial_state.message_history or []) if task.initial_state else []
    spoken = [message.content or "" for message in history]
    return "\n".join(filter(None, [task.user_scenario.persona, *parts, task.ticket, *spoken]))


class Reader:
    """The reading tools of a domain, and what fits their parameters.

    Args:
        tasks: whose gold calls show what a parameter looks like; the database's fields of the same name do so too.
    """

    def __init__(self, world: World, tasks: Iterable[bench.Task]):
        functions = [schema["function"] for schema in world.tool_schemas]
        stages = list(world.stages.values())
        tool_types = stages[0].grader.tool_types
        self.choices = choices(world)
        self.parameters: dict[str, tuple[str, ...]] = {}
        for function in functions:
            required = tuple(function.get("parameters", {}).get("required", ()))
            kind = tool_types.get(function["name"])
            if kind == bench.ToolType.READ and function["name"] not in world.writes and len(required) <= 3:
                self.parameters[function["name"]] = required
        self.shapes: dict[str, set[str]] = {}
        for task in tasks:
            for action in (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []:
                for path, value in leaves(action.arguments):
                    if isinstance(value, str):
                        self.shapes.setdefault(_last_name(path), set()).add(shape(value))
        for stage in stages:
            for name, value in _fields(stage.environments.base):
                self.shapes.setdefault(name, set()).add(shape(value))
        self.policy = Known(world.policy)
        years = [int(day[1]) for day in ISO.finditer(world.policy)]
        self.year = max(years, default=datetime.date.today().year)

    def search(self, environment: bench.Environment, spoken: Known, texts: Sequence[str]) -> Iterator[str]:
        """What the reading tools return of what is known, round by round.

        Args:
            spoken: what the user can say; of long lists only what it speaks of is read on.
            texts: what is known, the scenario first.
        """
        done: set[str] = set()
        texts = list(texts)
        for _ in range(5):
            fresh: list[str] = []
            for name, arguments in self._calls(texts, spoken):
                key = json.dumps([name, arguments])
                if key in done:
                    continue
                if len(done) == MOST_CALLS:
                    return
                done.add(key)
                result = environment.get_response(bench.ToolCall(id="0", name=name, arguments=arguments))
                if not result.error and result.content:
                    fresh.append(_spoken_of(result.content, spoken))
                    yield result.content
            if not fresh:
                return
            texts += fresh

    def _calls(self, texts: Sequence[str], spoken: Known) -> Iterator[tuple[str, dict[str, str]]]:
        days = [day for text in texts for day in Known(text).days(self.year)]
        beside = [other for day in days for other in _beside(day)]
        full_names = itertools.chain.from_iterable(map(FULL_NAME.findall, texts))
        tokens = [*full_names, *itertools.chain.from_iterable(map(TOKEN.findall, texts)), *days, *beside]
        by_shape: dict[str, list[str]] = {}
        for token in dict.fromkeys(tokens):
            by_shape.setdefault(shape(token), []).append(token)
        for tool, names in sorted(self.parameters.items(), key=lambda item: len(item[1])):
            pools = [[t for kind in sorted(self.shapes.get(n, ())) for t in by_shape.get(kind, ())] for n in names]
            widest = WIDEST if len(names) > 1 else MOST_CALLS
            for values in itertools.islice(itertools.product(*(pool[:widest] for pool in pools)), PER_TOOL):
                if len(set(values)) == len(values):
                    yield tool, dict(zip(names, values, strict=True))


def _last_name(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _fields(environment: bench.Environment) -> Iterator[tuple[str, str]]:
    """(field, value) of each text that a row of the agent's database has."""
    database = environment.tools.db
    for table in type(database).model_fields if database is not None else ():
        rows = getattr(database, table)
        for row in rows.values() if isinstance(rows, dict) else rows if isinstance(rows, list) else ():
            for name in getattr(type(row), "model_fields", ()):
                value = getattr(row, name)
                if isinstance(value, str):
                    yield name, value


def _spoken_of(content: str, spoken: Known) -> str:
    """A result, of a long list only the entries that hold a word of the user's."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    if isinstance(value, list) and len(value) >= LONG:
        return json.dumps([part for part in value if _mentioned(part, spoken)])
    if isinstance(value, dict) and len(value) >= LONG and all(isinstance(part, str) for part in value.values()):
        return json.dumps({key: part for key, part in value.items() if _mentioned([key, part], spoken)})
    return content


def _mentioned(value: Any, spoken: Known) -> bool:
    return any(isinstance(leaf, str) and len(leaf) > 2 and leaf.lower() in spoken.text for _, leaf in leaves(value))


def choices(world: World) -> frozenset[str]:
    """What the schemas of a world's tools enumerate, in small letters."""
    schemas = (schema["function"].get("parameters", {}) for schema in world.tool_schemas)
    return frozenset(str(choice).lower() for schema in schemas for choice in _choices(schema))


def _choices(schema: Any) -> Iterator[Any]:
    if isinstance(schema, Mapping):
        yield from schema.get("enum", ()) if isinstance(schema.get("enum"), list) else ()
        if "const" in schema:
            yield schema["const"]
        for part in schema.values():
            yield from _choices(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _choices(part)


def sources(scene: Scene, calls: Sequence[Step], writes: Sequence[int], reader: Reader) -> list[Sourced]:
    """Where each value of the gold writes comes from, in their order."""
    story = told(scene.task)
    texts = [story]
    spoken = Known(story)
    read = Known()
    environment = scene.start()
    searched: Known | None = None
    found: list[Sourced] = []
    for number, call in enumerate(calls):
        if number in writes:
            for path, value in leaves(dict(call.arguments)):
                source = _source(value, spoken, read, reader, call.requestor == "user")
                if not source:
                    if searched is None:
                        searched = Known(*reader.search(scene.start(), spoken, texts))
                    source = _searched(value, spoken, searched)
                found.append(
                    Sourced(
                        call=number,
                        argument=name_of(path),
                        value=str(value),
                        source=source,
                        number=isinstance(value, (int, float)),
                    )
                )
        result = environment.get_response(tool_call(call))
        if not result.error and result.content:
            read.add(result.content)
            texts.append(result.content)
            searched = None
    return found


def _source(value: Any, spoken: Known, read: Known, reader: Reader, by_user: bool) -> str:
    if value is None or spoken.has(value):
        return "told"
    if read.has(value):
        return "read"
    if isinstance(value, (int, float)):
        return "computed" if Known(spoken.text, read.text).computed(value) else ""
    text = str(value).lower()
    if spoken.near(text) or read.near(text):
        return "computed"
    if text in reader.choices or (re.fullmatch(r"[a-z _-]+", text) and reader.policy.has(text)):
        return "choice"
    return "choice" if by_user and reader.policy.has(text) else ""


def _searched(value: Any, spoken: Known, searched: Known) -> str:
    if searched.has(value):
        return "search"
    if isinstance(value, (int, float)):
        return "computed" if Known(spoken.text, searched.text).computed(value) else ""
    return "computed" if searched.near(str(value)) else ""
