"""What went wrong in a failed attempt, read from its record: tau2's checks, the calls that were made, how it ended.

Pure but for the table. An attempt has one kind, the first that fits. A check that the reward does not count is no
reason: telecom's reward does not ask for its databases, which differ from the solution's after many a success. Kinds
sort failures for a reader; they judge nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from slime_tau2.record import Assertion, AttemptRecord, CallRecord, MessageRecord, RewardInfoRecord
from slime_tau2.rewards.partial import same_arguments
from slime_tau2.terminations import Termination
from slime_tau2.types import is_success

KINDS = {
    "parse errors": "malformed calls or empty turns ended it, or half of its calls were malformed",
    "too many errors": "tau2's limit on error results",
    "ran out": "of steps, or of tokens",
    "user error suspected": "the user confirmed and hung up before the agent could write",
    "wrong argument": "the right write, with other arguments",
    "forbidden write": "a write that is not among the solution's, or once more than there, changed what counts",
    "transfer not made": "the solution transfers to a human, and this counts",
    "transferred without need": "to a human, where the solution does not",
    "missing write, the agent's": "a write of the solution was never tried, or refused",
    "missing write, the user's": "the solution has the user act, on the phone say; it did not, or was refused",
    "missing read": "a call of the solution that writes nothing, and counts",
    "assertion unmet": "the solution's writes were made, and an assertion does not hold",
    "wrong amount told": "what was done is right; something that must be said was not",
    "judged unmet": "the judge found an assertion unmet",
    "other": "none of these, by the checks",
}
EXHAUSTED = frozenset(t for t in Termination if t.exhausted)
TRANSFER = "transfer_to_human"
"""What tools that hand over to a human have in their names. tau2 types them as it types the calculator: generic."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed attempt: its kind, and what in it says so."""

    kind: str
    detail: str
    domain: str
    task_id: str
    attempt: int

    @property
    def example(self) -> str:
        """The detail, then where: telecom's task ids would leave no room for it."""
        task = self.task_id if len(self.task_id) <= 40 else self.task_id[:39] + "…"
        return f"{self.detail[:160]} ({task}, attempt {self.attempt})"


def table(failures: Sequence[Failure]) -> Table:
    """Kinds with their counts, the most frequent first, and one example each."""
    out = Table(title=f"{len(failures)} failed attempts", title_justify="left")
    for column in ("what went wrong", "attempts", "tasks", "an example"):
        out.add_column(column, justify="right" if column in ("attempts", "tasks") else "left")
    for kind, count in Counter(f.kind for f in failures).most_common():
        part = [f for f in failures if f.kind == kind]
        out.add_row(f"{kind}: {KINDS[kind]}", str(count), str(len({f.task_id for f in part})), escape(part[0].example))
    return out


def classify(record: AttemptRecord, writes: AbstractSet[str]) -> Failure | None:
    """The failure of one record of `attempts.jsonl`; None for a success, or what infrastructure ended.

    Args:
        writes: names of the domain's tools that write, the agent's and the user's.
    """
    if record["reward"] is None or is_success(record["reward"]):
        return None
    kind, detail = _by_ending(record) or _by_checks(record, writes)
    return Failure(
        kind=kind, detail=detail, domain=record["domain"], task_id=record["task_id"], attempt=record["attempt"]
    )


def called(call: CallRecord) -> str:
    """A call in one line: `name({"argument": "value"})`."""
    return _call(call["name"], call["arguments"])


def whose(action: CallRecord) -> str:
    """Who is to make a call, or made it."""
    return "the user's" if action.get("requestor") == "user" else "the agent's"


def wanted(assertion: Assertion) -> str:
    """An assertion on the environment with its arguments and the value that it should have."""
    value = json.dumps(assertion.get("assert_value", True))
    return f"{_call(assertion['func_name'], assertion.get('arguments', {}))} should be {value}"


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({json.dumps(arguments, ensure_ascii=False)})"


