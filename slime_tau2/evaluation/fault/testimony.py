"""What words say: whether a text says a value, asks for it, leaves a question open, or only takes leave.

Pure: texts in, answers out. Where words can be read in two ways, the answer is the one that accuses nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from slime_tau2.record import CallRecord
from slime_tau2.verification.valueflow import ISO, SMALL, Known
from slime_tau2.verification.variations import TOKEN

SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
_ASKS = re.compile(
    r"\?|\b(please|could you|can you|may i (have|know|ask)|i('ll| will)? need|tell|give|provide|share|let me know"
    r"|(will|would) (do|help))\b",
    re.I,
)
_CLOSES = re.compile(
    r"(?<!before )any ?thing else|something else|any other|(any ?thing|is there) more\b|further|what else"
    r"|another (thing|request)|how (can|may|could) i (help|assist)|else (i|we|you)\b|more questions",
    re.I,
)
_IDLE = re.compile(
    r"please,? (hold|wait|note|be aware|feel free|don'?t hesitate|let (me|us) know|allow|bear with|stand by|stay|accept"
    r"|remember|keep in mind|understand|contact|reach out)",
    re.I,
)
_FAREWELL = re.compile(
    r"(\W|thanks?( you| a lot| again)?( so| very)?( much)?( for (your|the|all your) (help|time|assistance|support))?"
    r"|(good)?bye( now)?|great|perfect|wonderful|ok(ay)?|all ?right|cheers|you too"
    r"|have a (nice|good|great) (day|one))*",
    re.I | re.S,
)
_IDENTIFIER = frozenset({"id", "ids", "number", "numbers"})
_EMPTY = frozenset({"new", "old", "the", "method", "methods", "update", "get", "find", "by", "of", "details"})
_ALSO = {
    "dob": ("birth", "birthday", "birthdate"),
    "zip": ("zip", "postal", "postcode"),
    "email": ("email", "e-mail", "mail"),
    "reservation": ("reservation", "booking", "confirmation"),
    "amount": ("much", "many", "amount"),
}
"""What people call an argument."""


def spoken(text: str) -> str:
    """A user's words without the tokens by which a simulator ends the conversation."""
    return re.sub(r"#{3}[A-Z-]+#{3}", " ", text).strip()


def says(text: str, value: Any) -> bool:
    """Whether a text says a value whole: not within a longer word, number or code. Dates count as people write them."""
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, (int, float)):
        return Known(text).has(value)
    wanted = str(value).strip()
    if not wanted:
        return False
    if ISO.fullmatch(wanted):
        return Known(text).has(wanted)
    pattern = r"(?<![\w@#-])(?<!\w\.)" + re.escape(wanted) + r"(?![\w@-])(?!\.\w)"
    return re.search(pattern, text, re.I) is not None


_COUNTS = re.compile(
    r"\d|\b(none|one|two|three|four|five|six|seven|eight|nine|ten|half|couple|few|some|all|much|many|minimum|maximum)\b",
    re.I,
)


def counts(text: str) -> bool:
    """Whether a text has a number or a quantity in it, in digits or in words."""
    return _COUNTS.search(text) is not None


def codes(text: str) -> list[str]:
    """What in a text looks like a code, an address, a date or a number."""
    return [token for token in TOKEN.findall(text) if is_hard(token)]


def is_hard(value: Any) -> bool:
    """Whether nobody says a value by chance: a code, an address, a date, a number that is no small count."""
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, float)):
        return not (float(value).is_integer() and abs(value) <= SMALL)
    text = str(value)
    return len(text) >= 3 and ("@" in text or any(map(str.isdigit, text)))


def sentences(text: str) -> Iterator[str]:
    """The sentences and lines of a text."""
    return (part.strip() for part in SENTENCE.split(text) if part.strip())


def asks_for(text: str, argument: str, value: Any, tool: str = "") -> bool:
    """Whether an agent's text asks for the value of a tool's argument.

    Args:
        argument: the argument's name, such as `order_id`.
        value: the value, whose kind says in which words one asks for it.
        tool: the tool's name; a number is asked for by what the tool is about.
    """
    parts = argument.lower().rstrip("0123456789").split("_")
    labels = {word for part in parts if part not in _IDENTIFIER | _EMPTY for word in _ALSO.get(part, (part,))}
    return any(_asks(sentence.lower(), parts, labels, value, tool) for sentence in sentences(text))


def _asks(sentence: str, parts: list[str], labels: set[str], value: Any, tool: str) -> bool:
    if not _ASKS.search(sentence) or _CLOSES.search(sentence):
        return False
    if "email" not in labels:
        sentence = re.sub(r"e-?mail address", "mail", sentence)
    words = set(re.findall(r"[a-z-]+", sentence))
    if isinstance(value, (int, float)):
        about = labels | {part for part in tool.lower().split("_") if part not in _EMPTY}
        return re.search(r"\bhow (much|many)\b|\b(amount|number) of\b", sentence) is not None and bool(about & words)
    if not labels & words or ("birth" in words and "birth" not in labels):
        return False
    if not _IDENTIFIER & set(parts):
        return True
    any_label = "|".join(map(re.escape, sorted(labels)))
    return (
        re.search(rf"\b({any_label})('s)? (id|number|code)s?\b|\b(which|what) ({any_label})\b", sentence) is not None
        or re.search(rf"\b(id|number|code) (of|for) (the|your|this|that) ([\w-]+ )?({any_label})\b", sentence)
        is not None
    )


