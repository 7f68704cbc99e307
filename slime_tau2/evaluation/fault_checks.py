"""What can be proven of a failed conversation: that its user, its agent or its reference was at fault.

Each check is a function of a `Conversation`. It finds nothing unless the record itself shows the fault: which message,
the words, and what the scenario or the solution has in their place. A value counts as the scenario's, or as heard, in
whatever way people write it; it counts as said only where it is said whole (`testimony`). So doubt accuses nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from slime_tau2 import bench
from slime_tau2.episode import user_errors
from slime_tau2.episode.worlds import World
from slime_tau2.evaluation import failures, testimony
from slime_tau2.evaluation.failures import MadeCall
from slime_tau2.record import AttemptRecord, CallRecord
from slime_tau2.terminations import Termination
from slime_tau2.verification import orders, valueflow
from slime_tau2.verification.plays import Made, Play, Scene
from slime_tau2.verification.valueflow import Known
from slime_tau2.verification.variations import TOKEN, leaves, name_of, shape

Party = Literal["user", "agent", "reference"]
SAID, LEFT_OUT, NOT_DONE, STOPPED = "said otherwise", "left out", "not done", "stopped early"
ORDER, RULE = "only the order", "a rule broken"
MADE_UP, OTHER_VALUE, UNREADABLE = "made up", "other than told", "unreadable"
KINDS: dict[str, tuple[Party, str]] = {
    SAID: ("user", "said what the scenario does not hold, and the agent used it"),
    LEFT_OUT: ("user", "never told what the scenario holds, though the agent asked or it is the user's to open with"),
    NOT_DONE: ("user", "was asked for an act of its own, said no more of it than words, and never did it"),
    STOPPED: ("user", "ended the conversation while the agent waited for an answer"),
    ORDER: ("reference", "the end state is the solution's but for the order of a list that nothing fixes"),
    RULE: ("reference", "the solution breaks a rule of the policy"),
    MADE_UP: ("agent", "wrote a value that nobody had given it"),
    OTHER_VALUE: ("agent", "wrote another value than the user had told it"),
    UNREADABLE: ("agent", "malformed calls or an empty turn ended it"),
}
"""{kind: (whose fault, what it is)}."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One proven fault.

    Attributes:
        kind: key of `KINDS`.
        message: index of the message that shows it; None where no message does.
        words: what was said or done there.
        held: what the scenario or the solution has instead, or what was asked for.
        mended: index of the message that put it right, so that the conversation did not fail by it.
    """

    kind: str
    message: int | None
    words: str
    held: str
    mended: int | None = None

    @property
    def party(self) -> Party:
        """Whose fault it is."""
        return KINDS[self.kind][0]

    @property
    def text(self) -> str:
        """All of it in a line."""
        where = "" if self.message is None else f"message {self.message}: "
        after = "" if self.mended is None else f"; put right in message {self.mended}"
        return f"{where}{self.words}; {self.held}{after}"


class Conversation:
    """A failed conversation with its task.

    Attributes:
        story: what the task tells its user.
        gold: the solution's calls.
        made: the calls that the attempt itself made.
        missed: the solution's calls that were not made, or failed.
        strange: successful writes of the attempt that the solution does not have.
    """

    def __init__(self, record: AttemptRecord, task: bench.Task, world: World):
        self.record, self.task, self.world = record, task, world
        self.messages = record["messages"]
        self.story_text = valueflow.told(task)
        self.story = Known(self.story_text)
        criteria = task.evaluation_criteria
        self.gold = [_call(action) for action in (criteria.actions if criteria else None) or []]
        calls = failures.calls_of(record)
        self.made = [call for call in calls if not call.before]
        self.missed, self.beyond = failures.difference(self.gold, [call for call in calls if not call.error])
        self.strange = [call for call in self.beyond if self.is_write(call.call) and not call.before]

    @cached_property
    def scene(self) -> Scene:
        return Scene(self.world.stage(self.task), self.task)

    @cached_property
    def gold_play(self) -> Play:
        """The solution, played."""
        return self.scene.play([_made(call) for call in self.gold])

    @cached_property
    def gold_results(self) -> list[str]:
        """What each of the solution's calls returns."""
        results = [m.content or "" for m in self.gold_play.messages if isinstance(m, bench.ToolMessage)]
        return results[len(results) - len(self.gold) :] if self.gold else []

    def is_write(self, call: CallRecord) -> bool:
        return call["name"] in self.world.writes

    def looks_or_writes(self, call: CallRecord) -> bool:
        """Whether a call does more than compute, think or hand over."""
        kinds = next(iter(self.world.stages.values())).grader.tool_types
        return self.is_write(call) or kinds.get(call["name"]) == bench.ToolType.READ

    def user_says(self) -> Iterator[tuple[int, str]]:
        """(index, words) of each message that the user speaks, the history's too."""
        for n, message in enumerate(self.messages):
            if message["role"] == "user" and not message.get("tool_calls"):
                yield n, testimony.spoken(message.get("content") or "")

    def agent_says(self) -> Iterator[tuple[int, str]]:
        """(index, words) of each message that the agent speaks."""
        for n, message in enumerate(self.messages):
            if message["role"] == "assistant" and message.get("content"):
                yield n, message["content"] or ""

    def who_said(self, value: Any, before: int) -> tuple[int, str] | None:
        """The user's last message before another that says a value whole."""
        said = [(n, words) for n, words in self.user_says() if n < before and testimony.says(words, value)]
        return said[-1] if said else None

    def heard(self, before: int) -> Known:
        """What the user has heard before a message: the agent's words, and what its own tools returned."""
        texts = [words for n, words in self.agent_says() if n < before]
        own = [m for m in self.messages[:before] if m["role"] == "tool" and m.get("requestor") == "user"]
        return Known(*texts, *((message.get("content") or "") for message in own))

    def agents_results(self, before: int | None = None) -> list[str]:
        """What the agent's calls returned before a message."""
        calls = [c for c in self.made if failures.whose(c.call) == "the agent's"]
        return [c.result for c in calls if before is None or c.message < before]

    def is_told(self, value: Any) -> bool:
        """Whether the scenario says a value whole."""
        return testimony.says(self.story_text, value)

    def wanted(self, call: CallRecord, place: str, known: Sequence[CallRecord] | None = None) -> list[Any]:
        """What the solution's calls of the same tool and side have in an argument's place.

        Args:
            known: of which calls; the missed ones if None.
        """
        alike = [
            gold
            for gold in (self.missed if known is None else known)
            if gold["name"] == call["name"] and failures.whose(gold) == failures.whose(call)
        ]
        return [value for gold in alike for path, value in compared(gold) if name_of(path) == place]


