"""Answers that nobody gives by chance.

tau2 looks for an answer anywhere in what the agent says: "10" is told by "$105.24". So an answer has some length,
stands nowhere in the story, and in what gold calls are given and return only as a word of its own; a word without
digits only once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from slime_tau2.factory.draft import Draft
from slime_tau2.verification.answers import within

LEAST = 3
"""Characters of an answer."""


def unmistakable(draft: Draft, returned: Iterable[str]) -> bool:
    """Whether no answer of a draft is said without being meant.

    Args:
        returned: what its gold calls return, as tau2 writes it.
    """
    tells = draft.tells()
    if not tells:
        return True
    told = [fact.words for fact in draft.facts()]
    told += [text for wish in draft.wishes for text in (wish.reason, *wish.instructions)]
    given = [json.dumps(dict(call.arguments)) for call in draft.calls()]
    paper = "\n".join(dict.fromkeys([*given, *returned]))
    return all(
        len(answer) >= LEAST
        and not _in(answer, told)
        and not _in(answer, [other for other in tells if other != answer])
        and not within(answer, paper)
        and (any(map(str.isdigit, answer)) or paper.lower().count(answer.lower()) == 1)
        for answer in tells
    )


def _in(answer: str, texts: Iterable[str]) -> bool:
    return any(answer.lower() in text.lower().replace(",", "") for text in texts)
