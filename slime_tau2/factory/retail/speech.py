"""How the scripted retail agent serves each kind of wish."""

from __future__ import annotations

import re

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Fact, Told, Wish
from slime_tau2.factory.phrasing import WELCOME
from slime_tau2.factory.retail import speech_answers, speech_refusals, speech_writes
from slime_tau2.factory.retail.clerk import Clerk

EMAIL_FIRST = (
    "[To find your account|To verify who you are|So that I can find you], [could you|can you|please] [give|tell] me "
    "your email address[?|, please?]",
    "[First|Before that|To begin with], I [need|have] to [verify who you are|verify your identity|find your account]. "
    "What is [the email address of your account|your email address]?",
    "[may] tell me the email address of your account first?",
)
EITHER = (
    "[To find your account|To verify who you are|First of all], please tell me your email address, or your "
    "[full name|first and last name|name] and zip code.",
    "First, I need to verify who you are: could you give me your email address, or else your full name and zip code?",
    "May I have your email address first? Your full name and zip code would do as well.",
)
NAME_AND_ZIP = (
    "No problem. Your first and last name and your zip code will do as well.",
    "That's fine. Could you give me your full name and zip code instead?",
    "Then please tell me your first name, last name and zip code.",
)


class RetailExpert(Clerk):
    """Retail's scripted agent, and its user's side."""

    def identify(self) -> Script[bool]:
        name, *others = self.draft.identity.facts
        facts = {fact.name: fact for fact in others}
        self.note(self.pick(*WELCOME))
        calls = self.draft.identity.calls
        if not calls:
            yield from speech_refusals.unidentified(self, self.draft.wishes[0])
            return False
        email, zip_code = facts["your email address"], facts.get("your zip code")
        if zip_code is None:
            yield from self.ask([email], *EMAIL_FIRST, *EITHER)
        elif email.told is Told.FORGOTTEN and self.rng.random() < 0.5:
            yield from self.say(self.pick(*EITHER))
            yield from self.answer(f"{self.reply([email])} {self._name_and_zip(name, zip_code)}")
        else:
            yield from self.ask([email], *EMAIL_FIRST)
            if len(calls) > 1:
                yield from self.look(calls[0])
                yield from self.say(
                    self.pick(
                        "I can't find an account with that email address. Could you give me your full name and zip "
                        "code?",
                        "There is no account under that email address. Your first and last name and zip code would "
                        "help me find it.",
                    )
                )
            else:
                yield from self.say(self.pick(*NAME_AND_ZIP))
            yield from self.answer(self._name_and_zip(name, zip_code))
        yield from self.look(calls[-1])
        first = re.sub(r"You are (\S+) .*", r"\1", name.words)
        if self.known(name):
            self.note(
                self.pick(
                    f"[Thank you|Thanks|Thank you very much|Many thanks], {first}.",
                    f"[Great|Perfect|All right], {first}.",
                )
            )
        else:
            self.note(self.pick("[Thank you|Thanks|Thank you very much|Great|Perfect|All right]."))
        return True

    def _name_and_zip(self, name: Fact, zip_code: Fact) -> str:
        if self.known(name) and self.rng.random() < 0.4:
            return self.reply([zip_code])
        full = name.words.removeprefix("You are ").rstrip(".")
        code = zip_code.words.removeprefix("Your zip code is ").rstrip(".")
        self._told.update((name, zip_code))
        return self.voice.pick(
            f"{full}, {code}", f"I'm {full}, zip code {code}.", f"{full}, and my zip code is {code}."
        )

    def serve(self, wish: Wish) -> Script[None]:
        if wish.outcome == "transferred":
            if any(call.name == "get_order_details" for call in wish.calls):
                yield from self.locate(wish, quiet=True)
            yield from self.look_all(call for call in wish.calls if not call.free)
            yield from self.transfer(wish.calls[-1], wish)
        elif wish.outcome == "refused":
            yield from speech_refusals.REFUSED[wish.family](self, wish)
        elif wish.writes():
            yield from speech_writes.DONE[wish.family](self, wish)
        else:
            yield from speech_answers.answer(self, wish)

    def asides(self, wish: Wish) -> list[str]:
        asides: list[str] = []
        for line in wish.instructions:
            if re.match(r"You want to know how much (money )?you get back( in total)?\.", line):
                asides.append(self.voice.pick("How much do I get back?", "And how much money will I get back?"))
            elif line.startswith("You want to know how much you get back for all of them"):
                asides.append(self.voice.pick("How much do I get back for all of them together?", "What's the refund?"))
            elif line.startswith("Before you agree, you want to know the exact price difference"):
                asides.append(
                    self.voice.pick("What is the exact price difference?", "I'd like to know the price difference.")
                )
            elif found := re.match(r"Ask what the (.+) that you want would cost\.", line):
                asides.append(self.voice.pick(f"What would the new {found[1]} cost?", f"How much is that {found[1]}?"))
        return asides