def answers_another(question: str, reply: str, argument: str) -> bool:
    """Whether a reply speaks of something else that a question offers, such as the one of two ways to identify oneself.

    Args:
        argument: the tool's argument that was asked for, too.
    """
    if not re.search(r"\b(or|else|instead|as well|also)\b", question, re.I):
        return False
    labels = {word for part in argument.lower().split("_") for word in _ALSO.get(part, (part,))}
    both = _long_words(question) & _long_words(reply)
    return bool(both) and not labels & set(re.findall(r"[a-z]+", reply.lower()))


def speaks_to(question: str, reply: str) -> bool:
    """Whether a reply is about what a question is about: they share a longer word."""
    return bool(_long_words(question) & _long_words(reply))


def _long_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", text.lower())) - _COMMON - {"know", "give", "tell", "need", "look", "sorry"}


def open_requests(text: str) -> list[str]:
    """The sentences of an agent's text that wait for the user: questions and requests, but for the closing ones."""
    return [
        sentence
        for sentence in sentences(text)
        if ("?" in sentence or re.search(r"\bplease\b", sentence, re.I))
        and not _CLOSES.search(sentence)
        and not _IDLE.search(sentence)
    ]


def closes(text: str) -> bool:
    """Whether an agent's text asks whether there is anything else."""
    return _CLOSES.search(text) is not None and not open_requests(text)


def only_takes_leave(text: str) -> bool:
    """Whether a user's words are nothing but thanks and a farewell, or none."""
    return _FAREWELL.fullmatch(spoken(text)) is not None


def mentions_person(text: str) -> bool:
    """Whether an agent's text speaks of handing over to a person."""
    return re.search(r"transfer|human|representative|specialist|person|colleague|agent", text, re.I) is not None


def speaks_of(text: str, tool: str) -> bool:
    """Whether a text has the first word of a tool's name that says what it does, or what people say for it."""
    verb, *about = tool.lower().split("_")
    words = set(re.findall(r"[a-z]+", text.lower()))
    named = {part for part in about if part not in _EMPTY | _WEAK and len(part) > 3}
    return bool({verb, *_ACTS.get(verb, ())} & words) or bool(
        named & words and verb in ("update", "modify", "send", "refuel", "resume", "enable", "disable", "book")
    )


def shares(text: str, story: str) -> bool:
    """Whether most of a text's longer words, and at least two, are in a story: it answers out of it."""
    words = set(re.findall(r"[a-z]{4,}", spoken(text).lower())) - _COMMON
    known = words & set(re.findall(r"[a-z]{4,}", story.lower()))
    return len(known) >= 2 and 2 * len(known) >= len(words)


_COMMON = frozenset("that this with have would like want please your what when will then they them from".split())


def touches(text: str, call: CallRecord) -> bool:
    """Whether an open request of a text names one of a call's arguments: the payment, the reason, the cabin."""
    names = {part for name in call["arguments"] for part in name.lower().split("_") if len(part) > 3} - _EMPTY
    return any(names & set(re.findall(r"[a-z]+", sentence.lower())) for sentence in open_requests(text))


def refuses(text: str) -> bool:
    """Whether a user's words have a no in them."""
    return re.search(r"\b(no|not|never ?mind|don'?t|cannot|can'?t|won'?t)\b", text, re.I) is not None


_ACTS = {
    "toggle": ("toggle", "turn", "switch", "enable", "disable", "activate", "deactivate"),
    "set": ("set", "change", "switch", "select"),
    "reset": ("reset", "restore"),
    "reboot": ("reboot", "restart", "power-cycle"),
    "reseat": ("reseat", "re-seat", "reinsert", "re-insert", "take", "remove"),
    "disconnect": ("disconnect", "turn", "switch"),
    "grant": ("grant", "allow", "give"),
    "pay": ("pay", "make"),
    "make": ("pay", "make"),
}
"""What people say for the first word of a user's tool that changes something."""
_WEAK = frozenset({"mode", "device", "settings", "status", "app", "card", "the"})


def asks_to_do(sentence: str, call: CallRecord) -> bool:
    """Whether a sentence of the agent's asks the user for an act of its own.

    Args:
        call: the act, whose tool's name and arguments say what it is about.
    """
    if not ("?" in sentence or re.search(r"\b(please|could you|can you|try)\b", sentence, re.I)):
        return False
    words = set(re.findall(r"[a-z]+", sentence.lower().replace("-", "")))
    verb, *about = call["name"].lower().split("_")
    values = [str(value).lower() for value in call["arguments"].values() if isinstance(value, str)]
    return (
        bool({act.replace("-", "") for act in _ACTS.get(verb, (verb,))} & words)
        and all(any(word.startswith(part[:6]) for word in words) for part in about if part not in _WEAK)
        and all(value in sentence.lower() for value in values)
    )
