"""Whether an agent knows what it says: each value that it uses was said or returned before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from slime_tau2.record import MessageRecord
from slime_tau2.verification.variations import leaves

NUMBER = re.compile(r"\d+(?:\.\d+)?")
DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
MONTHS = "january february march april may june july august september october november december".split()
"""A date may have been said as 'May 20'; the year is in the policy."""
COUNTED = 10
"""Smaller numbers may be of things that were counted."""
IN_WORDS = re.compile(r"\d+\.\d\d\b|#?\b\w*\d{4,}\w*")
"""What is checked in an agent's words: amounts, numbers of records, codes."""


def ungrounded(
    messages: Sequence[MessageRecord],
    *,
    policy: str = "",
    free: Mapping[str, Iterable[str]] = {},
    sums: bool = False,
) -> list[str]:
    """What an agent uses in calls and words although nobody has said it, and no tool has returned it.

    Args:
        policy: what the agent has read before; its numbers are known.
        sums: the agent has no calculator: an amount may be the sum or the product of two numbers.
        free: {tool: arguments that are the agent's own words}.
    """
    text, numbers = "", {float(number) for number in NUMBER.findall(policy)}
    missing: list[str] = []
    for message in messages:
        said = message.get("content") or ""
        if message["role"] == "assistant":
            for call in message.get("tool_calls") or []:
                skip = set(free.get(call["name"], ()))
                for name, value in call["arguments"].items():
                    if name not in skip:
                        values = [str(leaf) for _, leaf in leaves(value)]
                        missing += [f"{call['name']}: {v}" for v in values if not _known(v, text, numbers)]
            new = [value for value in IN_WORDS.findall(said) if not _known(value, text, numbers)]
            missing += [f"says {value}" for value in new if not (sums and _computed(value, numbers))]
        text += "\n" + said.lower()
        numbers.update(float(number) for number in NUMBER.findall(said))
    return missing


def _known(value: str, text: str, numbers: set[float]) -> bool:
    if value.lower() in text:
        return True
    date = DATE.fullmatch(value)
    if date:
        return f"{MONTHS[int(date[2]) - 1]} {int(date[3])}" in text
    found = NUMBER.findall(value)
    return bool(found) and all(float(number) in numbers or float(number) < COUNTED for number in found)


def _computed(value: str, numbers: set[float]) -> bool:
    if not NUMBER.fullmatch(value):
        return False
    target = float(value)
    return any(abs(target - result) < 0.005 for a in numbers for b in numbers for result in (a + b, a * b))
