"""A known error of tau2's user simulators, seen in a conversation's messages: it stops right after confirming.

The agent asks whether to go ahead, the user says yes and, in the same message, ends the conversation, so that the agent
never gets to write (tau2-bench issue 182). The episode then fails through no fault of the agent; the share of such
episodes says how far a user model can be trusted. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from slime_tau2 import bench
from slime_tau2.record import MessageRecord

_ASKS = re.compile(
    r"confirm|proceed|go ahead|\b(shall|should|may) i\b|(would you like|do you want) me to|\byes\b.{0,20}\bno\b",
    re.I | re.S,
)
_YES = re.compile(
    r"\b(yes|yeah|yep|sure|ok|okay|correct|confirm(ed)?|go ahead|proceed|please do|sounds good|that works|do it"
    r"|agreed?)\b",
    re.I,
)
_NO = re.compile(r"\b(no|not|never ?mind|don'?t|cannot|can'?t)\b", re.I)


def stopped_after_confirming(messages: Sequence[MessageRecord]) -> bool:
    """Whether the user's last words say yes to what the agent asked leave for, and end the conversation with it.

    Args:
        messages: tau2's, as JSON, in order.
    """
    if len(messages) < 2:
        return False
    asked, last = messages[-2], messages[-1]
    if last["role"] != "user" or asked["role"] != "assistant" or asked.get("tool_calls") or last.get("tool_calls"):
        return False
    answer = last.get("content") or ""
    if bench.STOP not in answer or not _ASKS.search(asked.get("content") or ""):
        return False
    words = answer.replace(bench.STOP, " ")
    return _YES.search(words) is not None and _NO.search(words) is None
