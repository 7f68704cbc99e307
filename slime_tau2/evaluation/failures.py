"""What went wrong in a failed attempt, read from its record: tau2's checks, the calls that were made, how it ended.
Pure but for the table.

One kind an attempt, the first that fits. A check that the reward does not count is no reason: telecom's reward does not
ask for its databases, which differ from the solution's after many a success. Kinds sort failures for a reader; they
judge nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

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
RAN_OUT = {t.value for t in Termination if t.exhausted}
TRANSFER = "transfer_to_human"
"""What tools that hand over to a human have in their names. tau2 types them as it types the calculator: generic."""


@dataclass(frozen=True)
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


def classify(record: Mapping[str, Any], writes: AbstractSet[str]) -> Failure | None:
    """The failure of one record of `attempts.jsonl`; None for a success, or what infrastructure ended.

    Args:
        writes: names of the domain's tools that write, the agent's and the user's.
    """
    if record["reward"] is None or is_success(record["reward"]):
        return None
    kind, detail = _kind(record, writes)
    return Failure(kind, detail, record["domain"], record["task_id"], record["attempt"])


def called(call: Mapping[str, Any]) -> str:
    """A call or an assertion in one line: `name({"argument": "value"})`."""
    return f"{call.get('name') or call['func_name']}({json.dumps(call['arguments'], ensure_ascii=False)})"


def whose(action: Mapping[str, Any]) -> str:
    """Who is to make a call, or made it."""
    return "the user's" if action.get("requestor") == "user" else "the agent's"


def wanted(assertion: Mapping[str, Any]) -> str:
    """An assertion on the environment with its arguments and the value that it should have."""
    return f"{called(assertion)} should be {json.dumps(assertion.get('assert_value', True))}"


def _kind(record: Mapping[str, Any], writes: AbstractSet[str]) -> tuple[str, str]:
    ended, turns = record["termination"], record["turns"]
    malformed, calls = sum(t["malformed"] for t in turns), sum(t["calls"] for t in turns)
    if ended == "agent_error" or (malformed and (ended == "too_many_errors" or 2 * malformed >= calls)):
        return "parse errors", "an empty turn" if ended == "agent_error" else f"{malformed} of {calls} calls malformed"
    if ended == "too_many_errors":
        return "too many errors", f"{record['tool_errors']} error results"
    if ended in RAN_OUT:
        return "ran out", f"{ended} after {record['steps']} steps"
    if record.get("user_stopped_early"):
        return "user error suspected", str(record["messages"][-1].get("content"))
    return _by_checks(record, writes)


def _by_checks(record: Mapping[str, Any], writes: AbstractSet[str]) -> tuple[str, str]:
    info = record["reward_info"] or {}
    basis = info.get("reward_basis") or ("DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE", "NL_ASSERTION")

    def failed(kind: str, checks: str, met: str) -> list[Mapping[str, Any]]:
        return [c for c in info.get(checks) or [] if kind in basis and not c[met]]

    def refused(action: Mapping[str, Any]) -> bool:
        return any(c["error"] and _same(c, action) for c in calls)

    def missing(action: Mapping[str, Any]) -> str:
        return called(action) + (", refused" if refused(action) else "")

    gold, calls = [c["action"] for c in info.get("action_checks") or []], _calls(record)
    own = [c for c in calls if not c["before"]]
    changed = "DB" in basis and not (info.get("db_check") or {}).get("db_match", True)
    undone = [c["action"] for c in failed("ACTION", "action_checks", "action_match")]
    unmet = [wanted(c["env_assertion"]) for c in failed("ENV_ASSERTION", "env_assertions", "met")]
    missed, extra, tried = [], [], []
    if changed or undone or unmet:  # else what was done is not at fault
        missed, extra = _difference(
            [a for a in gold if a["name"] in writes], [c for c in calls if c["name"] in writes and not c["error"]]
        )
        tried = [c for c in own if c["name"] in writes and not any(_same(c, a) for a in gold)]
        missed.sort(key=refused)  # some solutions hold calls that are refused: named last
    untried = [a for a in missed if not refused(a)]
    strange = [c for c in tried if not c["error"] and changed]
    sent = [c for c in own if _hands_over(c, writes) and not c["error"]]
    reasons: tuple[tuple[str, list[str]], ...] = (
        ("wrong argument", _mistaken(strange, untried)),
        ("forbidden write", [_told(c) for c in strange]),
        ("transfer not made", [called(a) for a in undone if _hands_over(a, writes)]),
        ("transferred without need", [called(c) for c in sent if not any(_hands_over(a, writes) for a in gold)]),
        ("wrong argument", _mistaken(tried, untried)),
        *(
            (f"missing write, {side}", [missing(a) for a in missed if whose(a) == side])
            for side in ("the agent's", "the user's")
        ),
        ("missing read", [_told(a) for a in undone if a["name"] not in writes]),
        ("forbidden write", [_told(c) for c in extra if not c["before"]]),
        ("assertion unmet", unmet),
        (
            "wrong amount told",
            [f"never said {c['info']!r}" for c in failed("COMMUNICATE", "communicate_checks", "met")],
        ),
        ("judged unmet", [c.get("nl_assertion", "") for c in failed("NL_ASSERTION", "nl_assertions", "met")]),
        ("other", ["the database differs from the solution's" if changed else ""]),
    )
    kind, found = next((kind, found) for kind, found in reasons if found)
    if kind == "assertion unmet":
        return kind, "; ".join(unmet)
    return kind, "; ".join([found[0] + (f" and {len(found) - 1} more" if len(found) > 1 else ""), *unmet])


def _calls(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every call of agent and user, in order, each with whether its result was an error, and whether the task's history
    has it.
    """
    messages, sent = record["messages"], sum(t.get("sent", True) for t in record["turns"])
    errors = {m["id"] for m in messages if m["role"] == "tool" and m.get("error")}
    begun = [n for n, m in enumerate(messages) if m["role"] == "assistant"][-sent:][:1] or [
        0
    ]  # no turns are known of an import
    made = [(n < begun[0], c) for n, m in enumerate(messages) if m["role"] != "tool" for c in m.get("tool_calls") or []]
    return [{**c, "error": c["id"] in errors, "before": before} for before, c in made]


def _difference(actions: Sequence[Mapping[str, Any]], made: Sequence[Mapping[str, Any]]) -> tuple[list, list]:
    """(actions that no call made, calls that made none): what is wanted twice has to be made twice, a switch turned
    say.
    """
    extra, missed = list(made), []
    for action in actions:
        done = next((n for n, call in enumerate(extra) if _same(call, action)), None)
        if done is None:
            missed.append(action)
        else:
            del extra[done]
    return missed, extra


def _mistaken(calls: Sequence[Mapping[str, Any]], missed: Sequence[Mapping[str, Any]]) -> list[str]:
    """The calls whose tool the same side should have called with other arguments."""
    pairs = ((c, next((a for a in missed if a["name"] == c["name"] and whose(a) == whose(c)), None)) for c in calls)
    return [f"{_told(c)} for {called(a)}" for c, a in pairs if a is not None]


def _same(call: Mapping[str, Any], action: Mapping[str, Any]) -> bool:
    if call["name"] != action["name"] or whose(call) != whose(action):
        return False
    return same_arguments(call["arguments"], action["arguments"], action.get("compare_args"))


def _told(call: Mapping[str, Any]) -> str:
    return called(call) if whose(call) == "the agent's" else f"{whose(call)} {called(call)}"


def _hands_over(call: Mapping[str, Any], writes: AbstractSet[str]) -> bool:
    return TRANSFER in call["name"] and call["name"] not in writes
