"""An answer less wherever it stands as a word of its own: what is left must not tell it.

tau2 looks for an answer anywhere in what the agent says, without commas: "10" is told by "$105.24".
"""

from __future__ import annotations

import re


def without(answer: str, text: str) -> str:
    """A text as tau2 compares it, less an answer wherever that is a word of its own."""
    own = rf"(?<![\w.]){re.escape(answer.lower())}(?!\w|\.\d)"
    return re.sub(own, "", text.lower().replace(",", " "))


def within(answer: str, text: str) -> bool:
    """Whether a text has an answer as a part of a longer word or number."""
    return answer.lower() in without(answer, text)
