"""What an agent may not do to the process it runs in. Pure; `bench` puts it around tau2's tools.

tau2's `calculate` is an `eval` of digits and operators: `9**9**9` holds the interpreter for hours. An RL policy finds
it.
"""

from __future__ import annotations

import re
from typing import Any

MAX_EXPRESSION = 200
REFUSAL = "Invalid characters in expression"
"""tau2's own words for an expression it refuses."""
_MARK = "refused: "


def refuses(expression: Any) -> bool:
    """Whether an expression is kept from `calculate`: powers, and what is too long to be arithmetic."""
    return (
        not isinstance(expression, str)
        or len(expression) > MAX_EXPRESSION
        or re.search(r"\*\s*\*", expression) is not None
    )


def stock_safe(message: dict[str, Any]) -> dict[str, Any]:
    """A tau2 message (as JSON) in which a refused expression is marked, so that a tau2 without the guard refuses it
    too.

    tau2 replays every recorded call when it grades. The mark holds letters, which its `calculate` answers with the same
    error.
    """
    calls = message.get("tool_calls") or []
    if not any(map(_is_refused, calls)):
        return message
    return {**message, "tool_calls": [_marked(call) if _is_refused(call) else call for call in calls]}


def _marked(call: dict[str, Any]) -> dict[str, Any]:
    expression = f"{_MARK}{call['arguments']['expression']}"[:MAX_EXPRESSION]
    return {**call, "arguments": {**call["arguments"], "expression": expression}}


def _is_refused(call: dict[str, Any]) -> bool:
    return (
        call["name"] == "calculate" and "expression" in call["arguments"] and refuses(call["arguments"]["expression"])
    )
