"""How the scripted airline agent serves each kind of wish."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

from slime_tau2.episode.world import World
from slime_tau2.factory.airline import (
    speech_answers,
    speech_booking,
    speech_cancelling,
    speech_changes,
    speech_refusals,
)
from slime_tau2.factory.airline.clerk import Clerk
from slime_tau2.factory.dialogue import Script
from slime_tau2.factory.draft import Draft, Told, Wish
from slime_tau2.factory.phrasing import WELCOME


class AirlineExpert(Clerk):
    """Airline's scripted agent, and its user's side."""

    def __init__(self, world: World, draft: Draft, *, persona: str | None, rng: random.Random):
        super().__init__(world, draft, persona=persona, rng=rng)
        for wish in draft.wishes:
            for call in wish.writes():
                if call.name == "book_reservation":
                    speech_booking.first_thoughts(self, wish, call.arguments)

    def identify(self) -> Script[bool]:
        name = self.draft.identity.facts[0]
        user_id = next(fact for fact in self.draft.identity.facts if fact.name == "your user id")
        self.note(self.pick(*WELCOME))
        if user_id.told is Told.FORGOTTEN:
            yield from speech_refusals.unidentified(self, self.draft.wishes[0])
            return False
        yield from self.ask(
            [user_id],
            "[May|Could|Can] I have your user id, please?",
            "[To find your profile|To get started|So that I can help you], I need your user id[.|, please.]",
            "[may] give me your user id first?",
            "[First|To begin with|Before anything else], please [tell|give] me your user id.",
            "What is your user id[?|, please?]",
        )
        yield from self.look_all(self.draft.identity.calls)
        if self._notes:  # the user id was told at once
            self._notes.clear()
            self.note(self.pick(f"Thank you, {self.profile.name.first_name}.", *WELCOME))
        else:
            first = re.sub(r"You are (\S+) .*", r"\1", name.words)
            self.note(
                self.pick(f"[Thank you|Thanks|Great|All right|Perfect], {first}.", "[Thank you|Thanks|Great|Perfect].")
            )
        return True

    def serve(self, wish: Wish) -> Script[None]:
        if wish.outcome == "transferred":
            if any(call.name == "get_reservation_details" for call in wish.calls):
                yield from self.locate(wish)
            if any(fact.name.startswith("the reason for cancelling") for fact in wish.facts):
                yield from self.check_flown(self.reservations[next(iter(wish.entities))])
            yield from self.transfer(wish.calls[-1], wish)
        elif wish.outcome == "refused":
            yield from speech_refusals.REFUSED[wish.family](self, wish)
        elif wish.writes():
            yield from DONE[wish.family](self, wish)
        else:
            yield from speech_answers.answer(self, wish)

    def asides(self, wish: Wish) -> list[str]:
        asides: list[str] = []
        for line in wish.instructions:
            if re.match(r"Before you agree, you want to know the total price", line):
                asides.append(self.voice.pick("What will it cost in total?", "I'd like to know the total price."))
            elif re.match(r"Before you agree.* you want to hear how much", line):
                if "get back" in line:
                    asides.append(self.voice.pick("How much would I get back?", "What would I get back?"))
                else:
                    asides.append(self.voice.pick("How much would that cost?", "What does it cost?"))
            elif re.match(r"You want to hear from the agent how many dollars you get back", line):
                asides.append(self.voice.pick("How much do I get back?", "What will the refund be?"))
            elif line.startswith("You believe that all your bags are free"):
                asides.append(self.voice.pick("I think all my bags are free.", "They should be free, I believe."))
        return asides

    def insistence(self, wish: Wish) -> str:
        for line in wish.instructions:
            if "have been a customer for years" in line:
                return self.voice.pick("But I've been a customer for years!", "I've been flying with you for years.")
            if "somebody on the phone told you" in line:
                return self.voice.pick(
                    "Somebody on the phone told me that it would be possible.", "On the phone I was told it's possible."
                )
        return self.voice.insists()


DONE: Mapping[str, Callable[[Clerk, Wish], Script[None]]] = {
    "book": speech_booking.book,
    "book_budget": speech_booking.book,
    "book_one_certificate": speech_booking.book,
    "change_flights": speech_changes.flights,
    "change_cabin": speech_changes.cabin,
    "cabin_then_flights": speech_changes.cabin_then_flights,
    "cancel_else_flights": speech_cancelling.cancel_else_flights,
    "change_passengers": speech_changes.passengers,
    "passengers_too": speech_changes.passengers,
    "add_bags": speech_changes.add_bags,
    "bags_too": speech_changes.add_bags,
    "cancel": speech_cancelling.cancel,
    "cancel_recent": speech_cancelling.cancel,
    "cancel_airline_cancelled": speech_cancelling.cancel,
    "cancel_business": speech_cancelling.cancel,
    "cancel_insured": speech_cancelling.cancel,
    "cancel_every": speech_cancelling.cancel_every,
    "compensate_cancelled": speech_cancelling.compensate_cancelled,
    "compensate_delayed_cancelled": speech_cancelling.delayed_cancelled,
    "compensate_delayed_changed": speech_cancelling.delayed_changed,
}
