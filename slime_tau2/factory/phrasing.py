"""Sentences composed from parts, so that none of them is said over and over.

A text may have choices in square brackets: "[Shall|May] I [go ahead|proceed]?" has four readings. A choice may stand
within another, and a name of `PARTS` in brackets stands for that part.
"""

from __future__ import annotations

import random
import re

INNERMOST = re.compile(r"\[([^\[\]]*)\]")
PARTS = {
    "sorry": "I'm sorry, but|Unfortunately,|I'm afraid|Sorry, but|I apologize, but|I'm sorry to say that|I regret that",
    "understand": "I understand, but|I see, but|I hear you, but|I understand how you feel, but|I know, but",
    "done": "Done:|That's done:|It's done:|All done:|That worked:|I've done that:",
    "may": "Could you|Can you|Would you|Could you please|Can you please|Would you please",
}
"""Parts that many sentences have."""


def compose(text: str, rng: random.Random) -> str:
    """One reading of a text. Brackets that hold neither a choice nor a part's name stay as they are."""

    def chosen(found: re.Match[str]) -> str:
        options = PARTS.get(found[1], found[1])
        return rng.choice(options.split("|")) if "|" in options else found[0]

    composed, before = text, ""
    while composed != before:
        before, composed = composed, INNERMOST.sub(chosen, composed)
    if composed == text:
        return text
    composed = re.sub(r" {2,}", " ", composed)
    composed = re.sub(r"(\b[Pp]lease\b[^.?!]*), please\b", r"\1", composed)
    composed = re.sub(r"(?<=, )(Could|Can|Would) you", lambda found: found[0].lower(), composed)
    return re.sub(r" (?=[,.;:!?](?:\s|$))", "", composed).strip(" ")


WELCOME = (
    "[I can|I'll|Let me|I'd be glad to|I'm happy to] [look into that|help you with that|take care of that|see to that] "
    "[for you|right away|now].",
    "[Sure|Of course|Certainly|Gladly|All right], [let me look into that|let's take a look|I can help with that"
    "|let's see what can be done|I'll look into it].",
    "[Thank you|Thanks] for [reaching out|getting in touch|contacting us|letting us know|your message].",
    "[Let me|I'll] [see what I can do|check that for you|have a look|find out] [about it|here|right away|now].",
)
"""What the agent says first to a request."""
HEAD = (
    "[Here is|This is] what I [would do|am about to do|would put through|am going to do]:",
    "[These are|Here are] the details[| of it|, as I have them|, so that you can check them]:",
    "Let me [list|go through|sum up|read out|repeat] [the details|everything|all of it][| once more| first]:",
    "[To make sure that|So that] everything is [right|correct|as you want it]:",
    "[Before I go on|Before I do anything|Before anything is done], [please check|here are|let me list] the details:",
)
"""What the agent says before a list of details."""
CONFIRM = (
    "[Shall|Should|May|Can] I [go ahead[| with this]|proceed[| with this]|go on|do this|put this through]? "
    "[Please answer yes to confirm.|Please confirm with yes.|A yes is enough.|Please say yes or no.]",
    "[Do you confirm|Can you confirm|Would you confirm|Do you agree to] [this|all of this|these details] "
    "[(yes or no)|(yes/no)]?",
    "Is [that|this|all of that|everything] [correct|right|as you want it], and [may|shall|can] I "
    "[proceed|go ahead|go on] (yes/no)?",
    "Please [reply|answer|say] yes if [I should go ahead|this is right|I may proceed|you agree|you want this].",
    "[Would you like me to|Do you want me to] [proceed|go ahead|put it through|do so]? Please "
    "[confirm with yes|answer yes or no|say yes to confirm].",
)
"""How the agent asks for a yes to a list of details."""
ANYTHING_ELSE = (
    "[Is there anything else|Is there something else] [I can help you with|I can do for you|you need|you'd like"
    "|I can assist you with][| today]?",
    "[Can|May|Could] I [help you with anything else|do anything else for you|assist you with anything else][| today]?",
    "[Anything else|Is there anything more|Is there more|Would there be anything else] that I can do for you[| today]?",
    "[Do you need anything else|Is there another thing you need|Do you have another request][| today| from me]?",
)
"""How the agent asks for more."""
BYE = "[Goodbye!|Bye!|Have a nice day!|Have a good day!|Have a great day!|Take care!|All the best!|Until next time!]"
GOODBYE = (
    f"[You're welcome.|You are very welcome.|My pleasure.|Glad I could help.|Happy to help.|Of course.] {BYE}",
    f"[Thank you|Thanks] for [contacting us|reaching out|getting in touch|your patience]. {BYE}",
)
GOODBYE_UNHELPED = (
    f"[Thank you|Thanks] for [contacting us|reaching out|getting in touch|your understanding|your patience]. {BYE}",
    f"[All right.|Very well.|I understand.|Of course.|OK.] {BYE}",
)
"""The agent's last words to a user whose wish was not granted."""
FIRM = (
    "[understand] I can't make an exception [here|for this|in this case].",
    "[sorry] there is no way for me to do this[| here].",
    "[I understand, and I'm sorry|I'm sorry, I do understand|I know that this isn't what you hoped for], but "
    "[the answer stays the same|it can't be done|I have to stay with that|nothing changes about that].",
    "I [understand|see] that this is [disappointing|not what you wanted|annoying]. [Still|All the same], "
    "[I can't do it|it isn't possible|I have no way to do it].",
)
"""What the agent says when the user insists."""
NOTED = (
    "[All right|Of course|Very well|I see|Understood|That's fine][.|, then nothing changes.|, I leave it at that.]",
    "[Thank you|Thanks|Thank you very much] for [understanding|your understanding|your patience|bearing with me].",
)
"""What the agent says when the user has taken no for an answer."""
