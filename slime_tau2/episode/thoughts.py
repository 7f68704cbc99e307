"""A model's thoughts, and what of its text is meant for others.

Servers with a reasoning parser send thoughts in a field of their own (`reasoning_content`, vLLM also `reasoning`);
others leave them in the text, before `</think>`. Whatever the server, nothing of them reaches the other side of a
conversation.
"""

from __future__ import annotations

from typing import Any

OPEN, CLOSE = "<think>", "</think>"
CUT = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
    f"{CLOSE}\n\n"
)
"""What is put behind a thought that has used up its budget, as Qwen's documentation of thinking budgets has it."""


def split(text: str) -> tuple[str, str]:
    """A turn's text -> (thoughts, words). A thought that never ends leaves no words. Where the template opened the
    thought, only its end is in the text.
    """
    if CLOSE in text:
        thought, _, words = text.rpartition(CLOSE)
        return thought.replace(OPEN, "", 1).strip(), words.lstrip()
    if unfinished(text):
        return text.replace(OPEN, "", 1).strip(), ""
    return "", text


def length(text: str) -> int:
    """How many characters of a turn's text, from the first on, are its thoughts, the marks included."""
    if CLOSE in text:
        return text.rindex(CLOSE) + len(CLOSE)
    return len(text) if unfinished(text) else 0


def unfinished(text: str) -> bool:
    """Whether a text ends within a thought."""
    return CLOSE not in text and text.lstrip().startswith(OPEN)


def of_message(message: dict[str, Any]) -> tuple[str, str]:
    """The message of a chat completion -> (thoughts, words)."""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    if not isinstance(reasoning, str):
        reasoning = ""
    thought, words = split(message.get("content") or "")
    return "\n".join(part for part in (reasoning, thought) if part), words