def compared(call: CallRecord) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path, scalar) of a call's arguments, as far as they count."""
    names = call.get("compare_args")
    return leaves({k: v for k, v in call["arguments"].items() if names is None or k in names})


def _call(action: bench.Action) -> CallRecord:
    return CallRecord(
        name=action.name,
        arguments=action.arguments,
        requestor=action.requestor,
        compare_args=action.compare_args,
    )


def _made(call: CallRecord) -> Made:
    return Made(call["name"], call["arguments"], "user" if call.get("requestor") == "user" else "assistant")


# The user


def said_otherwise(talk: Conversation, choices: frozenset[str], policy: Known) -> Iterator[Finding]:
    """A value that the scenario does not hold came from the user, who had not heard it, into a call of the agent's.

    Args:
        choices: what the tools' schemas enumerate, in small letters.
        policy: the agent's policy.
    """
    found: dict[tuple[int, str], list[tuple[MadeCall, str, list[Any]]]] = {}
    for call in talk.made:
        if failures.whose(call.call) != "the agent's" or not talk.looks_or_writes(call.call):
            continue
        if any(failures.same_call(call.call, gold) for gold in talk.gold):
            continue
        for path, value in leaves(call.call["arguments"]):
            place = name_of(path)
            instead = [w for w in talk.wanted(call.call, place, talk.gold) if w != value and talk.story.has(w)]
            if talk.story.has(value) or not _may_accuse(talk, call.call, value, instead, choices, policy):
                continue
            source = talk.who_said(value, call.message)
            if source is not None and not talk.heard(source[0]).has(value):
                found.setdefault((source[0], str(value)), []).append((call, place, instead))
    for (message, value), uses in found.items():
        yield _said(talk, message, value, uses)
    yield from _chose_otherwise(talk)


