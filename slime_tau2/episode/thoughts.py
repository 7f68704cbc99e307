"""A model's thoughts, and what of its text is meant for others.

Servers with a reasoning parser send thoughts in a field of their own (`reasoning_content`, vLLM also `reasoning`);
others leave them in the text, before `</think>`. Whatever the server, nothing of them reaches the other side of a
conversation.
"""

from __future__ import annotations

from typing import Any

OPEN, CLOSE = "<think>", "</think>"


def split(text: str) -> tuple[str, str]:
    """A turn's text -> (thoughts, words). A thought that never ends leaves no words. Where the template opened the
    thought, only its end is in the text.
    """
    if CLOSE in text:
        thought, _, words = text.rpartition(CLOSE)
        return thought.replace(OPEN, "", 1).strip(), words.lstrip()
    if text.lstrip().startswith(OPEN):
        return text.replace(OPEN, "", 1).strip(), ""
    return "", text


def of_message(message: dict[str, Any]) -> tuple[str, str]:
    """The message of a chat completion -> (thoughts, words)."""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    if not isinstance(reasoning, str):
        reasoning = ""
    thought, words = split(message.get("content") or "")
    return "\n".join(part for part in (reasoning, thought) if part), words
