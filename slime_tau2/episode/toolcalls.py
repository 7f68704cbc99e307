"""Agent text -> text and tool calls, or a typed parse error.

Qwen's native format: `<tool_call>\\n{"name": …, "arguments": {…}}\\n</tool_call>`, several blocks in one
turn are several calls. A malformed block is not repaired and not retried off the record: it becomes a call to a tool
that does not exist, tau2 answers with an error, and the model learns from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slime_tau2.episode import strict_json

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MALFORMED = "malformed_tool_call"
MAX_ARGUMENT_CHARS = 8_000
MAX_CALLS = 32


@dataclass(frozen=True)
class ParsedCall:
    """One call. `error` is empty unless the block was malformed, and then says why; `name` is then MALFORMED."""

    name: str
    arguments: dict[str, Any]
    error: str = ""


@dataclass(frozen=True)
class ParsedTurn:
    """What an agent turn says.

    Attributes:
        text: what stands outside the blocks; None if blank.
        calls: one per block, in order; the last may stand for several.
        spans: [start, end) of what each call stands for, in characters of the turn's text, tags included.
    """

    text: str | None
    calls: list[ParsedCall] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return self.text is None and not self.calls


def parse(text: str) -> ParsedTurn:
    """Parse one turn's text, without its closing `<|im_end|>`. Never raises."""
    calls, spans = [], []
    outside, done = "", 0
    while (start := text.find(OPEN, done)) >= 0:
        inside = start + len(OPEN)
        close = text.find(CLOSE, inside)
        calls.append(_call(text[inside:close]) if close >= 0 else malformed(f"no {CLOSE}", text[inside:]))
        outside += text[done:start]
        done = close + len(CLOSE) if close >= 0 else len(text)
        spans.append((start, done))
    outside += text[done:]
    if len(calls) > MAX_CALLS:
        calls = [*calls[: MAX_CALLS - 1], malformed(f"more than {MAX_CALLS} calls in one turn", "")]
        spans = [*spans[: MAX_CALLS - 1], (spans[MAX_CALLS - 1][0], spans[-1][1])]
    return ParsedTurn(outside.strip() or None, calls, spans)


def malformed(error: str, body: str) -> ParsedCall:
    """The call that stands in for what could not be read."""
    return ParsedCall(MALFORMED, {"error": error, "text": body.strip()[:200]}, error)


def _call(body: str) -> ParsedCall:
    if len(body) > MAX_ARGUMENT_CHARS:
        return malformed(f"longer than {MAX_ARGUMENT_CHARS} characters", body)
    try:
        value = strict_json.loads(body)
    except ValueError as error:
        return malformed(f"not JSON: {error}", body)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return malformed("no string under 'name'", body)
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        return malformed("'arguments' is not an object", body)
    return ParsedCall(value["name"], arguments)