def _may_accuse(
    talk: Conversation, call: CallRecord, value: Any, instead: list[Any], choices: frozenset[str], policy: Known
) -> bool:
    """Whether a value in a call says enough to accuse who said it."""
    if value is None or isinstance(value, bool):
        return False
    if not testimony.is_hard(value) or str(value).lower() in choices or policy.has(value):
        # a word that means much else, too: only where the scenario says another in its place
        return bool(instead) and str(value).lower() not in ("yes", "no")
    return bool(instead) or talk.is_write(call)


def _said(talk: Conversation, message: int, value: str, uses: Sequence[tuple[MadeCall, str, list[Any]]]) -> Finding:
    instead = [wanted for _, _, wanteds in uses for wanted in wanteds]
    first = uses[0][0]
    wrote = any(talk.is_write(call.call) and not call.error for call, _, _ in uses)
    mended = None if wrote else _later(talk, message, instead)
    held = f"the scenario has {instead[0]}" if instead else "the scenario has no such value"
    return Finding(
        kind=SAID,
        message=message,
        words=f"the user says {value}",
        held=f"{held}; used in {_where(first)}",
        mended=mended,
    )


def _where(call: MadeCall) -> str:
    return f"message {call.message}: {failures.called(call.call)}"


def _later(talk: Conversation, message: int, instead: Sequence[Any]) -> int | None:
    """The message after one in which the user says what it should have said, or the agent uses it."""
    said = [n for n, words in talk.user_says() if n > message and any(testimony.says(words, w) for w in instead)]
    used = [
        call.message
        for call in talk.made
        if call.message > message and any(value in instead for _, value in leaves(call.call["arguments"]))
    ]
    return min([*said, *used], default=None)


def _chose_otherwise(talk: Conversation) -> Iterator[Finding]:
    """The agent chose another thing than the solution, because the user named another property of it."""
    things = _things([*talk.agents_results(), *talk.gold_results])
    seen: set[tuple[int, str]] = set()
    for call in talk.strange:
        mine: dict[str, set[str]] = {}
        for path, value in leaves(call.call["arguments"]):
            mine.setdefault(name_of(path), set()).add(str(value))
        for place, chosen in mine.items():
            wanted = {str(value) for value in talk.wanted(call.call, place)}
            for one in sorted(chosen - wanted):
                for other in sorted(wanted - chosen):
                    for said, held in _properties(things.get(one, {}), things.get(other, {})):
                        source = talk.who_said(said, call.message)
                        if source is None or talk.story.has(said) or not talk.is_told(held):
                            continue
                        if talk.heard(source[0]).has(said) or (source[0], said) in seen:
                            continue
                        seen.add((source[0], said))
                        yield Finding(
                            kind=SAID,
                            message=source[0],
                            words=f"the user says {said}",
                            held=f"the scenario has {held}; used in {_where(call)}",
                        )


def _things(results: Sequence[str]) -> dict[str, dict[str, str]]:
    """{id: its properties in words} of all that results describe."""
    found: dict[str, dict[str, str]] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            ids = [v for k, v in value.items() if str(k).endswith("_id") and isinstance(v, str)]
            words = {
                name_of(path): leaf
                for path, leaf in leaves(value)
                if isinstance(leaf, str) and not str(path[-1]).endswith("_id")
            }
            for one in ids[-1:]:  # an item names its product first
                found.setdefault(one, words)
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    for result in results:
        try:
            walk(json.loads(result))
        except ValueError:
            continue
    return found


