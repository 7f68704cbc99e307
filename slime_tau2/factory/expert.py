"""A scripted expert and a scripted user who play a draft from its first word to its last.

The acts are here: open, ask, look up, list and have confirmed, do, refuse, hand over, close. A domain's expert
(`factory/<domain>/speech.py`) puts them in order for its wishes and brings the words. It speaks of nothing but what the
user has said and the tools have returned.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from slime_tau2 import bench
from slime_tau2.episode.world import World
from slime_tau2.factory.dialogue import Answer, Result, Say, Script, use
from slime_tau2.factory.draft import Call, Draft, Fact, Told, Wish
from slime_tau2.factory.phrasing import (
    ANYTHING_ELSE,
    CONFIRM,
    FIRM,
    GOODBYE,
    GOODBYE_UNHELPED,
    HEAD,
    NOTED,
    compose,
)
from slime_tau2.factory.voice import Voice, first_person, third_person

TRANSFERRED = "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."
INSISTS = re.compile(r"\b(insist|ask once more|say so once|would be possible)")
THANKS = re.compile(r"(Thank you|Thanks)\b[^.!]*?(?P<rest>, I .*)?[.!](?= |$)", re.DOTALL)


class Expert:
    """One conversation's expert, and its user's side with it.

    Attributes:
        pick: chooses one of several phrasings of the agent.
        voice: how the user speaks.
        over: nothing more can be said: the user has been handed over.
        helped: something was done or answered.
    """

    def __init__(self, world: World, draft: Draft, *, persona: str | None, rng: random.Random):
        self.world, self.draft, self.rng = world, draft, rng
        self.voice = Voice(rng, persona)
        self.over = False
        self.helped = False
        self.results: dict[str, Result] = {}
        self._told: set[Fact] = set()
        self._notes: list[str] = []
        self._asides: list[str] = []
        self._mentioned: list[Wish] = []

    # What a domain brings

    def identify(self) -> Script[bool]:
        """Find out who the user is; False where that cannot be."""
        raise NotImplementedError

    def serve(self, wish: Wish) -> Script[None]:
        """Deal with one wish. What is left to be said of it may be a `note`."""
        raise NotImplementedError

    def heard(self, call: Call, result: Result) -> None:
        """Remember what a call has returned."""

    def asides(self, wish: Wish) -> list[str]:
        """What the user asks beside the wish when bringing it up."""
        return []

    # The conversation

    def script(self) -> Script[None]:
        """The whole conversation."""
        wishes = self.draft.wishes
        one_by_one = self.draft.one_by_one or self.rng.random() < 0.35
        yield from self._open([w for n, w in enumerate(wishes) if not n or not (one_by_one or w.after)])
        if (yield from self.identify()):
            for number, wish in enumerate(wishes):
                if number:
                    yield from self._turn_to(wish)
                elif len(self._mentioned) > 1 and wish.about and self.rng.random() < 0.6:
                    self.note(
                        self.pick(
                            f"[Let's|We can|I'd] start with {wish.about}.",
                            f"[First|First of all|To begin with], {wish.about}.",
                        )
                    )
                yield from self.serve(wish)
                if self.over:
                    return
        yield from self._close()

    def _open(self, wishes: Sequence[Wish]) -> Script[None]:
        hello = self.voice.hello()
        identity = [fact for fact in self.draft.identity.facts if fact.told is Told.AT_ONCE]
        said = [fact for fact in identity if self.rng.random() < 0.45]
        text = [self._tell(fact) for fact in said]
        text += [self._wished(wish, also=number > 0) for number, wish in enumerate(wishes)]
        if hello.endswith(",") and not text[0].startswith("I"):
            text[0] = text[0][:1].lower() + text[0][1:]
        yield from self.answer(" ".join(filter(None, [hello, *text])))

    def _wished(self, wish: Wish, *, also: bool = False) -> str:
        """A wish with what the user tells at once."""
        self._mentioned.append(wish)
        reason = wish.reason
        if also and reason.startswith("You want "):
            reason = "You also want " + reason.removeprefix("You want ")
        facts = [
            self._tell(fact)
            for fact in wish.facts
            if fact.told is Told.AT_ONCE and not self.known(fact) and not self._ambiguous(fact)
        ]
        return " ".join([self.voice.wish(reason), *facts, *self.asides(wish)])

    def _ambiguous(self, fact: Fact) -> bool:
        """Whether another wish has something else under the same name: then it is told when that is asked for."""
        others = (other for wish in self.draft.wishes for other in wish.facts)
        return any(other.name == fact.name and other.words != fact.words for other in others)

    def _tell(self, fact: Fact) -> str:
        self._told.add(fact)
        return self.statement(fact)

    def statement(self, fact: Fact) -> str:
        """How the user says a fact unasked, or among others."""
        return first_person(fact.words)

    def fact_words(self, fact: Fact) -> str:
        """How the user says a fact when asked for it alone."""
        return self.voice.fact(fact.words)

    def _turn_to(self, wish: Wish) -> Script[None]:
        if wish in self._mentioned:
            if wish.about and [other.about for other in self.draft.wishes].count(wish.about) == 1:
                about = wish.about
                self.note(
                    self.pick(
                        f"[Now|On|And now] to {about}.",
                        f"[Next|Now], {about}.",
                        f"Let's [go on with|turn to|continue with] {about}.",
                    )
                )
            else:
                other = "other" if len(self.draft.wishes) == 2 else "next"
                self.note(
                    self.pick(f"[Now|On] to your {other} request.", f"Let's [turn to|go on with] your {other} request.")
                )
            return
        yield from self.say(self.pick(*ANYTHING_ELSE))
        yield from self.answer(f"{self.voice.more()} {self._wished(wish, also=self.rng.random() < 0.5)}")

    def _close(self) -> Script[None]:
        yield from self.say(self.pick(*ANYTHING_ELSE))
        if self.rng.random() < 0.5:
            yield from self.answer(f"{self.voice.thanks()} {bench.STOP}")
            return
        yield from self.answer(self.voice.thanks())
        yield from self.say(self.pick(*(GOODBYE if self.helped else GOODBYE_UNHELPED)))
        yield from self.answer(f"{self.voice.bye()} {bench.STOP}")

    # Acts

    def pick(self, *options: str) -> str:
        """One of several phrasings."""
        return self.rng.choice(options)

    def note(self, text: str) -> None:
        """Something to be said first when the agent speaks next."""
        if text:
            self._notes.append(text)

    def say(self, *paragraphs: str) -> Script[None]:
        """The agent speaks: its notes, then the paragraphs. Those that are lists have lines of their own."""
        text = ""
        for part in (compose(part, self.rng) for part in (*self._notes, *paragraphs)):
            if "Thank" in text:
                part = unthanked(part)
            if not part:
                continue
            listed = part.startswith("- ") or text.rsplit("\n", 1)[-1].startswith("- ")
            text += f"\n{part}" if text and listed else f" {part}" if text else part
        self._notes.clear()
        yield Say(text)

    def answer(self, text: str) -> Script[None]:
        """The user speaks."""
        yield Answer(self.voice.line(text))

    def look(self, call: Call) -> Script[Result]:
        """Look something up, unless it is known."""
        key = call.canonical()
        if key not in self.results:
            self.results[key] = yield from use(call)
            self.heard(call, self.results[key])
        return self.results[key]

    def look_all(self, calls: Iterable[Call]) -> Script[None]:
        """Look several things up, one after the other."""
        for call in calls:
            yield from self.look(call)

    def known(self, fact: Fact) -> bool:
        """Whether the user has told a fact, or that it is forgotten; the same words for another wish do as well."""
        return any(fact.name == told.name and fact.words == told.words for told in self._told)

    def ask(self, facts: Sequence[Fact], *questions: str) -> Script[None]:
        """Ask for facts, unless they are told."""
        missing = [fact for fact in facts if not self.known(fact)]
        if not missing:
            return
        yield from self.say(self.pick(*questions))
        yield from self.answer(self.reply(missing))

    def reply(self, facts: Sequence[Fact]) -> str:
        """What the user answers when asked for facts: what it knows, and what it has forgotten."""
        known = [fact for fact in facts if fact.told is not Told.FORGOTTEN]
        forgotten = [fact.name for fact in facts if fact.told is Told.FORGOTTEN]
        self._told.update(facts)
        parts = [self.voice.forgotten(forgotten)] if forgotten else []
        if len(known) == 1:
            parts.append(self.fact_words(known[0]))
        else:
            parts += [self.statement(fact) for fact in known]
        return " ".join(parts)

    def propose(
        self, lines: Sequence[str], *, head: Sequence[str] = HEAD, tail: str = "", confirm: Sequence[str] = CONFIRM
    ) -> Script[None]:
        """List the details of writes and ask for a yes, which the user has not said yet."""
        listing = "\n".join(f"- {line}" for line in lines)
        yield from self.say(self.pick(*head), listing, " ".join(filter(None, [tail, self.pick(*confirm)])))

    def agree(self) -> Script[None]:
        """The user says yes."""
        yield from self.answer(self.voice.yes())

    def do(self, calls: Iterable[Call]) -> Script[None]:
        """Make writes."""
        for call in calls:
            result = yield from use(call)
            self.helped = True
            self.heard(call, result)

    def carry_out(
        self, lines: Sequence[str], calls: Iterable[Call], *, head: Sequence[str] = HEAD, tail: str = ""
    ) -> Script[None]:
        """List the details of writes, wait for the yes, and make them."""
        yield from self.propose(lines, head=head, tail=tail)
        yield from self.agree()
        yield from self.do(calls)

    def refuse(
        self, wish: Wish, *phrasings: str, firm: Sequence[str] = (), accepts: Sequence[str] = ()
    ) -> Script[None]:
        """Say why something cannot be, and stay with it.

        Args:
            firm: what the agent says when the user insists.
            accepts: what the user says in the end, if not anything that fits.
        """
        yield from self.say(self.pick(*phrasings))
        if any(INSISTS.search(line) for line in wish.instructions):
            yield from self.answer(self.insistence(wish))
            yield from self.say(self.pick(*firm, *FIRM))
        yield from self.answer(self.voice.pick(*accepts) if accepts else self.voice.accepts())
        self.note(self.pick(*NOTED))

    def insistence(self, wish: Wish) -> str:
        """How the user insists."""
        return self.voice.insists()

    def transfer(self, call: Call, wish: Wish) -> Script[None]:
        """Hand the user over to a person: the call with what the user wants, then the policy's words."""
        wanted, found = third_person(wish.reason), str(call.arguments["summary"])
        if not wanted.startswith("The user"):
            wanted = f"The user reports: {first_person(wish.reason)}"
        summary = wanted if found.startswith("The user ") else f"{wanted} {found}"
        yield from use(replace(call, arguments={**call.arguments, "summary": summary}))
        self._notes.clear()
        yield from self.say(TRANSFERRED)
        yield from self.answer(bench.TRANSFER)
        self.over = True


def unthanked(text: str) -> str:
    """What is left of a text without the thanks at its beginning: "Thank you, I have it." -> "I have it."."""
    found = THANKS.match(text)
    if found is None:
        return text
    rest = (found["rest"] or "").removeprefix(", ")
    return f"{rest}.{text[found.end() :]}".strip() if rest else text[found.end() :].strip()
