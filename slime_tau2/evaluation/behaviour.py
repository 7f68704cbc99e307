"""What an agent does, in success and failure: how long it talks, what it refuses, what it writes and should not.

Pure, from records. A training can raise the success rate and make episodes longer, or refuse what is due; these figures
show it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from statistics import fmean

from slime_tau2.evaluation.exploits import exploits
from slime_tau2.evaluation.failures import Evidence, difference, whose
from slime_tau2.record import AttemptRecord, CallRecord

DENIAL = "deny"
"""What tools that refuse a request have in their names, as helpdesk's deny_refund."""
MEASURES = {
    "turns": "the agent's turns",
    "tokens": "tokens that it sampled",
    "calls": "its tool calls",
    "errors": "results that were errors",
    "incomplete": "of these, those without an argument that their tool requires",
    "repeated": "and those that repeat an earlier one",
    "refused": "requests that it denied, or transferred to a human",
    "refused without need": "of these, those that the solution grants",
    "forbidden writes": "writes that it made beyond those of the solution, denials aside",
}
"""{measure: what it counts in an episode}."""
AGAINST_THE_SOLUTION = ("refused without need", "forbidden writes")


@dataclass(frozen=True)
class Tools:
    """What is known of a domain's tools."""

    writes: AbstractSet[str]
    """Names of those that write, the agent's and the user's."""
    required: Mapping[str, Collection[str]]
    """{tool of the agent's: arguments that it requires} (`exploits.required_arguments`)."""


def measures(record: AttemptRecord, tools: Tools, gold: Sequence[CallRecord]) -> dict[str, float]:
    """MEASURES of one attempt.

    Args:
        gold: the solution's calls; the record of an attempt that ran out has none.
    """
    evidence = replace(Evidence.of(record, tools.writes), gold=list(gold))
    agents = [made for made in evidence.own if whose(made.call) == "the agent's"]
    done = [made for made in agents if not made.error]
    counted = exploits(record["messages"], tools.required)
    refused = [made.call for made in done if _refuses(evidence, made.call)]
    granted = [made for made in done if evidence.is_write(made.call) and not _refuses(evidence, made.call)]
    _, beyond = difference(evidence.gold, granted)  # what the solution writes once may be written once
    return {
        "turns": len(record["turns"]),
        "tokens": record["sampled_tokens"],
        "calls": len(agents),
        "errors": record["tool_errors"],
        "incomplete": counted.incomplete,
        "repeated": counted.repeated,
        "refused": len(refused),
        "refused without need": sum(not evidence.is_gold(call) for call in refused),
        "forbidden writes": len(beyond),
    }


def means(records: Sequence[AttemptRecord], tools: Tools) -> dict[str, float]:
    """Mean of each measure over the attempts; `… in` is the share of attempts that have any of it.

    What is measured against the solution is over the attempts at tasks whose solution some record holds.
    """
    solutions = {_task(r): _solution(r) for r in sorted(records, key=lambda r: len(_solution(r)))}
    rows = [(measures(r, tools, solutions[_task(r)]), bool(solutions[_task(r)])) for r in records]
    out: dict[str, float] = {}
    for name in MEASURES:
        counted = [row[name] for row, known in rows if known or name not in AGAINST_THE_SOLUTION]
        out[name] = fmean(counted) if counted else float("nan")
        if name in AGAINST_THE_SOLUTION:
            out[f"{name} in"] = fmean(count > 0 for count in counted) if counted else float("nan")
    return out


def _task(record: AttemptRecord) -> tuple[str, str]:
    return record["domain"], record["task_id"]


def _solution(record: AttemptRecord) -> list[CallRecord]:
    """The solution's calls, as tau2's checks of this attempt name them."""
    checks = (record["reward_info"] or {"reward": 0.0}).get("action_checks") or []
    return [check["action"] for check in checks]


def _refuses(evidence: Evidence, call: CallRecord) -> bool:
    return DENIAL in call["name"] or evidence.is_transfer(call)
