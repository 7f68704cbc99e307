"""How the scripted telecom agent finds a customer and serves each kind of wish."""

from __future__ import annotations

from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Told, Wish
from slime_tau2.factory.phrasing import WELCOME
from slime_tau2.factory.telecom import speech_bills
from slime_tau2.factory.telecom.clerk import Clerk
from slime_tau2.factory.telecom.speech_repairs import repair

SORRY_FOR_IT = (
    "[I'm sorry to hear that|I'm sorry about that|Sorry to hear that]. [Let's take a look|I'll look into it|Let's see]."
)
REPAIRS = ("service", "no_data", "slow_data", "mms", "locked", "ended", "exhausted")


class TelecomExpert(Clerk):
    """Telecom's scripted agent, and its user's side."""

    def identify(self) -> Script[bool]:
        facts = {fact.name: fact for fact in self.draft.identity.facts}
        calls = self.draft.identity.calls
        self.note(self.pick(*WELCOME, *([SORRY_FOR_IT] if self._trouble() else ())))
        if not calls:
            yield from self._unidentified()
            return False
        number = facts.get("your phone number")
        by = number or facts.get("your customer id") or facts["your date of birth"]
        forgotten = [fact for fact in facts.values() if fact.told is Told.FORGOTTEN]
        if not self.known(by):
            yield from self.say(self.pick(*(NUMBER if number else EITHER)))
            extra = "" if number or self.rng.random() < 0.4 else f"{self.reply(forgotten)} "
            name = facts["your name"]
            named = "" if self.known(name) or by.name != "your date of birth" else f"{self.reply([name])} "
            reply = self.reply([by])
            if extra or named:
                reply = reply.replace("Sure, it's", "It's")
            yield from self.answer(f"{extra}{named}{reply}")
        elif by.name == "your date of birth" and not self.known(facts["your name"]):
            yield from self.ask([facts["your name"]], "And what is your full name?")
        elif not self._quiet():
            self._notes.clear()
        yield from self.look(calls[0])
        first = self.customer.full_name.split()[0]
        self.note(
            self.pick(f"[Thank you|Thanks|Great|All right|Perfect], {first}.", "[Thank you|Thanks|Great|Perfect].")
        )
        which = facts.get("which of your phones it is")
        if which:
            yield from self.ask(
                [which],
                "You have several lines. Which of your phones is it about?",
                "There is more than one line on your account. Which phone is it?",
            )
        yield from self.look_all(calls[1:])
        lines = [call.arguments["id"] for call in calls[1:] if call.arguments["id"].startswith("L")]
        self.line = self.rows[lines[-1]]
        return True

    def _trouble(self) -> bool:
        """Whether the first wish is about something that does not work."""
        return self.draft.wishes[0].family in REPAIRS

    def _quiet(self) -> bool:
        return self.rng.random() < 0.5

    def _unidentified(self) -> Script[None]:
        yield from self.say(self.pick(*EITHER))
        name = next(fact for fact in self.draft.identity.facts if fact.name == "your name")
        forgotten = [fact for fact in self.draft.identity.facts if fact.told is Told.FORGOTTEN]
        known = "" if self.known(name) else f" {self.reply([name])}"
        yield from self.answer(f"{self.reply(forgotten)}{known}")
        yield from self.say(
            self.pick(
                "To find you by your name, I need your date of birth too.",
                "With your name I also need your date of birth, to verify who you are.",
            )
        )
        yield from self.answer(
            self.voice.pick(
                "I don't tell anybody my date of birth.", "No, I won't give you that. My name has to be enough."
            )
        )
        yield from self.say(
            self.pick(
                "[sorry] without your phone number, your customer id, or your name and date of birth, I can't find "
                "your account and can't help you with it.",
                "[understand] a name alone isn't enough. I would need one of these to help you.",
            )
        )
        yield from self.answer(self.voice.pick("Then I'll call again.", "Then leave it.", "OK, then not."))
        self.note(self.pick("That's fine.", "Thank you for your understanding."))

    def serve(self, wish: Wish) -> Script[None]:
        if wish.family in REPAIRS:
            yield from repair(self, wish)
        elif wish.family in speech_bills.SERVED:
            yield from speech_bills.SERVED[wish.family](self, wish)
        elif wish.family == "plan_change":
            yield from self._plan_change(wish)
        elif wish.outcome == "transferred":
            yield from self.transfer(wish.calls[-1], wish)
        else:
            self.note((yield from speech_bills.ANSWERS[wish.family](self, wish)))
            self.helped = True

    def _plan_change(self, wish: Wish) -> Script[None]:
        yield from self.ask(
            wish.facts, "Do you know the id of that plan?", "[may] tell me the id of the plan that you would like?"
        )
        yield from self.look_all(call for call in wish.calls if not call.free)
        yield from self.transfer(wish.calls[-1], wish)


NUMBER = (
    "[To find your account|So that I can find you|First of all], [may] [give|tell] me the phone number of the line?",
    "What is the phone number [that this is about|of the line|of the phone in question]?",
    "[May|Can|Could] I have [your phone number|the phone number of the line], please?",
)
EITHER = (
    "[To find your account|To verify who you are], I need your phone number, your customer id, or "
    "your full name and date of birth.",
    "[may] give me your phone number or your customer id? Your full name and date of birth would do as well.",
    "First, please tell me your phone number, your customer id, or your name and date of birth.",
)
