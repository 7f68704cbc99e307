"""What users ask for, read from their words: the teacher's ears."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

IDENT = re.compile(r"\b[WL]\d\d\b")
SENTENCE = re.compile(r"(?<=[.?!])\s+")
_SWAP = re.compile(
    r"(?:swap|change) (?P<who>.+?) to (?P<item>.+?)[.?]$|I want (?P<other>.+?) instead in (?P<in>.+?)\.$"
)
_REFUND = re.compile(r"refund (?:on )?(?P<who>.+?)[.?]$|money back for (?P<for>.+?)\.$|want a refund\.$")
_PHONE = re.compile(
    r"internet on (?P<who>.+?)\.$|[Ll]ine (?P<line>.+?) does not work|[Pp]hone (?P<phone>.*?) ?is offline"
)


@dataclass(frozen=True)
class Asked:
    """One request as the agent hears it.

    Attributes:
        kind: what is to be done.
        who: the words for the order or line; "" where there are none.
        item: the words for the item.
    """

    kind: Literal["swap", "refund", "phone"]
    who: str
    item: str = ""


def asked(text: str) -> list[Asked]:
    """The requests in a message, in their order."""
    found: list[Asked] = []
    for sentence in SENTENCE.split(text):
        if swap := _SWAP.search(sentence):
            found.append(Asked("swap", swap["who"] or swap["in"], swap["item"] or swap["other"]))
        elif refund := _REFUND.search(sentence):
            found.append(Asked("refund", refund["who"] or refund["for"] or ""))
        elif phone := _PHONE.search(sentence):
            found.append(Asked("phone", phone["who"] or phone["line"] or phone["phone"] or ""))
    return found