def _by_ending(record: AttemptRecord) -> tuple[str, str] | None:
    """(kind, detail) where the way in which the attempt ended says what went wrong."""
    ended, turns = record["termination"], record["turns"]
    malformed, calls = sum(t["malformed"] for t in turns), sum(t["calls"] for t in turns)
    if ended == Termination.AGENT_ERROR:
        return "parse errors", "an empty turn"
    if malformed and (ended == Termination.TOO_MANY_ERRORS or 2 * malformed >= calls):
        return "parse errors", f"{malformed} of {calls} calls malformed"
    if ended == Termination.TOO_MANY_ERRORS:
        return "too many errors", f"{record['tool_errors']} error results"
    if ended in EXHAUSTED:  # an imported attempt may name an ending of tau2's that is none of ours
        return "ran out", f"{ended} after {record['steps']} steps"
    if record.get("user_stopped_early"):
        return "user error suspected", str(record["messages"][-1].get("content"))
    return None


@dataclass(frozen=True, kw_only=True)
class MadeCall:
    """A call that was made, by the agent or by the user."""

    call: CallRecord
    message: int
    """Index of the message that made it."""
    result: str
    """What came of it."""
    error: bool
    """Whether its result was an error."""
    before: bool
    """Whether the task's history holds it, so that nobody in the attempt is to blame."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What tau2 checked, as far as the reward counts it, and what was done."""

    writes: AbstractSet[str]
    """The domain's tools that write."""
    gold: list[CallRecord]
    """The solution's calls."""
    undone: list[CallRecord]
    """The solution's calls that count and were not made."""
    changed: bool
    """Whether the database counts and differs from the solution's."""
    unmet: list[str]
    """Assertions that do not hold."""
    unsaid: list[str]
    """What the user was not told."""
    judged: list[str]
    """What the judge found unmet."""
    calls: list[MadeCall]
    """Every call of agent and user, in order."""

    @classmethod
    def of(cls, record: AttemptRecord, writes: AbstractSet[str]) -> Evidence:
        info: RewardInfoRecord = record["reward_info"] or {"reward": 0.0}
        basis = info.get("reward_basis") or ("DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE", "NL_ASSERTION")
        actions = info.get("action_checks") or []
        assertions = (info.get("env_assertions") or []) if "ENV_ASSERTION" in basis else []
        sayings = (info.get("communicate_checks") or []) if "COMMUNICATE" in basis else []
        judgements = (info.get("nl_assertions") or []) if "NL_ASSERTION" in basis else []
        database = info.get("db_check") or {"db_match": True}
        return cls(
            writes=writes,
            gold=[check["action"] for check in actions],
            undone=[c["action"] for c in actions if not c.get("action_match")] if "ACTION" in basis else [],
            changed="DB" in basis and not database["db_match"],
            unmet=[wanted(check["env_assertion"]) for check in assertions if not check["met"]],
            unsaid=[f"never said {check['info']!r}" for check in sayings if not check["met"]],
            judged=[check.get("nl_assertion", "") for check in judgements if not check["met"]],
            calls=calls_of(record),
        )

    def is_write(self, call: CallRecord) -> bool:
        return call["name"] in self.writes

    def is_transfer(self, call: CallRecord) -> bool:
        return TRANSFER in call["name"] and not self.is_write(call)

    def is_gold(self, call: CallRecord) -> bool:
        return any(same_call(call, action) for action in self.gold)

    def is_refused(self, action: CallRecord) -> bool:
        """Whether the call was made, and its result was an error."""
        return any(made.error and same_call(made.call, action) for made in self.calls)

    @property
    def own(self) -> list[MadeCall]:
        """The calls that the attempt itself made."""
        return [made for made in self.calls if not made.before]

    def writes_apart(self) -> tuple[list[CallRecord], list[MadeCall], list[MadeCall]]:
        """(writes of the solution that were not done, writes beyond it, writes of the attempt that it does not hold).

        All empty where nothing that counts says that what was done is at fault.
        """
        if not (self.changed or self.undone or self.unmet):
            return [], [], []
        done = [made for made in self.calls if self.is_write(made.call) and not made.error]
        missed, extra = difference([a for a in self.gold if self.is_write(a)], done)
        missed.sort(key=self.is_refused)  # some solutions hold calls that are refused: named last
        tried = [made for made in self.own if self.is_write(made.call) and not self.is_gold(made.call)]
        return missed, extra, tried

    def reasons(self) -> Iterator[tuple[str, list[str]]]:
        """(kind, what in the attempt says so), the most telling kind first; [] where nothing says so."""
        missed, extra, tried = self.writes_apart()
        untried = [action for action in missed if not self.is_refused(action)]
        strange = [made for made in tried if not made.error and self.changed]
        transfers = [made for made in self.own if self.is_transfer(made.call) and not made.error]
        needless = transfers if not any(self.is_transfer(action) for action in self.gold) else []
        yield "wrong argument", _mistaken(strange, untried)
        yield "forbidden write", [_with_side(made.call) for made in strange]
        yield "transfer not made", [called(action) for action in self.undone if self.is_transfer(action)]
        yield "transferred without need", [called(made.call) for made in needless]
        yield "wrong argument", _mistaken(tried, untried)
        for side in ("the agent's", "the user's"):
            missing = [action for action in missed if whose(action) == side]
            refused = [", refused" if self.is_refused(action) else "" for action in missing]
            yield f"missing write, {side}", [called(action) + note for action, note in zip(missing, refused)]
        yield "missing read", [_with_side(action) for action in self.undone if not self.is_write(action)]
        yield "forbidden write", [_with_side(made.call) for made in extra if not made.before]
        yield "assertion unmet", self.unmet
        yield "wrong amount told", self.unsaid
        yield "judged unmet", self.judged
        yield "other", ["the database differs from the solution's" if self.changed else ""]


