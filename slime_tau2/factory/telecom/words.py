"""How telecom's users are, and what all of them are told about their phone."""

from __future__ import annotations

import random
from collections.abc import Sequence

PERSONAS = (
    "Somebody in the family set up your phone. You know the words call, text and picture, and little more. You ask "
    "what a word means before you do anything.",
    "You drive a delivery van and write between two stops: short sentences, no greetings.",
    "You repair computers for a living. You like to know why, and a good reason makes you patient.",
    "You are a nurse after a night shift: tired, polite, and glad of one step at a time.",
    "You are quick with your phone and find it odd to be told where the settings are, but you go along.",
    "You run a small bakery and customers keep interrupting you. You sometimes ask to have a step repeated.",
    "You teach history. You answer in whole sentences and thank the agent for each step.",
    "You are wary of phone companies and ask what something costs before you agree to it.",
    "You have had a bad day and say so once. After that you are reasonable.",
    "English is not your first language. You write simply and ask when a sentence is long.",
    "You are an accountant: you like figures exact and report what you see word for word.",
    "You are cheerful and talk about the weather if there is a moment, but you do what you are asked.",
    "You are on a train and the ride is bumpy; you make small typing mistakes.",
    "You have arthritis in your hands and prefer few, clear steps.",
    "You have tried turning things off and on at random, and do not remember what.",
)
GROUNDING = (
    "Your phone is in your hand. When the agent asks about it, look with the phone's own tools and report what they "
    "show; never guess. Change a setting only when the agent asks you to.",
    "You can look at your phone and change its settings with your tools. Say about the phone only what a tool has just "
    "shown you, and do not try out fixes that the agent has not asked for.",
    "Whatever the agent wants to know about your phone, check it with a tool first and pass on the result as it is. "
    "Leave the phone as it is until you are told what to change.",
    "Do on your phone what the agent asks, one thing after the other, with your tools, and tell what came of it. You "
    "do not know the state of a setting before a tool has shown it to you.",
)
AGAIN = (
    "If a result does not show whether something changed, check again.",
    "After a change, look once more if the agent wants to know whether it helped.",
    "",
    "",
)
PATIENCE = (
    "If a step does not help, you say that it did not, and go on with the next one.",
    "You become a little impatient when the second step does not help either, but you carry on.",
    "You keep on following the agent's steps, however many there are.",
    "",
)
BACKGROUNDS = (
    *(
        "You are going through your papers.",
        "You meant to call about it last week.",
        "You have a few minutes before work.",
    ),
    *(
        "You are sorting out your budget.",
        "Your next holiday is near.",
        "You have just come home.",
        "It is a small thing.",
    ),
    *(
        "You have been putting it off.",
        "You would like to have it off your list today.",
        "You are on your lunch break.",
    ),
    *("You do not call often.", "You have been a customer for some years.", "", "", ""),
)
"""What has nothing to do with a request."""
LEFT_ALONE = (
    "You leave the settings of your phone as they are.",
    "There is nothing to be changed on your phone, and you change nothing on it.",
    "Your phone works as it should: you do not touch its settings.",
)
ANY_REQUEST = (
    "Should a payment request reach you, you check it and pay it.",
    "If you get a payment request in the meantime, you pay it.",
    "You pay every payment request that you find.",
)
COUNTRIES = (
    *("Portugal", "Italy", "Japan", "Kenya", "Norway", "Peru", "Greece", "Vietnam", "Morocco", "Ireland"),
    *("Chile", "Austria", "Thailand", "Iceland", "Poland", "Mexico"),
)
HANDED_OVER = (
    "If the agent hands you over to a person, that is fine with you.",
    "You would rather have it solved right away, but you agree to talk to somebody else if need be.",
    "If the agent can do no more, you accept being passed on.",
)
ACCEPTED = (
    "If the agent declines, ask once whether there is no exception, then leave it at that.",
    "If you are told that this cannot be done, you are disappointed, but you accept it.",
    "If it cannot be done as you want it, nothing is to be changed.",
)


def with_phone(rng: random.Random) -> list[str]:
    """What a user who has to work on the phone is told."""
    return [rng.choice(GROUNDING), *(line for line in (rng.choice(AGAIN), rng.choice(PATIENCE)) if line)]


def gigabytes(gb: float) -> str:
    """As in "1.5 GB"; 2 is "2.0 GB", as the tools have it."""
    return f"{float(gb)} GB"


def money(amount: float) -> str:
    """Dollars and cents as text."""
    return f"{amount:.2f}"


def some(rng: random.Random, words: Sequence[str]) -> str:
    return rng.choice(words)


def told(rng: random.Random, reasons: Sequence[str]) -> str:
    """What the user wants, in one of several ways, with something around it."""
    return f"{rng.choice(reasons)} {rng.choice(BACKGROUNDS)}".rstrip()
