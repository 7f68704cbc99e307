"""A draft in words: what tau2's user model reads. Every fact of the draft is in it; how it is told varies by seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from slime_tau2.factory.draft import Draft, Fact, Told, Wish

PERSONAS = (
    "You are polite and brief.",
    "You are in a hurry and answer in few words.",
    "You are friendly and like to chat a little, but you stay with the matter.",
    "You are matter-of-fact and precise.",
    "You are a bit impatient, but never rude.",
    "You are unsure how this works and glad of clear questions.",
    "You are cheerful.",
    "You write in lower case and short sentences.",
    "You are reserved and say no more about yourself than you have to.",
    "You had a long day and want to be done with it.",
    "You are careful and read what the agent says twice before you agree.",
)
CONFIRM = (
    "When the agent lists the details and they are what you want, say yes.",
    "If the details that the agent reads out are right, confirm them.",
    "Confirm what the agent proposes if it is what you asked for.",
    "Agree when the agent asks for your confirmation and the details are right.",
)
END = (
    "When everything is settled, thank the agent and end the conversation.",
    "You have no other request.",
    "There is nothing else that you want.",
    "End the conversation when there is nothing left to do.",
)
LATER = (
    "Do not mention the next request before the one before it is settled.",
    "Bring up one request at a time: the next only when the one before is dealt with.",
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """The parts of tau2's StructuredUserInstructions, and the persona."""

    reason_for_call: str
    known_info: str
    unknown_info: str | None
    task_instructions: str
    persona: str | None

    def text(self) -> str:
        """All of it."""
        parts = (self.reason_for_call, self.known_info, self.unknown_info, self.task_instructions, self.persona)
        return "\n".join(part for part in parts if part)


def tell(draft: Draft, rng: random.Random, personas: Sequence[str] = PERSONAS) -> Story:
    """The story of a draft."""
    facts = list(dict.fromkeys(draft.facts()))
    forgotten = _names(facts, Told.FORGOTTEN)
    asked = _names(facts, Told.ASKED)
    one_by_one = draft.one_by_one or (len(draft.wishes) > 1 and rng.random() < 0.25)

    between = "\n" if len(draft.wishes) > 1 else " "
    known = [_words(draft.identity.facts)]
    instructions: list[str] = []
    if one_by_one:
        instructions.append(rng.choice(LATER))
    if asked and rng.random() < 0.5:
        instructions.append(f"Do not tell {listed(asked, 'or')} until the agent asks.")
    elif asked:
        instructions.append(f"Tell {listed(asked)} only when you are asked.")
    for wish, title in zip(draft.wishes, _titles(draft.wishes), strict=True):
        known.append(_under(title, _words(wish.facts)))
        instructions.append(_under(title, " ".join(wish.instructions)))
    if any(call.requestor == "assistant" for call in draft.writes()):
        instructions.append(rng.choice(CONFIRM))
    instructions.append(rng.choice(END))
    return Story(
        reason_for_call=_reason(draft.wishes, one_by_one),
        known_info=between.join(filter(None, known)),
        unknown_info=f"You cannot recall {listed(forgotten, 'or')}." if forgotten else None,
        task_instructions=between.join(filter(None, instructions)),
        persona=rng.choice(personas) if rng.random() < 0.7 else None,
    )


def _names(facts: Sequence[Fact], told: Told) -> list[str]:
    return list(dict.fromkeys(fact.name for fact in facts if fact.told is told))


def _words(facts: Sequence[Fact]) -> str:
    return " ".join(fact.words for fact in facts if fact.told is not Told.FORGOTTEN)


def _titles(wishes: Sequence[Wish]) -> list[str]:
    """What tells apart what is said of several wishes; nothing where there is one."""
    if len(wishes) == 1:
        return [""]
    abouts = [wish.about for wish in wishes]
    ordinals = [f"your {number} request" for number in ("first", "second", "third", "fourth", "fifth", "sixth")]
    return [
        wish.about if wish.about and abouts.count(wish.about) == 1 else ordinal
        for wish, ordinal in zip(wishes, ordinals, strict=False)
    ]


def _under(title: str, text: str) -> str:
    return f"As for {title}: {text}" if title and text else text


def _reason(wishes: Sequence[Wish], one_by_one: bool) -> str:
    """The wishes as one text, in their order."""
    first, *others = (wish.reason for wish in wishes)
    told = [first]
    for reason in others:
        rest = reason.removeprefix("You want ")
        if rest == reason:
            told.append(reason)
        elif one_by_one:
            told.append(f"When that is settled, you want {rest}")
        else:
            told.append(f"You also want {rest}")
    return " ".join(told)


def listed(things: Sequence[str], word: str = "and") -> str:
    """'a', 'a and b', 'a, b and c'."""
    *most, last = things
    return f"{', '.join(most)} {word} {last}" if most else last


def remembered(rng: random.Random, fact: Fact, *, forget: float = 0.0, at_once: float = 0.4) -> Fact:
    """The fact, told at once, when asked, or forgotten, by chance.

    Args:
        forget: how likely it is forgotten. 0 unless the agent can find it by itself.
        at_once: how likely it is told at once if it is remembered.
    """
    if rng.random() < forget:
        told = Told.FORGOTTEN
    else:
        told = Told.AT_ONCE if rng.random() < at_once else Told.ASKED
    return Fact(fact.name, fact.words, told)