def _by_checks(record: AttemptRecord, writes: AbstractSet[str]) -> tuple[str, str]:
    """(kind, detail) by what tau2 checked and what was done."""
    evidence = Evidence.of(record, writes)
    kind, signs = next((kind, signs) for kind, signs in evidence.reasons() if signs)
    if kind == "assertion unmet":
        return kind, "; ".join(signs)
    first = signs[0] + (f" and {len(signs) - 1} more" if len(signs) > 1 else "")
    return kind, "; ".join([first, *evidence.unmet])


def calls_of(record: AttemptRecord) -> list[MadeCall]:
    """Every call of agent and user, in order."""
    messages = record["messages"]
    errors = {m.get("id") for m in messages if m["role"] == "tool" and m.get("error")}
    # the agent's last messages are its turns; what stands before the first of them is the task's history
    sent = sum(turn.get("sent", True) for turn in record["turns"])
    agents = [n for n, m in enumerate(messages) if m["role"] == "assistant"]
    begun = (agents[-sent:] or [0])[0]  # an import knows no turns: its first message of the agent's
    return [
        MadeCall(
            call=call,
            message=n,
            result=_result(messages, n + 1 + place),
            error=call.get("id") in errors,
            before=n < begun,
        )
        for n, message in enumerate(messages)
        if message["role"] != "tool"
        for place, call in enumerate(message.get("tool_calls") or [])
    ]


def _result(messages: Sequence[MessageRecord], at: int) -> str:
    """What the tool's message at an index says; "" where there is none."""
    return (messages[at].get("content") or "") if at < len(messages) and messages[at]["role"] == "tool" else ""


def difference(actions: Sequence[CallRecord], made: Sequence[MadeCall]) -> tuple[list[CallRecord], list[MadeCall]]:
    """(actions that no call made, calls that made none): what is wanted twice has to be made twice, a switch turned
    say.
    """
    missed: list[CallRecord] = []
    extra = list(made)
    for action in actions:
        done = next((n for n, one in enumerate(extra) if same_call(one.call, action)), None)
        if done is None:
            missed.append(action)
        else:
            del extra[done]
    return missed, extra


def _mistaken(made: Sequence[MadeCall], missed: Sequence[CallRecord]) -> list[str]:
    """The calls whose tool the same side should have called with other arguments."""
    out = []
    for call in (one.call for one in made):
        meant = next((a for a in missed if a["name"] == call["name"] and whose(a) == whose(call)), None)
        if meant is not None:
            out.append(f"{_with_side(call)} for {called(meant)}")
    return out


def same_call(call: CallRecord, action: CallRecord) -> bool:
    """Whether a call is the solution's: the same tool, side and, as far as they count, arguments."""
    if call["name"] != action["name"] or whose(call) != whose(action):
        return False
    return same_arguments(call["arguments"], action["arguments"], action.get("compare_args"))


def _with_side(call: CallRecord) -> str:
    return called(call) if whose(call) == "the agent's" else f"{whose(call)} {called(call)}"