def _properties(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(its value in the one, in the other) of each property in which two things of a kind differ."""
    if set(one) == set(other):
        yield from ((one[name], other[name]) for name in one if one[name] != other[name])


def left_out(talk: Conversation) -> Iterator[Finding]:
    """A value that a missed call of the solution needs stands in the scenario, and the user never said it."""
    known = Known(*talk.agents_results(), *(words for _, words in talk.agent_says()))
    used = {str(value) for call in talk.made for _, value in leaves(call.call["arguments"])}
    said = Known(*(words for _, words in talk.user_says()))
    results = set(talk.agents_results())
    seen: set[str] = set()
    for gold in talk.missed:
        if failures.whose(gold) != "the agent's" or _is_served(talk, gold, results):
            continue
        for path, value in compared(gold):
            if not testimony.is_hard(value) or str(value) in seen or not talk.is_told(value):
                continue
            if said.has(value) or known.has(value) or str(value) in used:
                continue
            finding = _asked_in_vain(talk, gold, path, value) or _not_opened_with(talk, value)
            if finding is not None:
                seen.add(str(value))
                yield finding


def _is_served(talk: Conversation, gold: CallRecord, results: set[str]) -> bool:
    """Whether what a missed read returns was returned by another call."""
    if talk.is_write(gold):
        return False
    place = next((n for n, call in enumerate(talk.gold) if call is gold), None)
    return place is not None and place < len(talk.gold_results) and talk.gold_results[place] in results


def _asked_in_vain(talk: Conversation, gold: CallRecord, path: Sequence[str | int], value: Any) -> Finding | None:
    """The agent asked for the value, and what the user answered is neither it nor another of its kind."""
    argument = next((part for part in reversed(path) if isinstance(part, str)), "")
    for asked, words in talk.agent_says():
        if not testimony.asks_for(words, argument, value, gold["name"]):
            continue
        answer = next(((n, told) for n, told in talk.user_says() if n > asked), None)
        if answer is None or answer[0] != asked + 1 or _answers(answer[1], value):
            continue
        if answer[0] == len(talk.messages) - 1 and talk.record["termination"] == Termination.USER_STOP:
            continue  # it stopped instead
        return Finding(
            kind=LEFT_OUT,
            message=answer[0],
            words=f"asked for it in message {asked}, the user says {answer[1][:120]!r}",
            held=f"the scenario has {value}, which {gold['name']} needs",
        )
    return None


def _answers(words: str, value: Any) -> list[str]:
    """What in words looks like a value."""
    if isinstance(value, (int, float)):
        return valueflow.NUMBER.findall(words)
    kind = shape(str(value))
    return [token for token in TOKEN.findall(words) if kind in (shape(token), shape(f"#{token}"))]


def _not_opened_with(talk: Conversation, value: Any) -> Finding | None:
    """The user wants it before all else; or it never came up, and the user said that it wanted nothing more."""
    instructions = talk.task.user_scenario.instructions
    if isinstance(instructions, str):
        return None
    wishes = [part for part in testimony.sentences(instructions.reason_for_call) if testimony.says(part, value)]
    plain = [part for part in wishes if " if " not in f" {part.lower()}"]
    spoken = list(talk.user_says())
    if not plain or not spoken:
        return None
    opening = next(testimony.sentences(instructions.reason_for_call))
    if testimony.says(opening, value):
        n, words = spoken[0]
    elif talk.record["termination"] == Termination.USER_STOP and len(spoken) > 1:
        n, words = spoken[-1]
        before = talk.messages[n - 1]
        if before["role"] != "assistant" or not testimony.closes(before.get("content") or ""):
            return None
    else:
        return None
    others = [token for token in _answers(words, value) if not talk.story.has(token)]
    if others and not talk.heard(n).has(others[0]):
        return Finding(
            kind=SAID,
            message=n,
            words=f"the user says {others[0]}: {words[:120]!r}",
            held=f"the scenario has {value}, which never comes up: {plain[0]!r}",
        )
    return Finding(
        kind=LEFT_OUT,
        message=n,
        words=f"the user says {words[:120]!r} and never tells it",
        held=f"the scenario has {value}: {plain[0]!r}",
    )


def not_done(talk: Conversation) -> Iterator[Finding]:
    """The agent asked for an act of the user's that the solution has, and the user only spoke."""
    for gold in talk.missed:
        if failures.whose(gold) == "the agent's" or not talk.is_write(gold):
            continue
        for asked, words in talk.agent_says():
            sentence = next((s for s in testimony.sentences(words) if testimony.asks_to_do(s, gold)), None)
            answer = talk.messages[asked + 1] if asked + 1 < len(talk.messages) else None
            if sentence is None or answer is None or answer["role"] != "user":
                continue
            acts = [c for c in talk.made if c.message > asked and failures.whose(c.call) != "the agent's"]
            if any(act.call["name"] == gold["name"] and _same_values(act.call, gold) for act in acts):
                continue  # tried, and refused or undone later
            if any(act.message == asked + 1 for act in acts) and not gold["arguments"]:
                continue  # it did something else: perhaps what was asked first
            yield Finding(
                kind=NOT_DONE,
                message=asked + 1,
                words=f"asked in message {asked} ({sentence[:120]!r}), the user never does it",
                held=f"the solution has {failures.called(gold)}",
            )
            break


def _same_values(call: CallRecord, gold: CallRecord) -> bool:
    return call["arguments"] == gold["arguments"]


def stopped_early(talk: Conversation) -> Iterator[Finding]:
    """The user ended the conversation where the agent waited for it, with writes of the solution to come."""
    to_come = [call for call in talk.missed if talk.is_write(call) or failures.TRANSFER in call["name"]]
    if talk.record["termination"] != Termination.USER_STOP or not to_come or talk.strange or len(talk.messages) < 2:
        return
    asked, last = talk.messages[-2], talk.messages[-1]
    if last["role"] != "user" or asked["role"] != "assistant" or asked.get("tool_calls") or last.get("tool_calls"):
        return
    answer, question = last.get("content") or "", asked.get("content") or ""
    waiting = testimony.open_requests(question)
    awaited = next((call for call in to_come if _concerns(talk, question, call)), None)
    if awaited is None or not waiting:
        return
    if bench.STOP in answer:
        if not (
            user_errors.stopped_after_confirming(talk.messages)
            or testimony.only_takes_leave(answer)
            or _gives(talk, answer)
        ):
            return
    elif bench.TRANSFER not in answer or testimony.mentions_person(question):
        return
    yield Finding(
        kind=STOPPED,
        message=len(talk.messages) - 1,
        words=f"the user answers {answer[:120]!r}",
        held=f"the agent waits: {waiting[-1][:160]!r}; to come: {failures.called(awaited)}",
    )


def _concerns(talk: Conversation, question: str, call: CallRecord) -> bool:
    """Whether what the agent waits for is needed for a call of the solution."""
    if failures.whose(call) != "the agent's":
        return any(testimony.asks_to_do(sentence, call) for sentence in testimony.sentences(question))
    for gold in talk.missed:
        for path, value in compared(gold):
            argument = next((part for part in reversed(path) if isinstance(part, str)), "")
            if talk.is_told(value) and testimony.asks_for(question, argument, value, gold["name"]):
                return True
    if any(testimony.is_hard(value) and testimony.says(question, value) for _, value in compared(call)):
        return True
    return testimony.speaks_of(question, call["name"])


def _gives(talk: Conversation, words: str) -> bool:
    """Whether words give a value of the scenario's."""
    return any(
        testimony.is_hard(token) and talk.is_told(token) for token in TOKEN.findall(testimony.spoken(words))
    ) and not testimony.refuses(words)


# The reference


def only_the_order(talk: Conversation, writes: frozenset[str]) -> Iterator[Finding]:
    """The end state is the solution's but for the order of lists, and all else that the reward counts is met."""
    evidence = failures.Evidence.of(talk.record, writes)
    other = evidence.undone or evidence.unmet or evidence.unsaid or evidence.judged
    if not evidence.changed or other or talk.record["termination"] != Termination.USER_STOP:
        return
    turned = list(_turned(talk))
    if not turned:
        return
    played = talk.scene.play([_made(call.call) for call in talk.made])
    if played.errs != [call.error for call in talk.made]:
        return  # another database than the attempt's
    environments = talk.world.stage(talk.task).environments
    one, other_state = environments.state(talk.gold_play.environment), environments.state(played.environment)
    if environments.same(one, other_state) or not orders.alike(environments, talk.gold_play, played):
        return
    for _, gold, names in turned:
        if all(orders.fixed_by(gold["arguments"][name], talk.story_text) for name in names):
            return  # the scenario, or dates, want it as the solution has it
    for call, gold, names in turned:
        yield Finding(
            kind=ORDER,
            message=call.message,
            words=f"the agent calls {failures.called(call.call)}",
            held=f"the solution has {', '.join(names)} in another order: {failures.called(gold)}",
        )


def _turned(talk: Conversation) -> Iterator[tuple[MadeCall, CallRecord, list[str]]]:
    """(write, the solution's, lists that are in another order) of calls that are otherwise the same."""
    for call in talk.strange:
        for gold in talk.missed:
            if gold["name"] != call.call["name"] or orders.unordered(call.call["arguments"]) != orders.unordered(
                gold["arguments"]
            ):
                continue
            names = [k for k, value in gold["arguments"].items() if call.call["arguments"].get(k) != value]
            yield call, gold, names


# The agent


def made_up(talk: Conversation, choices: frozenset[str], policy: Known) -> Iterator[Finding]:
    """A write has a value in it that the agent had from nobody, in place of the solution's."""
    for call in talk.made:
        if failures.whose(call.call) != "the agent's" or not talk.is_write(call.call):
            continue
        if any(failures.same_call(call.call, gold) for gold in talk.gold):
            continue
        ungrounded = list(ungrounded_values(talk, call, choices, policy))
        for place, value in ungrounded:
            instead = talk.wanted(call.call, place)
            if value in instead:
                continue
            if not instead and (call.error or not testimony.is_hard(value)):
                continue
            held = f"the solution has {instead[0]}" if instead else "the solution has no such write"
            yield Finding(
                kind=MADE_UP,
                message=call.message,
                words=f"the agent writes {place} {value!r}, which nobody said and no tool returned",
                held=f"{held}: {failures.called(call.call)}",
            )
            break


def ungrounded_values(
    talk: Conversation, call: MadeCall, choices: frozenset[str], policy: Known
) -> Iterator[tuple[str, str]]:
    """(place, value) of the texts in a call that the agent has neither read nor been told. Not numbers and dates, which
    it may have computed, nor texts of several words, which it may have put in words of its own.
    """
    said = [words for n, words in talk.user_says() if n < call.message]
    known = Known(*said, *talk.agents_results(call.message), talk.task.ticket or "")
    for path, value in compared(call.call):
        if not isinstance(value, str) or " " in value.strip() or valueflow.ISO.fullmatch(value) or len(value) < 3:
            continue
        if known.has(value) or policy.has(value) or value.lower() in choices:
            continue
        yield name_of(path), value


def other_than_told(talk: Conversation) -> Iterator[Finding]:
    """The user said the value that the solution writes; the agent wrote one that the user never said."""
    said = Known(*(words for _, words in talk.user_says()))
    for call in talk.strange:
        name = call.call["name"]
        meant = [gold for gold in talk.missed if gold["name"] == name]
        if failures.whose(call.call) != "the agent's" or len(meant) != 1:
            continue
        if sum(other.call["name"] == name for other in talk.strange) != 1:
            continue
        for path, value in compared(call.call):
            wanted = [v for p, v in compared(meant[0]) if p == path]
            if len(wanted) != 1 or isinstance(path[-1], int) or any(isinstance(part, int) for part in path):
                continue
            right = wanted[0]
            if value == right or isinstance(right, bool) or not (talk.is_told(right) and isinstance(right, str)):
                continue
            source = talk.who_said(right, call.message)
            if source is None or said.has(value):
                continue
            yield Finding(
                kind=OTHER_VALUE,
                message=call.message,
                words=f"the agent writes {name_of(path)} {value!r}",
                held=f"the user had said {right!r} in message {source[0]}, as the solution has it",
            )
            break
