"""How the scripted user speaks: the story's second person turned into the first, in a persona's manner."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from slime_tau2.factory.stories import listed

BRIEF = ("brief", "hurry", "impatient", "reserved", "long day", "short")
"""What a persona's words have that says little."""
PAIRS = (
    (r"\b[Yy]ou are(?=[.,;:!?]|$)", "I am"),
    (r"\b[Yy]ou are\b", "I'm"),
    (r"\b[Yy]ou were\b", "I was"),
    (r"\band are not able\b", "and am not able"),
    (r"\b[Yy]ou have (?=\w+ed\b|been\b|already\b|just\b|no\b)", "I have "),
    (r"\b[Yy]ours\b", "mine"),
    (r"\b[Yy]ourself\b", "myself"),
    (r"\bYour\b", "My"),
    (r"\byour\b", "my"),
    (r"\b(for|with|from|by|find|tell|give|help|reach|told|cost|costs|owe) you\b", r"\1 me"),
    (r"\b(to|of) you(?=[ .,;:]*$|[.,;:])", r"\1 me"),
    (r"\b[Yy]ou\b", "I"),
    (r"\b(do|does|did|is|was|has|are|could|would) not\b", r"\1n't"),
    (r"\bcannot\b", "can't"),
)
"""What the story says to the user model, and what the user says."""


def first_person(text: str) -> str:
    """A story's sentence as the user says it: "You want your money back." -> "I want my money back."."""
    for pattern, replacement in PAIRS:
        text = re.sub(pattern, replacement, text)
    return text


THIRD = (
    (r"^You (also )?want\b", r"The user \1wants"),
    (r"^You are\b", "The user is"),
    (r"^You have\b", "The user has"),
    (r"^Your\b", "The user's"),
    (r"\b[Yy]ours\b", "theirs"),
    (r"\b[Yy]ourself\b", "themselves"),
    (r"\bYour\b", "Their"),
    (r"\byour\b", "their"),
    (r"\b(for|with|from|by|find|tell|give|help|reach|told|cost) you\b", r"\1 them"),
    (r"\bto you(?=[ .,;:]*$|[.,;:])", "to them"),
    (r"\bYou\b", "They"),
    (r"\byou\b", "they"),
)
"""What the story says to the user model, and what is said about the user."""


def third_person(text: str) -> str:
    """A story's sentence about the user: "You want your money back." -> "The user wants their money back."."""
    for pattern, replacement in THIRD:
        text = re.sub(pattern, replacement, text)
    return text


def lower(text: str) -> str:
    """Without capitals, but for numbers and codes."""
    return " ".join(word if re.search(r"\d|[A-Z]{2}|#", word) else word.lower() for word in text.split(" "))


class Voice:
    """One user's way of speaking.

    Args:
        persona: the story's; says whether the user is brief, or writes without capitals.
    """

    def __init__(self, rng: random.Random, persona: str | None = None):
        self.rng = rng
        self.brief = any(word in (persona or "") for word in BRIEF)
        self.small = "lower case" in (persona or "")
        self.cheerful = any(word in (persona or "") for word in ("cheerful", "friendly"))

    def pick(self, *options: str) -> str:
        """One of several ways to say a thing; a brief user takes a short one."""
        if self.brief:
            options = tuple(sorted(options, key=len)[: max(1, len(options) // 2)])
        return self.rng.choice(options)

    def line(self, text: str) -> str:
        """A text as this user types it."""
        same = (
            ", otherwise the same" if self.brief else self.rng.choice((", otherwise the same", ", the rest as it is"))
        )
        text = re.sub(r"\s+", " ", text.replace(" (the rest as ordered)", same)).strip()
        return lower(text) if self.small else text

    def wish(self, reason: str) -> str:
        """What the user wants, of a story's reason."""
        found = re.match(r"You (also )?want to (know|hear) (.+)$", reason)
        if found:
            also = "also " if found[1] else ""
            rest = first_person(found[3])
            return self.pick(f"I'd {also}like to know {rest}", f"I {also}want to know {rest}")
        found = re.match(r"You (also )?want (to have |to )?(.+)$", reason)
        if not found:
            return first_person(reason)
        also, to, rest = found[1] or "", found[2] or "", first_person(found[3])
        options = [f"I'd {also}like {to}{rest}", f"I {also}want {to}{rest}"]
        if to == "to ":
            options.append(f"I {also}need to {rest}")
        return self.pick(*options)

    def fact(self, words: str) -> str:
        """One fact, asked for by itself."""
        value = re.match(r"(?:Your|The) [^.]*? is (?:to be )?(\S+@\S+|#?\w*\d\w*)\.$", words)
        if value:
            return self.pick(f"{value[1]}", f"It's {value[1]}.", first_person(words), f"Sure, it's {value[1]}.")
        want = re.match(r"You want (.+)\.$", words)
        if want:
            rest = first_person(want[1])
            return self.pick(f"I want {rest}.", f"I'd like {rest}.", f"I'd like {rest}, please.")
        return first_person(words)

    def forgotten(self, names: Sequence[str]) -> str:
        """That the user does not remember something."""
        what = first_person(listed(names, "or"))
        return self.pick(
            f"I don't remember {what}.",
            f"I'm afraid I don't have {what} at hand.",
            f"Sorry, I can't recall {what}.",
            f"I don't know {what}.",
        )

    def yes(self) -> str:
        """The answer to a list of details that is right."""
        if self.cheerful:
            return self.pick("Yes, that's perfect!", "Yes, please go ahead!", "Yes, that's exactly right, thanks!")
        return self.pick(
            "Yes.",
            "Yes, please.",
            "Yes, go ahead.",
            "Yes, that's right.",
            "Yes, please go ahead.",
            "Yes, I confirm.",
            "That's correct, yes.",
        )

    def whole(self) -> str:
        """The yes to a list of details, and that nothing is missing in it."""
        return self.pick(
            "Yes, that's everything.",
            "Yes, those are all. Please go ahead.",
            "Yes, that's all I want to change.",
            "Yes, nothing is missing. Go ahead.",
            "Yes, that's the complete list.",
            "Yes, all of it is there. Please proceed.",
        )

    def permits(self) -> str:
        """The answer to a question whether the agent may."""
        return self.pick("Yes.", "Yes, please.", "Yes, go ahead.", "OK, yes.", "Yes, please do.", "Sure, yes.")

    def thanks(self) -> str:
        """That it is all."""
        if self.cheerful:
            return self.pick("No, that's everything. Thank you so much!", "That's all, thanks a lot for your help!")
        return self.pick(
            "No, that's all. Thanks.",
            "No, thank you.",
            "That's everything, thank you.",
            "No, that was all. Thank you for your help.",
            "Nope, that's it.",
            "That's all I needed, thanks.",
        )

    def accepts(self) -> str:
        """That the user takes no for an answer."""
        return self.pick(
            "I see. Then I'll leave it as it is.",
            "All right, then leave it.",
            "That's a pity. OK, then everything stays as it is.",
            "OK, I understand.",
            "Too bad. Fine, leave it as it is, then.",
        )

    def insists(self) -> str:
        """That the user asks once more."""
        return self.pick(
            "Are you sure? Can't you make an exception?",
            "Really? There must be some way to do this.",
            "Can't you do it just this once?",
            "That's disappointing. Is there nothing you can do?",
        )
