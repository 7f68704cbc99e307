"""How the scripted user speaks: the story's second person turned into the first, in a persona's manner."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from slime_tau2.factory.phrasing import compose
from slime_tau2.factory.stories import listed

BRIEF = ("brief", "hurry", "impatient", "reserved", "long day", "short")
"""What a persona's words have that says little."""
TO_WHOM = "for|with|from|by|find|tell|give|gives|help|reach|told|cost|costs|owe|bring|brings|send|sends|let|refund"
"""The words after which 'you' is no subject."""
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
    (
        rf"\b({TO_WHOM}) you\b",
        r"\1 me",
    ),
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
    (
        rf"\b({TO_WHOM}) you\b",
        r"\1 them",
    ),
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
        if self.brief and len(options) > 3:
            options = tuple(sorted(options, key=len)[: len(options) // 2])
        return compose(self.rng.choice(options), self.rng)

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
            return self.pick(
                value[1],
                f"[It's|That's|It is] {value[1]}.",
                first_person(words),
                f"[Sure|Of course|Yes], it's {value[1]}.",
            )
        want = re.match(r"You want (.+)\.$", words)
        if want:
            rest = first_person(want[1])
            return self.pick(f"I want {rest}.", f"I'd like {rest}.", f"I'd like {rest}, please.")
        return first_person(words)

    def forgotten(self, names: Sequence[str]) -> str:
        """That the user does not remember something."""
        what = first_person(listed(names, "or"))
        return self.pick(
            f"[|Sorry, |I'm afraid ]I don't [remember|know|recall] {what}.",
            f"[|Sorry, |I'm afraid ]I [don't have {what} at hand|don't have {what} with me|can't recall {what}].",
            f"I [forgot|have forgotten|couldn't tell you] {what}.",
        )

    def hello(self) -> str:
        """The first word, if any."""
        return self.pick("Hi,", "Hello,", "Hi there,", "Hello!", "Hi!", "Good [morning|afternoon|day],", "", "Hey,")

    def more(self) -> str:
        """That there is something else."""
        return self.pick(
            "[Yes|Yeah|Actually, yes],",
            "[Yes|Yeah|Actually, yes|There is], [one more thing|something else]:",
            "[Yes, there is|There is|Yes, please].",
            "Yes.",
        )

    def bye(self) -> str:
        """The user's last word, if any."""
        return self.pick(
            "[Bye|Goodbye|Bye-bye|See you|Thanks, bye][!|.]", "[You too|Likewise|Same to you|And you][.|!]", ""
        )

    def yes(self) -> str:
        """The answer to a list of details that is right."""
        if self.cheerful:
            return self.pick(
                "[Yes, that's|That's right, yes, it's] [perfect|great|wonderful|exactly right][!|, thanks!]",
                "[Yes|Yes, please|Oh yes], [please go ahead|go ahead|do that|that would be great][!|, thanks!]",
            )
        if self.brief:
            return self.pick(
                "[Yes|Yep, yes|OK, yes|Sure, yes|Yes, please|Right, yes][.|]",
                "Yes, [go ahead|do it|proceed|that's right|correct|please do|confirmed|fine|all right|I agree][.|]",
            )
        return self.pick(
            "Yes, [please |]go ahead[| with that| with it].",
            "[That's|Everything is|All of that is] [correct|right][, yes|: yes|, so yes].",
            "Yes, [I confirm|I agree|that's right|that's correct|that's what I want|that's all correct"
            "|all of it is right].",
            "Yes, [please|please do|please do that|please proceed|you may|you can go ahead].",
            "[Yes|OK, yes|All right, yes|Sure, yes][|, please|, thank you].",
        )

    def whole(self) -> str:
        """The yes to a list of details, and that nothing is missing in it."""
        if self.brief:
            return self.pick(
                "Yes, [that's all|that's everything|nothing else|all there|it's complete|those are all]"
                "[.|, go ahead.|, please.|]"
            )
        return self.pick(
            "Yes, [that's everything|that's all|that's all of it|that's the complete list|nothing is missing"
            "|all of it is there|I have nothing to add]. [|Please |You can |You may ]go ahead.",
            "Yes, [that's everything|that's all|nothing is missing|it's complete|the list is complete"
            "|I don't want anything else changed][.|, thanks.|, thank you.]",
        )

    def permits(self) -> str:
        """The answer to a question whether the agent may."""
        return self.pick(
            "Yes[|, please|, go ahead|, please do|, do that|, that's fine|, you may|, send it][.|]",
            "[OK|Sure|All right|Fine], [yes|yes, please|yes, do that|yes, go ahead|please do, yes].",
        )

    def thanks(self) -> str:
        """That it is all."""
        if self.cheerful:
            return self.pick(
                "[No, that's everything|That's all|No, that was all|Nothing else]. [Thank you so much|Thanks a lot]"
                "[!| for your help!| for all your help!]",
            )
        if self.brief:
            return self.pick(
                "No[|, thanks|, thank you|, that's all|, that's it|, nothing else|, I'm good|, all done][.|]",
                "[That's all|That's it|Nope, that's it|Nothing else|All good|We're done][.|, thanks.|, bye.]",
            )
        return self.pick(
            "No, [that's all|that was all|nothing else|that's everything|I'm all set]. [Thanks|Thank you]"
            "[.| for your help.| very much.]",
            "[That's everything|That's all I needed|That was all|That's it for today|I have nothing else]"
            "[, thank you.|, thanks.|. Thank you for your help.|. Thanks for your time.]",
            "[No|Nope], [thank you|thanks][.|, that's it.|, I'm fine.|. That's all.]",
        )

    def accepts(self) -> str:
        """That the user takes no for an answer."""
        if self.brief:
            return self.pick(
                "[OK|Fine|All right|I see|Too bad], [I understand|leave it|then leave it|never mind|forget it].",
            )
        return self.pick(
            "[I see|All right|OK|Well|Hmm, OK], [then I'll leave it as it is|then leave it|then everything stays as it "
            "is|I understand|I'll live with that].",
            "[That's a pity|Too bad|What a shame|That's disappointing]. [OK, then everything stays as it is|Fine, "
            "leave it as it is, then|All right, then not|But I understand].",
        )

    def insists(self) -> str:
        """That the user asks once more."""
        return self.pick(
            "[Are you sure|Really|Is that final|Seriously]? [Can't you make an exception|There must be some way to do "
            "this|Is there really no way]?",
            "[Can't you|Couldn't you|Could you not] [do it just this once|make an exception|find a way][|, please]?",
            "[That's disappointing|I had hoped for more|That's not what I hoped for]. Is there [nothing you can do|no "
            "exception|no other way]?",
        ).replace("to do this?", "to do this.")
